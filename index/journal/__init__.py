"""What each commit leaves of itself in storage, so that a lost index can be made anew."""

__all__ = ()
