"""What was asked for is not there, can't be, or could not be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cas.errors import DigestMismatchError
from index.errors.storage import ArtifactIndexError

if TYPE_CHECKING:
    from cas.digest import Digest

__all__ = [
    "BytesNotKeptError",
    "DamagedFileError",
    "DanglingFileError",
    "InvalidMetaError",
    "InvalidNameError",
    "RestoreConflictError",
    "RestoreFailedError",
    "RunExistsError",
    "SameStoreError",
    "UnknownDigestError",
    "UnknownFileError",
    "UnknownFileIdError",
    "UnknownRunError",
    "UnknownRunNameError",
    "UnknownSessionError",
    "UnknownSnapshotError",
    "UnsafePathError",
    "UnsettledScanError",
    "WorkDirectoryError",
]


class InvalidNameError(ArtifactIndexError, ValueError):
    """An id that can't be one."""

    def __init__(self, kind: str, value: object, reason: str) -> None:
        super().__init__(kind, value, reason)
        self.kind = kind
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        shown = repr(self.value)
        if len(shown) > 60:
            shown = f"{shown[:50]}…{shown[-1]}"
        kind = self.kind.removesuffix("_id").replace("_", " ")
        noun = f"{kind} id" if kind in ("session", "run", "node", "step", "event") else kind
        return f"{shown} can't be the {noun}: {self.reason}"


class InvalidMetaError(ArtifactIndexError, ValueError):
    """Notes on a file that JSON can't hold."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"meta can't be kept: {self.reason}; give numbers, text, lists and dicts of them"


class UnsafePathError(ArtifactIndexError, ValueError):
    """A path that would leave the run's directory or the destination of a restore."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"path {self.path!r} is refused: {self.reason}"


class UnknownSessionError(ArtifactIndexError, LookupError):
    """No session of that id was ever written to."""

    def __init__(self, session: str) -> None:
        super().__init__(session)
        self.session = session

    def __str__(self) -> str:
        return f"there is no session {self.session!r} in this store"


class UnknownRunError(ArtifactIndexError, LookupError):
    """No run of that id was ever written to in the session."""

    def __init__(self, session: str, run: str) -> None:
        super().__init__(session, run)
        self.session = session
        self.run = run

    def __str__(self) -> str:
        return (
            f"there is no run {self.run!r} in session {self.session!r}; "
            "`cas stats` lists the runs of a session"
        )


class UnknownRunNameError(ArtifactIndexError, LookupError):
    """No session of the store has a run of that id."""

    def __init__(self, run: str) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return (
            f"none of the sessions has a run {self.run!r}; `cas stats` lists the runs of a session"
        )


class SameStoreError(ArtifactIndexError, ValueError):
    """A store was to be synced with itself."""

    def __init__(self, index: str) -> None:
        super().__init__(index)
        self.index = index

    def __str__(self) -> str:
        return f"source and destination are one store, with the index {self.index}; name two"


class RunExistsError(ArtifactIndexError):
    """A run that should be made is there already."""

    def __init__(self, run: str) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return f"there is a run {self.run!r} already; choose another id or delete it first"


class UnknownSnapshotError(ArtifactIndexError, LookupError):
    """The run has no snapshot of that number."""

    def __init__(self, run: str, number: int, newest: int) -> None:
        super().__init__(run, number, newest)
        self.run = run
        self.number = number
        self.newest = newest

    def __str__(self) -> str:
        shown = f"its snapshots are 1 to {self.newest}" if self.newest else "it has none yet"
        return f"run {self.run!r} has no snapshot {self.number}; {shown}"


class UnknownFileError(ArtifactIndexError, LookupError):
    """The run has no such path, or no such version of it."""

    def __init__(self, run: str, path: str, version: int | None = None) -> None:
        super().__init__(run, path, version)
        self.run = run
        self.path = path
        self.version = version

    def __str__(self) -> str:
        what = "" if self.version is None else f"version {self.version} of "
        return f"run {self.run!r} has no {what}{self.path!r}; `cas ls` lists what it has"


class UnknownFileIdError(ArtifactIndexError, LookupError):
    """No run of the session has a file version of that id."""

    def __init__(self, session: str, file_id: int) -> None:
        super().__init__(session, file_id)
        self.session = session
        self.file_id = file_id

    def __str__(self) -> str:
        return f"session {self.session!r} has no file {self.file_id}; `cas ls` lists what there is"


class UnknownDigestError(ArtifactIndexError, LookupError):
    """No file of the session has those bytes."""

    def __init__(self, session: str, digest: Digest) -> None:
        super().__init__(session, digest)
        self.session = session
        self.digest = digest

    def __str__(self) -> str:
        return f"session {self.session!r} has no file with digest {self.digest}"


class WorkDirectoryError(ArtifactIndexError):
    """What should be tracked can't be listed; nothing was recorded."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot track {self.path!r}: {self.reason}; nothing was recorded"


class RestoreConflictError(ArtifactIndexError):
    """Different content is where a restore would write.

    Nothing was written, unless that content appeared while the restore was under way.
    """

    def __init__(self, path: str, count: int) -> None:
        super().__init__(path, count)
        self.path = path
        self.count = count

    def __str__(self) -> str:
        more = "" if self.count == 1 else f" and {self.count - 1} more"
        return (
            f"{self.path!r}{more} would be overwritten with different content; restore elsewhere, "
            "or allow it (`--overwrite`, `overwrite=True`)"
        )


class RestoreFailedError(ArtifactIndexError):
    """The destination could not be written; the files restored before are whole."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot restore {self.path!r}: {self.reason}; mend that and restore again"


class UnsettledScanError(ArtifactIndexError):
    """Each time that a scan was about to be recorded, something it relied on had been removed."""

    def __init__(self, run: str) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return (
            f"run {self.run!r} could not be recorded: blobs or the run itself were removed during "
            "each attempt; run the command again when that is over, nothing was recorded"
        )


class DanglingFileError(ArtifactIndexError):
    """A file version is recorded but its bytes are gone from storage."""

    def __init__(self, path: str, digest: Digest) -> None:
        super().__init__(path, digest)
        self.path = path
        self.digest = digest

    def __str__(self) -> str:
        return (
            f"the bytes of {self.path!r} ({self.digest}) are missing from storage; mend that with "
            "`cas repair --from DIR`, a directory or store that has them"
        )


class DamagedFileError(DigestMismatchError, ArtifactIndexError):
    """A file version is recorded but its bytes in storage are damaged; none are returned."""

    def __init__(self, path: str, expected: Digest, actual: Digest | None, where: str) -> None:
        super().__init__(expected, actual, where)
        self.args = (path, expected, actual, where)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path!r} can't be read: {super().__str__()}"


class BytesNotKeptError(ArtifactIndexError, LookupError):
    """A record that was adopted after its bytes were gone."""

    def __init__(self, path: str, version: int) -> None:
        super().__init__(path, version)
        self.path = path
        self.version = version

    def __str__(self) -> str:
        return (
            f"version {self.version} of {self.path!r} is a record without bytes: the file was gone "
            "before it was adopted; put it anew if you have a copy"
        )
