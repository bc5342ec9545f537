"""Commits: from observations to rows and journal records. Also fork, rewind and deletion."""

__all__ = ()
