"""Errors of the index.

    ArtifactIndexError
    ├── InvalidNameError (ValueError)       a session, run or other id that can't be one
    ├── InvalidMetaError (ValueError)       notes that JSON can't hold
    ├── UnsafePathError (ValueError)        a path that would leave the run or the destination
    ├── UnknownSessionError (LookupError)
    ├── UnknownRunError (LookupError)
    ├── RunExistsError                      a fork can't have the id of a run that is there
    ├── UnknownSnapshotError (LookupError)
    ├── UnknownFileError (LookupError)      no such path, version or file id in the run
    ├── UnknownFileIdError (LookupError)
    ├── UnknownDigestError (LookupError)    no file of the session has these bytes
    ├── WorkDirectoryError                  what should be tracked is missing or no directory
    ├── RestoreConflictError                different content is in the way
    ├── RestoreFailedError                  the destination could not be written
    ├── UnsettledScanError                  others kept taking away what a scan relied on
    ├── DanglingFileError                   a file version whose bytes are gone
    ├── BytesNotKeptError (LookupError)     a record whose bytes were never stored
    ├── LegacyTableError                    the old table to adopt from can't be read
    ├── StoreMismatchError                  the index belongs to other storage
    ├── IndexLostError                      storage holds packs, but its index is gone
    ├── StoreNotFoundError (LookupError)    nothing was ever created there
    ├── IndexUnavailableError               the database can't be reached, is full or locked
    │   └── IndexInterruptedError           it went away, or two transactions were in conflict
    └── SchemaOutOfDateError                names the current and the head revision

As in `cas.errors`, constructor parameters go to ``super().__init__`` unchanged and ``__str__``
builds one sentence that ends with what to do next.
"""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cas.digest import Digest

__all__ = [
    "ArtifactIndexError",
    "BytesNotKeptError",
    "DanglingFileError",
    "IndexInterruptedError",
    "IndexLostError",
    "IndexUnavailableError",
    "InvalidMetaError",
    "InvalidNameError",
    "LegacyTableError",
    "RestoreConflictError",
    "RestoreFailedError",
    "RunExistsError",
    "SchemaOutOfDateError",
    "StoreMismatchError",
    "StoreNotFoundError",
    "UnknownDigestError",
    "UnknownFileError",
    "UnknownFileIdError",
    "UnknownRunError",
    "UnknownSessionError",
    "UnknownSnapshotError",
    "UnsafePathError",
    "UnsettledScanError",
    "WorkDirectoryError",
]


class ArtifactIndexError(Exception):
    """Base of every error that `index` raises on purpose."""


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
        return f"{shown} can't be a {self.kind} id: {self.reason}"


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
        shown = f"its snapshots are 1 to {self.newest}"
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
            f"the bytes of {self.path!r} ({self.digest}) are missing from storage; "
            "bring back its pack from a copy of the store"
        )


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


class LegacyTableError(ArtifactIndexError):
    """The old table that should be adopted can't be read."""

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(database, reason)
        self.database = database
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"nothing can be adopted from {self.database}: {self.reason}; "
            "give the URL of the database with the old files table"
        )


class StoreMismatchError(ArtifactIndexError):
    """The index was made for other storage than it was opened with."""

    def __init__(self, index: str, blobs: str) -> None:
        super().__init__(index, blobs)
        self.index = index
        self.blobs = blobs

    def __str__(self) -> str:
        return (
            f"the index {self.index} belongs to other storage than {self.blobs}; "
            "open it with the storage that it was created with"
        )


class IndexLostError(ArtifactIndexError):
    """Storage holds packs, but the index that knows what is in them is gone."""

    def __init__(self, index: str, blobs: str) -> None:
        super().__init__(index, blobs)
        self.index = index
        self.blobs = blobs

    def __str__(self) -> str:
        return (
            f"{self.blobs} holds packs, but the index {self.index} that belongs to them is gone; "
            "bring it back from a copy, or start a new store elsewhere"
        )


class StoreNotFoundError(ArtifactIndexError, LookupError):
    """Nothing was ever created at that place."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place

    def __str__(self) -> str:
        return f"there is no store at {self.place}; create one with `cas init` or `cas track DIR`"


class IndexUnavailableError(ArtifactIndexError):
    """The database can't be reached, is full, read-only or locked for too long."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"the index {self.url} can't be used: {self.reason}; "
            "mend that and run the command again, nothing was recorded"
        )


class IndexInterruptedError(IndexUnavailableError):
    """The database went away in mid-transaction, or a transaction was in conflict with others."""

    def __init__(self, url: str, reason: str, *, may_have_committed: bool = False) -> None:
        super().__init__(url, reason)
        self.may_have_committed = may_have_committed
        """Whether the commit was on its way: what it recorded may be there."""

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), may_have_committed=self.may_have_committed), self.args

    def __str__(self) -> str:
        if not self.may_have_committed:
            return super().__str__()
        return (
            f"the index {self.url} went away while it committed: {self.reason}; "
            "when it is back, look whether the change is there, and repeat it if not"
        )


class SchemaOutOfDateError(ArtifactIndexError):
    """The index has another schema revision than this release works with."""

    def __init__(self, url: str, current: str | None, head: str, *, newer: bool = False) -> None:
        super().__init__(url, current, head)
        self.url = url
        self.current = current
        self.head = head
        self.newer = newer

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), newer=self.newer), self.args

    def __str__(self) -> str:
        found = f"the index {self.url} has schema {self.current or 'none'}"
        if self.newer:
            return (
                f"{found}, newer than {self.head} that this release works with; "
                "run `pip install --upgrade runcas`"
            )
        command = f"cas --index {shlex.quote(self.url)} db upgrade"
        return f"{found}, this release works with {self.head}; run `{command}`"
