"""Rebuild a lost index from storage. `index.maintenance.recover.rebuild` begins it."""

__all__ = ()
