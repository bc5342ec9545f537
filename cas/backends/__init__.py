"""Where packs are kept: a local directory, memory, any filesystem of fsspec."""

__all__ = ()
