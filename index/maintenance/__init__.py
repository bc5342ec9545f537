"""Maintenance of a whole store: garbage collection, verify, repair, recovery and backup."""

__all__ = ()
