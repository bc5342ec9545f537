"""Packs: their layout, and how they are written, read, checked and rewritten."""

__all__ = ()
