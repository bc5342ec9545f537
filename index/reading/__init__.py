"""From rows back to streams and files."""

__all__ = ()
