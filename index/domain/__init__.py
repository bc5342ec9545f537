"""Values and pure rules: versions, snapshots, run state, changes, differences. No I/O, no SQL."""

__all__ = ()
