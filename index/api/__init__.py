"""What users hold: stores, sessions, runs, the file repository and the DAG tracker."""

__all__ = ()
