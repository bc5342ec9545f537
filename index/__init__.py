"""Which run holds which bytes, version by version, and who made them.

What stands on SQLAlchemy is imported when it is first asked for: two thirds of the time that the
`cas` command takes to start go into that import, and its help needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from index.errors import ArtifactIndexError
from index.provenance import Provenance, provenance
from index.records import FileVersion, Progress, RestoreResult, RunStats, Snapshot, StoreStats

if TYPE_CHECKING:
    from index.artifacts import ArtifactStore
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

_IMPORTED_LATER: Final = {
    "ArtifactStore": "index.artifacts",
    "Run": "index.run",
    "Session": "index.session",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the module holds
    if name not in _IMPORTED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_IMPORTED_LATER[name]), name)
    globals()[name] = value
    return value
