"""A local cache of what was read from remote packs."""

__all__ = ()
