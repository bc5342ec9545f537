"""The relational index: tables, schema, connections; `queries` holds the SQL."""

__all__ = ()
