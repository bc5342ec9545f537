"""The index: which run holds which bytes, version by version, and who made them.

Names that need SQLAlchemy are imported on first use. That import takes two thirds of the start-up
time of the `cas` command, and `cas --help` does not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from index.domain.classification import DEFAULT_CLASSIFIER, Classifier, RuleClassifier
from index.domain.provenance import Provenance, carried, provenance
from index.domain.snapshots import FileVersion, Progress, RunSummary, Snapshot
from index.errors import ArtifactIndexError

if TYPE_CHECKING:
    from index.api.dag_tracker import DAGTracker, FilesUpdated, TrackingOutcome
    from index.api.file_repository import FileRepository
    from index.api.run import Run
    from index.api.session import Session
    from index.api.store import ArtifactStore
    from index.domain.diff import Diff, FileChange
    from index.domain.faults import Fault, FaultKind, Holder, VerifyReport
    from index.domain.listing import DirectoryEntry
    from index.domain.reports import DeletionReceipt, GroupStats, RunStats, StoreStats
    from index.maintenance.backup import BackupReport
    from index.maintenance.gc.plan import GcPlan
    from index.maintenance.gc.report import GarbageBlob, GcReport
    from index.maintenance.recover.recover import recover
    from index.maintenance.recover.report import RecoveryReport
    from index.maintenance.repair.repair import RepairReport
    from index.reading.restore import RestoreResult, RestoreWarning
    from index.scan.content import NewFile
    from index.transfer.adopt import AdoptionReport
    from index.transfer.report import SyncedRun, SyncOutcome, SyncReport
    from index.transfer.sync import SyncPlan

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
    "DirectoryEntry",
    "Fault",
    "FaultKind",
    "FileChange",
    "FileRepository",
    "FileVersion",
    "FilesUpdated",
    "GarbageBlob",
    "GcPlan",
    "GcReport",
    "GroupStats",
    "Holder",
    "NewFile",
    "Progress",
    "Provenance",
    "RecoveryReport",
    "RepairReport",
    "RestoreResult",
    "RestoreWarning",
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
    "__version__",
    "carried",
    "provenance",
    "recover",
]

__version__: str

_IMPORTED_LATER: Final = {
    "__version__": "cas",
    "AdoptionReport": "index.transfer.adopt",
    "DeletionReceipt": "index.domain.reports",
    "RestoreResult": "index.reading.restore",
    "RestoreWarning": "index.reading.restore",
    "RunStats": "index.domain.reports",
    "StoreStats": "index.domain.reports",
    "ArtifactStore": "index.api.store",
    "BackupReport": "index.maintenance.backup",
    "DAGTracker": "index.api.dag_tracker",
    "Diff": "index.domain.diff",
    "DirectoryEntry": "index.domain.listing",
    "FileChange": "index.domain.diff",
    "FileRepository": "index.api.file_repository",
    "FilesUpdated": "index.api.dag_tracker",
    "GarbageBlob": "index.maintenance.gc.report",
    "GcPlan": "index.maintenance.gc.plan",
    "GcReport": "index.maintenance.gc.report",
    "GroupStats": "index.domain.reports",
    "NewFile": "index.scan.content",
    "Fault": "index.domain.faults",
    "FaultKind": "index.domain.faults",
    "Holder": "index.domain.faults",
    "RepairReport": "index.maintenance.repair.repair",
    "RecoveryReport": "index.maintenance.recover.report",
    "Run": "index.api.run",
    "Session": "index.api.session",
    "SyncOutcome": "index.transfer.report",
    "SyncPlan": "index.transfer.sync",
    "SyncReport": "index.transfer.report",
    "SyncedRun": "index.transfer.report",
    "TrackingOutcome": "index.api.dag_tracker",
    "VerifyReport": "index.domain.faults",
    "recover": "index.maintenance.recover.recover",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any attribute
    if name not in _IMPORTED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_IMPORTED_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
