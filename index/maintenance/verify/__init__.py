"""Verification of a store: rows and objects, packs, and every byte."""

__all__ = ()
