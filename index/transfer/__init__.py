"""Copying runs between two stores; `index.transfer.sync` begins it."""

__all__ = ()
