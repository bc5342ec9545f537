"""Errors of requests: an unknown subject, an invalid value, or a failed operation."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unicodedata import normalize

from cas.errors import DigestMismatchError
from index.errors.storage import ArtifactIndexError

if TYPE_CHECKING:
    from cas.digest import Digest

__all__ = [
    "AmbiguousNameError",
    "BytesNotKeptError",
    "ConfigError",
    "DamagedFileError",
    "DanglingFileError",
    "InvalidMetaError",
    "InvalidNameError",
    "MissingPackageError",
    "NameClashError",
    "OtherDirectoryError",
    "PastIsReadOnlyError",
    "RestoreConflictError",
    "RestoreFailedError",
    "RunExistsError",
    "SameStoreError",
    "UnknownDigestError",
    "UnknownFileError",
    "UnknownFileIdError",
    "UnknownNameError",
    "UnknownRunError",
    "UnknownRunNameError",
    "UnknownSessionError",
    "UnknownSnapshotError",
    "UnsafePathError",
    "UnsettledScanError",
    "VersionConflictError",
    "WorkDirectoryError",
]


def _near(closest: tuple[str, ...]) -> str:
    return f"the closest {'is' if len(closest) == 1 else 'are'} {', '.join(map(repr, closest))}"


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


class InvalidMetaError(ArtifactIndexError, ValueError):
    """Notes on a file that JSON can't hold."""

    reason: str

    def __str__(self) -> str:
        return f"meta can't be kept: {self.reason}; give numbers, text, lists and dicts of them"


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


class UnknownSessionError(ArtifactIndexError, LookupError):
    """The store has no session with that id."""

    session: str
    closest: tuple[str, ...] = ()
    """Sessions that may be meant. Only the owner of a store is told: the command, and a sync."""

    def __str__(self) -> str:
        sentence = f"there is no session {self.session!r} in this store"
        return f"{sentence}; {_near(self.closest)}" if self.closest else sentence


class UnknownRunError(ArtifactIndexError, LookupError):
    """The session has no run with that id."""

    session: str
    run: str
    closest: tuple[str, ...] = ()
    """Runs of the session that may be meant."""

    def __str__(self) -> str:
        way_out = _near(self.closest) if self.closest else "`session.runs()` lists what there is"
        return f"there is no run {self.run!r} in session {self.session!r}; {way_out}"


class UnknownRunNameError(ArtifactIndexError, LookupError):
    """No session of the store has a run with that id."""

    run: str
    closest: tuple[str, ...] = ()
    """Runs that may be meant."""

    def __str__(self) -> str:
        way_out = _near(self.closest) if self.closest else "`store.runs()` lists what there is"
        return f"none of the sessions has a run {self.run!r}; {way_out}"


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


class UnknownSnapshotError(ArtifactIndexError, LookupError):
    """The run has no snapshot of that number."""

    run: str
    number: int
    newest: int

    def __str__(self) -> str:
        shown = f"its snapshots are 1 to {self.newest}" if self.newest else "it has none yet"
        return f"run {self.run!r} has no snapshot {self.number}; {shown}"


class UnknownFileError(ArtifactIndexError, LookupError):
    """The run has no such path, or no such version of it."""

    run: str
    path: str
    version: int | None = None
    closest: tuple[str, ...] = ()
    """Paths of the run that may be meant."""
    newest: int = 0
    """Number of the newest version; 0 if there is none or a path was asked for."""

    def __str__(self) -> str:
        return self.advise("`run.files()` lists what it has")

    def advise(self, way_out: str) -> str:
        """Return the sentence with this way out, unless there is something close."""
        what = "" if self.version is None else f"version {self.version} of "
        if self.newest:
            way_out = f"version {self.newest} is the newest"
        elif self.closest:
            way_out = _near(self.closest)
        return f"run {self.run!r} has no {what}{self.path!r}; {way_out}"


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


class UnknownFileIdError(ArtifactIndexError, LookupError):
    """No run of the session has a file version of that id."""

    session: str
    file_id: int

    def __str__(self) -> str:
        return (
            f"session {self.session!r} has no file {self.file_id}; "
            "`run.files()` lists what a run has"
        )


class UnknownDigestError(ArtifactIndexError, LookupError):
    """No file of the session has those bytes."""

    session: str | None
    """None for all sessions of the store."""
    digest: Digest | str
    """Perhaps only its first digits."""

    def __str__(self) -> str:
        where = "no session has a" if self.session is None else f"session {self.session!r} has no"
        return f"{where} file with digest {self.digest}"


class UnknownNameError(ArtifactIndexError, LookupError):
    """A word that means nothing in the session: no run, snapshot, path or digest."""

    session: str
    name: str
    closest: tuple[str, ...] = ()
    """Runs and paths that may be meant."""

    def __str__(self) -> str:
        way_out = _near(self.closest) if self.closest else "`session.runs()` lists what there is"
        return f"{self.name!r} is nothing in session {self.session!r}; {way_out}"


class AmbiguousNameError(ArtifactIndexError, ValueError):
    """A word that may mean several things, such as the first digits of several digests."""

    name: str
    candidates: tuple[str, ...]
    """What it may mean, each written so that it means nothing else."""

    def __str__(self) -> str:
        return f"{self.name!r} may mean {' or '.join(self.candidates)}; write the one you mean"


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


class RestoreFailedError(ArtifactIndexError):
    """The destination could not be written; files restored earlier are complete."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"cannot restore {self.path!r}: {self.reason}; remove the cause and restore again"


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
    """A file version that was adopted without bytes, because the file was gone."""

    path: str
    version: int

    def __str__(self) -> str:
        return (
            f"version {self.version} of {self.path!r} is a record without bytes: the file was gone "
            "before it was adopted; put it again if you have a copy"
        )
