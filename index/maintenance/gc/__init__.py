"""Garbage collection: the only operation that deletes bytes. Decision 31 says why it is safe.

`index.maintenance.gc.plan` is the entry point.
"""

__all__ = ()
