"""The index: which run holds which bytes, version by version, and who made them.

Names that need SQLAlchemy are imported on first use. That import takes two thirds of the start-up
time of the `cas` command, and `cas --help` does not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import os

    from index.api.command import RecordedCommand
    from index.api.dag_tracker import DAGTracker, FilesUpdated, TrackingOutcome
    from index.api.file_repository import FileRepository
    from index.api.run import Run
    from index.api.session import Session
    from index.api.store import ArtifactStore
    from index.domain.classification import DEFAULT_CLASSIFIER, Classifier, RuleClassifier
    from index.domain.content_diff import ContentDiff
    from index.domain.diff import Diff, FileChange
    from index.domain.faults import Fault, FaultKind, Holder, VerifyReport
    from index.domain.holds import Hold
    from index.domain.inputs import Input, InputSource, Reference, inputs_of
    from index.domain.lineage import Activity, Lineage, LineageEdge, Stale
    from index.domain.listing import DirectoryEntry, FileOrder
    from index.domain.progress import Progress
    from index.domain.provenance import Provenance
    from index.domain.reports import (
        DeletionReceipt,
        ExportReport,
        GroupStats,
        ImportReport,
        RestoreChange,
        RestoreResult,
        RestoreWarning,
        RunStats,
        StatsLabel,
        StoredBlob,
        StoreStats,
    )
    from index.domain.retention import RetentionPolicy, RunChoice, VersionRule
    from index.domain.runs import RunChange, RunStatus, RunSummary
    from index.domain.scopes import carried, provenance
    from index.domain.snapshots import FileVersion, Skipped, Snapshot
    from index.domain.status import Status
    from index.domain.table_diff import ColumnDiff, TableDiff
    from index.domain.tags import RunTag, Tag
    from index.domain.usage import Usage
    from index.errors import ArtifactIndexError
    from index.maintenance.backup import BackupReport
    from index.maintenance.doctor.doctor import doctor
    from index.maintenance.doctor.report import DoctorFinding, DoctorLevel, DoctorReport
    from index.maintenance.gc.plan import GcPlan
    from index.maintenance.gc.report import GarbageBlob, GcReport
    from index.maintenance.recover.recover import recover
    from index.maintenance.recover.report import RecoveryReport
    from index.maintenance.recover.storage import rebuild_storage
    from index.maintenance.repair.repair import RepairReport
    from index.maintenance.retention import (
        RetentionPlan,
        RetentionReport,
        SkippedRun,
        VersionChoice,
    )
    from index.scan.content import Content, NewFile
    from index.transfer.adopt import AdoptionReport
    from index.transfer.report import SyncedRun, SyncOutcome, SyncReport
    from index.transfer.sync import SyncPlan

__all__ = [
    "DEFAULT_CLASSIFIER",
    "Activity",
    "AdoptionReport",
    "ArtifactIndexError",
    "ArtifactStore",
    "BackupReport",
    "Classifier",
    "ColumnDiff",
    "Content",
    "ContentDiff",
    "DAGTracker",
    "DeletionReceipt",
    "Diff",
    "DirectoryEntry",
    "DoctorFinding",
    "DoctorLevel",
    "DoctorReport",
    "ExportReport",
    "Fault",
    "FaultKind",
    "FileChange",
    "FileOrder",
    "FileRepository",
    "FileVersion",
    "FilesUpdated",
    "GarbageBlob",
    "GcPlan",
    "GcReport",
    "GroupStats",
    "Hold",
    "Holder",
    "ImportReport",
    "Input",
    "InputSource",
    "Lineage",
    "LineageEdge",
    "NewFile",
    "Progress",
    "Provenance",
    "RecordedCommand",
    "RecoveryReport",
    "Reference",
    "RepairReport",
    "RestoreChange",
    "RestoreResult",
    "RestoreWarning",
    "RetentionPlan",
    "RetentionPolicy",
    "RetentionReport",
    "RuleClassifier",
    "Run",
    "RunChange",
    "RunChoice",
    "RunStats",
    "RunStatus",
    "RunSummary",
    "RunTag",
    "Session",
    "Skipped",
    "SkippedRun",
    "Snapshot",
    "Stale",
    "StatsLabel",
    "Status",
    "StoreStats",
    "StoredBlob",
    "SyncOutcome",
    "SyncPlan",
    "SyncReport",
    "SyncedRun",
    "TableDiff",
    "Tag",
    "TrackingOutcome",
    "Usage",
    "VerifyReport",
    "VersionChoice",
    "VersionRule",
    "__version__",
    "carried",
    "doctor",
    "inputs_of",
    "open",
    "provenance",
    "rebuild_storage",
    "recover",
]

__version__: str

_IMPORTED_LATER: Final = {
    "__version__": "cas",
    "Activity": "index.domain.lineage",
    "AdoptionReport": "index.transfer.adopt",
    "ArtifactIndexError": "index.errors",
    "ArtifactStore": "index.api.store",
    "BackupReport": "index.maintenance.backup",
    "carried": "index.domain.scopes",
    "Classifier": "index.domain.classification",
    "ColumnDiff": "index.domain.table_diff",
    "Content": "index.scan.content",
    "ContentDiff": "index.domain.content_diff",
    "DAGTracker": "index.api.dag_tracker",
    "DEFAULT_CLASSIFIER": "index.domain.classification",
    "DeletionReceipt": "index.domain.reports",
    "Diff": "index.domain.diff",
    "DirectoryEntry": "index.domain.listing",
    "doctor": "index.maintenance.doctor.doctor",
    "DoctorFinding": "index.maintenance.doctor.report",
    "DoctorLevel": "index.maintenance.doctor.report",
    "DoctorReport": "index.maintenance.doctor.report",
    "ExportReport": "index.domain.reports",
    "Fault": "index.domain.faults",
    "FaultKind": "index.domain.faults",
    "FileChange": "index.domain.diff",
    "FileOrder": "index.domain.listing",
    "FileRepository": "index.api.file_repository",
    "FilesUpdated": "index.api.dag_tracker",
    "FileVersion": "index.domain.snapshots",
    "GarbageBlob": "index.maintenance.gc.report",
    "GcPlan": "index.maintenance.gc.plan",
    "GcReport": "index.maintenance.gc.report",
    "GroupStats": "index.domain.reports",
    "Hold": "index.domain.holds",
    "Holder": "index.domain.faults",
    "ImportReport": "index.domain.reports",
    "Input": "index.domain.inputs",
    "InputSource": "index.domain.inputs",
    "Lineage": "index.domain.lineage",
    "LineageEdge": "index.domain.lineage",
    "NewFile": "index.scan.content",
    "Progress": "index.domain.progress",
    "Provenance": "index.domain.provenance",
    "inputs_of": "index.domain.inputs",
    "provenance": "index.domain.scopes",
    "RecordedCommand": "index.api.command",
    "rebuild_storage": "index.maintenance.recover.storage",
    "recover": "index.maintenance.recover.recover",
    "RecoveryReport": "index.maintenance.recover.report",
    "Reference": "index.domain.inputs",
    "RepairReport": "index.maintenance.repair.repair",
    "RestoreChange": "index.domain.reports",
    "RestoreResult": "index.domain.reports",
    "RestoreWarning": "index.domain.reports",
    "RetentionPlan": "index.maintenance.retention",
    "RetentionPolicy": "index.domain.retention",
    "RetentionReport": "index.maintenance.retention",
    "RuleClassifier": "index.domain.classification",
    "Run": "index.api.run",
    "RunChange": "index.domain.runs",
    "RunChoice": "index.domain.retention",
    "RunStats": "index.domain.reports",
    "RunStatus": "index.domain.runs",
    "RunSummary": "index.domain.runs",
    "Session": "index.api.session",
    "Skipped": "index.domain.snapshots",
    "SkippedRun": "index.maintenance.retention",
    "Snapshot": "index.domain.snapshots",
    "Stale": "index.domain.lineage",
    "StatsLabel": "index.domain.reports",
    "Status": "index.domain.status",
    "StoredBlob": "index.domain.reports",
    "StoreStats": "index.domain.reports",
    "SyncedRun": "index.transfer.report",
    "SyncOutcome": "index.transfer.report",
    "SyncPlan": "index.transfer.sync",
    "SyncReport": "index.transfer.report",
    "TableDiff": "index.domain.table_diff",
    "RunTag": "index.domain.tags",
    "Tag": "index.domain.tags",
    "TrackingOutcome": "index.api.dag_tracker",
    "Usage": "index.domain.usage",
    "VerifyReport": "index.domain.faults",
    "VersionChoice": "index.maintenance.retention",
    "VersionRule": "index.domain.retention",
}


def open(  # noqa: A001 - as in `tarfile.open`
    directory: str | os.PathLike[str] | None = None, *, create: bool = False
) -> ArtifactStore:
    """Open the store that the command would use.

    That is the one which ``CAS_STORE``, or ``CAS_INDEX`` and ``CAS_BLOBS`` name. Otherwise it is
    the one of the nearest directory with ``cas.toml`` or ``.cas/``, from the current one upwards.

    Parameters
    ----------
    directory
        Where to look instead.
    create
        Whether to create a store that does not exist.

    Raises
    ------
    StoreNotFoundError
        When there is no store and `create` is false.
    ConfigError
        When a cas.toml can't be used.
    """
    from index.api.location import nearest, open_found

    return open_found(nearest(directory), create=create)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any attribute
    if name not in _IMPORTED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_IMPORTED_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
