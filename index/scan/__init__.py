"""Scanning: read a work directory or one file into a batch, and report what was found. No SQL."""

__all__ = ()
