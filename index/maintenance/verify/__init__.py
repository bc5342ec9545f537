"""Verification of a whole store: rows against objects, packs, and every byte."""

__all__ = ()
