"""Transfer of runs between two stores, and adoption of older trackers' tables.

`index.transfer.sync` and `index.transfer.adopt` are the entry points.
"""

__all__ = ()
