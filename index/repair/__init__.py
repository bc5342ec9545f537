"""Repair of a store: damaged blobs are had again from wherever their bytes are."""

__all__ = ()
