"""Which run holds which bytes, version by version, and who made them.

What stands on SQLAlchemy is imported when it is first asked for: two thirds of the time that the
`cas` command takes to start go into that import, and its help needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from index.classification import DEFAULT_CLASSIFIER, Classifier, RuleClassifier
from index.errors import ArtifactIndexError
from index.provenance import Provenance, carried, provenance
from index.records import FileVersion, Progress, RunSummary, Snapshot

if TYPE_CHECKING:
    from index.adoption import AdoptionReport
    from index.artifacts import ArtifactStore
    from index.backup import BackupReport
    from index.comparison import Diff, FileChange
    from index.dag_tracker import DAGTracker, FilesUpdated, TrackingOutcome
    from index.figures import RunStats, StoreStats
    from index.file_repository import FileRepository
    from index.garbage.planning import GcPlan
    from index.garbage.records import GarbageBlob, GcReport
    from index.receipts import DeletionReceipt
    from index.recovery.lost_index import recover
    from index.recovery.records import RecoveryReport
    from index.repair.records import RepairReport
    from index.restore import RestoreResult
    from index.run import Run
    from index.session import Session
    from index.sync.records import SyncedRun, SyncOutcome, SyncReport
    from index.sync.syncing import SyncPlan
    from index.verification.records import Fault, FaultKind, Holder, VerifyReport

__all__ = [
    "DEFAULT_CLASSIFIER",
    "AdoptionReport",
    "ArtifactIndexError",
    "ArtifactStore",
    "BackupReport",
    "Classifier",
    "DAGTracker",
    "DeletionReceipt",
    "Diff",
    "Fault",
    "FaultKind",
    "FileChange",
    "FileRepository",
    "FileVersion",
    "FilesUpdated",
    "GarbageBlob",
    "GcPlan",
    "GcReport",
    "Holder",
    "Progress",
    "Provenance",
    "RecoveryReport",
    "RepairReport",
    "RestoreResult",
    "RuleClassifier",
    "Run",
    "RunStats",
    "RunSummary",
    "Session",
    "Snapshot",
    "StoreStats",
    "SyncOutcome",
    "SyncPlan",
    "SyncReport",
    "SyncedRun",
    "TrackingOutcome",
    "VerifyReport",
    "carried",
    "provenance",
    "recover",
]

_IMPORTED_LATER: Final = {
    "AdoptionReport": "index.adoption",
    "DeletionReceipt": "index.receipts",
    "RestoreResult": "index.restore",
    "RunStats": "index.figures",
    "StoreStats": "index.figures",
    "ArtifactStore": "index.artifacts",
    "BackupReport": "index.backup",
    "DAGTracker": "index.dag_tracker",
    "Diff": "index.comparison",
    "FileChange": "index.comparison",
    "FileRepository": "index.file_repository",
    "FilesUpdated": "index.dag_tracker",
    "GarbageBlob": "index.garbage.records",
    "GcPlan": "index.garbage.planning",
    "GcReport": "index.garbage.records",
    "Fault": "index.verification.records",
    "FaultKind": "index.verification.records",
    "Holder": "index.verification.records",
    "RepairReport": "index.repair.records",
    "RecoveryReport": "index.recovery.records",
    "Run": "index.run",
    "Session": "index.session",
    "SyncOutcome": "index.sync.records",
    "SyncPlan": "index.sync.syncing",
    "SyncReport": "index.sync.records",
    "SyncedRun": "index.sync.records",
    "TrackingOutcome": "index.dag_tracker",
    "VerifyReport": "index.verification.records",
    "recover": "index.recovery.lost_index",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the module holds
    if name not in _IMPORTED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_IMPORTED_LATER[name]), name)
    globals()[name] = value
    return value
