"""Errors of requests: an unknown subject, an invalid value, or a failed operation."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unicodedata import normalize

from cas.errors import DigestMismatchError
from index.errors.storage import ArtifactIndexError

if TYPE_CHECKING:
    from cas.digest import Digest

__all__ = [
    "BytesNotKeptError",
    "CommandNotFoundError",
    "CommandNotStartedError",
    "ConfigError",
    "DamagedFileError",
    "DanglingFileError",
    "ExportFailedError",
    "ImportMismatchError",
    "ImportSourceError",
    "InvalidExpressionError",
    "InvalidMetaError",
    "InvalidNameError",
    "MissingPackageError",
    "NameClashError",
    "NoDestinationError",
    "OtherDirectoryError",
    "ParentCycleError",
    "PastIsReadOnlyError",
    "ReferenceUnreachableError",
    "RestoreConflictError",
    "RestoreFailedError",
    "RunExistsError",
    "SameStoreError",
    "UnsafePathError",
    "UnsettledScanError",
    "VersionConflictError",
    "WorkDirectoryError",
]


class InvalidNameError(ArtifactIndexError, ValueError):
    """An id or label that is not allowed."""

    kind: str
    value: object
    reason: str

    def __str__(self) -> str:
        shown = repr(self.value)
        if len(shown) > 60:
            shown = f"{shown[:50]}…{shown[-1]}"
        kind = self.kind.removesuffix("_id").replace("_", " ")
        noun = f"{kind} id" if kind in ("session", "run", "node", "step", "event") else kind
        return f"{shown} can't be the {noun}: {self.reason}"


class InvalidExpressionError(ArtifactIndexError, ValueError):
    """An expression to search by that can't be read."""

    expression: str
    position: int
    """Of the character where it goes wrong, from 1."""
    reason: str

    def __str__(self) -> str:
        begin = max(self.position - 40, 0) if len(self.expression) > 80 else 0
        part = self.expression[begin : begin + 80]
        before, after = "…" * (begin > 0), "…" * (begin + 80 < len(self.expression))
        return (
            f"{before}{part!r}{after} can't be searched for: at character {self.position}, "
            f"{self.reason}"
        )


class InvalidMetaError(ArtifactIndexError, ValueError):
    """Notes on a file or a snapshot that JSON can't hold."""

    what: str
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.what} can't be kept: {self.reason}; give numbers, text, lists and dicts of them"
        )


class CommandNotStartedError(ArtifactIndexError):
    """A command that can't be started, so that nothing has run."""

    program: str
    reason: str

    def __str__(self) -> str:
        return f"{self.program!r} can't be run: {self.reason}; check its name and permissions"


class CommandNotFoundError(CommandNotStartedError, LookupError):
    """A command whose program does not exist. Nothing was recorded."""

    def __str__(self) -> str:
        return f"{self.program!r} can't be run: {self.reason}; check its spelling and PATH"


class UnsafePathError(ArtifactIndexError, ValueError):
    """A path that leads out of a run or the destination of a restore, or that nothing can have."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"path {self.path!r} is refused: {self.reason}"


class ConfigError(ArtifactIndexError, ValueError):
    """A configuration that can't be used, or a place that it names."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path} can't be used: {self.reason}"


class SameStoreError(ArtifactIndexError, ValueError):
    """Source and destination of a sync are the same store."""

    index: str

    def __str__(self) -> str:
        return f"source and destination are one store, with the index {self.index}; name two"


class RunExistsError(ArtifactIndexError):
    """The id of a new run is taken."""

    run: str

    def __str__(self) -> str:
        return f"there is a run {self.run!r} already; choose another id or delete it first"


class ParentCycleError(ArtifactIndexError, ValueError):
    """A run can't be a part of itself, nor of a part of itself."""

    run: str
    parent: str

    def __str__(self) -> str:
        if self.run == self.parent:
            return f"run {self.run!r} can't be a part of itself; name another parent"
        return (
            f"run {self.run!r} can't be a part of {self.parent!r}, which is a part of it; name"
            " another parent"
        )


class VersionConflictError(ArtifactIndexError):
    """Another version of the path is current than the one that the caller wanted to replace."""

    run: str
    path: str
    expected: int
    current: int
    """Number of the current version; 0 if the path has none."""

    def __str__(self) -> str:
        present = f"version {self.current} of it is current" if self.current else "it has no file"
        wanted = f"version {self.expected}" if self.expected else "no file"
        return (
            f"{self.path!r} of run {self.run!r} was not recorded: {present}, where {wanted} was "
            f"expected; merge with that and put the result with expected_version={self.current}"
        )


class WorkDirectoryError(ArtifactIndexError):
    """The directory to track can't be listed; nothing was recorded."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"cannot track {self.path!r}: {self.reason}; nothing was recorded"


class MissingPackageError(ArtifactIndexError, ImportError):
    """A call needs a package that is not installed."""

    task: str
    package: str
    wanted: str

    def __str__(self) -> str:
        return (
            f"{self.task} needs the package {self.package}, which is not installed; run "
            f"`pip install '{self.wanted}'`"
        )


class ReferenceUnreachableError(ArtifactIndexError, OSError):
    """Bytes outside of the store can't be read where a URI says that they are."""

    uri: str
    """Without passwords."""
    reason: str
    remedy: str = "make it reachable, or give its digest: it is then noted unread"

    def __str__(self) -> str:
        return f"cannot read {self.uri!r}: {self.reason}; {self.remedy}"


class OtherDirectoryError(ArtifactIndexError):
    """The run holds another directory, and the scan was to be of the same one."""

    run: str
    before: str
    now: str

    def __str__(self) -> str:
        return (
            f"run {self.run!r} holds {self.before!r}, and {self.now!r} is another directory; take "
            "another run (`session.run(…)`), or allow it if the directory was moved "
            "(`same_directory=False`); nothing was recorded"
        )


class PastIsReadOnlyError(ArtifactIndexError, PermissionError):
    """A write through a URL of a snapshot, a past version or a digest."""

    url: str

    def __str__(self) -> str:
        return (
            f"{self.url} is of the past, which never changes; write to the run without an '@', "
            "as cas://SESSION/RUN/PATH"
        )


class RestoreConflictError(ArtifactIndexError):
    """A restore would overwrite different content.

    Nothing was written, unless that content appeared during the restore.
    """

    path: str
    count: int

    def __str__(self) -> str:
        more = "" if self.count == 1 else f" and {self.count - 1} more"
        return (
            f"{self.path!r}{more} would be overwritten with different content; restore elsewhere, "
            "or allow it with `overwrite=True`"
        )


class NameClashError(ArtifactIndexError):
    """The filesystem of the destination takes two paths of the run for one. Nothing was written."""

    path: str
    other: str

    def __str__(self) -> str:
        paths = (self.path, self.other)
        look_alike = len({normalize("NFC", path) for path in paths}) == 1
        one, other = (ascii(path) if look_alike else repr(path) for path in paths)
        return (
            f"{one} and {other} are one name on the filesystem of the destination; "
            "restore them one by one, each by its path, or restore elsewhere"
        )


class NoDestinationError(ArtifactIndexError, LookupError):
    """A restore in place of a run whose work directory is not known, or can't be here."""

    run: str
    work_dir: str | None

    def __str__(self) -> str:
        if self.work_dir is None:
            what = "has no work directory yet: no scan in this store has recorded one"
        else:
            what = f"was in {self.work_dir!r}, and the directory above that is not on this machine"
        return f"run {self.run!r} {what}; say where to restore it with `run.restore(DIR)`"


class ExportFailedError(ArtifactIndexError):
    """An export could not be written, or can't hold what the run has. There is no part of it."""

    target: str
    reason: str

    def __str__(self) -> str:
        return f"cannot export to {self.target!r}: {self.reason}"


class RestoreFailedError(ArtifactIndexError):
    """The destination could not be written; files restored earlier are complete."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"cannot restore {self.path!r}: {self.reason}; remove the cause and restore again"


class ImportSourceError(ArtifactIndexError):
    """What is to be imported can't be read as what it is said to be, or does not fit the run."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"cannot import {self.source!r}: {self.reason}"


class ImportMismatchError(ArtifactIndexError):
    """An import ended, and the run is not what the source lists."""

    source: str
    run: str
    differences: tuple[str, ...]

    def __str__(self) -> str:
        more = f", and {len(self.differences) - 1} more" if self.differences[1:] else ""
        return (
            f"run {self.run!r} is not what {self.source!r} lists: {self.differences[0]}{more}; "
            "see whether the source has changed meanwhile, and import it into another run"
        )


class UnsettledScanError(ArtifactIndexError):
    """Every attempt to commit failed, because others removed blobs or the run itself."""

    run: str

    def __str__(self) -> str:
        return (
            f"run {self.run!r} could not be recorded: blobs or the run itself were removed during "
            "each attempt; repeat the call when that is over, nothing was recorded"
        )


class DanglingFileError(ArtifactIndexError):
    """The bytes of a recorded file version are missing from storage."""

    path: str
    digest: Digest

    def __str__(self) -> str:
        return (
            f"the bytes of {self.path!r} ({self.digest}) are missing from storage; mend that with "
            "`store.repair(DIR)`, a directory or store that has them"
        )


class DamagedFileError(DigestMismatchError, ArtifactIndexError):
    """The bytes of a recorded file version are damaged in storage; none are returned."""

    def __init__(self, path: str, expected: Digest, actual: Digest | None, where: str) -> None:
        super().__init__(expected, actual, where)
        self.args = (path, expected, actual, where)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path!r} can't be read: {super().__str__()}"


class BytesNotKeptError(ArtifactIndexError, LookupError):
    """A file version without bytes: they were dropped, or gone before it was adopted."""

    path: str
    version: int
    dropped: str | None = None
    """When and why its bytes were dropped; None if they never were here."""

    def __str__(self) -> str:
        if self.dropped is not None:
            return (
                f"the bytes of version {self.version} of {self.path!r} were {self.dropped}; put it "
                "again if you have a copy"
            )
        return (
            f"version {self.version} of {self.path!r} is a record without bytes: the file was gone "
            "before it was adopted; put it again if you have a copy"
        )
