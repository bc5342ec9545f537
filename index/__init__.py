"""Which run holds which bytes, version by version, and who made them."""

from index.artifacts import ArtifactStore
from index.errors import ArtifactIndexError
from index.provenance import Provenance, provenance
from index.records import FileVersion, Progress, RestoreResult, RunStats, Snapshot, StoreStats
from index.run import Run
from index.session import Session

__all__ = [
    "ArtifactIndexError",
    "ArtifactStore",
    "FileVersion",
    "Progress",
    "Provenance",
    "RestoreResult",
    "Run",
    "RunStats",
    "Session",
    "Snapshot",
    "StoreStats",
    "provenance",
]
