"""Backends for packs: a local directory, memory, and any filesystem of fsspec."""

__all__ = ()
