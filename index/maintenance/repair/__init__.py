"""Repair: restore damaged blobs, by digest, from any remaining copy."""

__all__ = ()
