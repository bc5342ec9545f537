"""SQL and nothing else: functions that run statements on the caller's connection.

The caller owns the transaction; nothing here commits, rolls back, or reads a clock.
"""

__all__ = ()
