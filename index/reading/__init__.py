"""Reading: from rows to streams and restored files."""

__all__ = ()
