"""Collection, verification, repair, recovery and backup of a whole store."""

__all__ = ()
