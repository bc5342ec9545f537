"""Garbage collection, the only way that bytes leave a store; decision 31 says why it is safe.

`index.maintenance.gc.plan` begins it.
"""

__all__ = ()
