"""Copying runs between two stores; `index.sync.syncing` begins it."""

__all__ = ()
