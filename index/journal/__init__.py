"""Journal records: what each commit leaves in storage, so that a lost index can be rebuilt."""

__all__ = ()
