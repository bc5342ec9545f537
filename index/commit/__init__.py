"""From what was observed to rows and journal records; fork, rewind and deletion."""

__all__ = ()
