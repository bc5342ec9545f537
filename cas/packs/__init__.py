"""Packs: layout, writing, reading, verification and rewriting."""

__all__ = ()
