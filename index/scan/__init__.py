"""From a directory or one content to what was observed and put into a batch. No SQL."""

__all__ = ()
