"""Making a lost index anew from what storage holds; `index.recovery.recovering` begins it."""

__all__ = ()
