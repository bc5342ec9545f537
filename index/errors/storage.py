"""Errors of index and storage: missing, unusable, or not belonging together."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from cas.error_base import AnnotatedError

if TYPE_CHECKING:
    from dataclasses import KW_ONLY

__all__ = [
    "ArtifactIndexError",
    "DamagedRecordError",
    "IndexInterruptedError",
    "IndexLostError",
    "IndexPresentError",
    "IndexUnavailableError",
    "LegacyTableError",
    "SchemaOutOfDateError",
    "StorageClaimedError",
    "StoreMismatchError",
    "StoreNotFoundError",
]


class ArtifactIndexError(AnnotatedError):
    """Base of every error that `index` raises on purpose."""


class DamagedRecordError(ArtifactIndexError):
    """A journal record in storage can't be decoded."""

    reason: str

    def __str__(self) -> str:
        return f"a record of a commit can't be used: {self.reason}; recover with a newer runcas"


class LegacyTableError(ArtifactIndexError):
    """The table to adopt can't be read."""

    database: str
    reason: str

    def __str__(self) -> str:
        return (
            f"nothing can be adopted from {self.database}: {self.reason}; "
            "give the URL of the database with the old files table"
        )


class StoreMismatchError(ArtifactIndexError):
    """The index was opened with storage that it does not belong to."""

    index: str
    blobs: str

    def __str__(self) -> str:
        return (
            f"the index {self.index} belongs to other storage than {self.blobs}; "
            "open it with the storage that it was created with"
        )


class StorageClaimedError(ArtifactIndexError):
    """The storage belongs to another index, to which the packs of this one would be orphans."""

    index: str
    blobs: str

    def __str__(self) -> str:
        return (
            f"{self.blobs} belongs to another index than {self.index}; open it with that one, or "
            "give this one other storage; if that one is gone for good, remove index.json there"
        )


class IndexPresentError(ArtifactIndexError):
    """There is an index where recovery would rebuild one."""

    index: str

    def __str__(self) -> str:
        return (
            f"there is an index at {self.index}, and recovery never replaces one; "
            "move it away first if it can't be used"
        )


class IndexLostError(ArtifactIndexError):
    """Storage holds packs, but the index of their contents is gone."""

    index: str
    blobs: str

    def __str__(self) -> str:
        return (
            f"{self.blobs} holds packs that the index {self.index} does not know; open it with the "
            "index that it belongs to, or, if that is gone, restore a copy of it, or rebuild it "
            "with `index.recover(…)`"
        )


class StoreNotFoundError(ArtifactIndexError, LookupError):
    """There is no store at that place."""

    place: str

    def __str__(self) -> str:
        return f"there is no store at {self.place}; create one with `ArtifactStore.open(…)`"


class IndexUnavailableError(ArtifactIndexError):
    """The database can't be reached, is full, read-only or locked for too long."""

    url: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the index {self.url} can't be used: {self.reason}; "
            "remove the cause and repeat the call, nothing incomplete was recorded"
        )


class IndexInterruptedError(IndexUnavailableError):
    """The connection to the database broke in a transaction, or transactions conflicted."""

    _: KW_ONLY
    may_have_committed: bool = False
    """Whether the commit had been sent, so that it may have succeeded."""

    def __str__(self) -> str:
        if not self.may_have_committed:
            return super().__str__()
        return (
            f"the index {self.url} went away while it committed: {self.reason}; "
            "when it is back, look whether the change is there, and repeat it if not"
        )


class SchemaOutOfDateError(ArtifactIndexError):
    """The index has another schema revision than this release works with."""

    url: str
    current: str | None
    head: str
    _: KW_ONLY
    newer: bool = False

    def __str__(self) -> str:
        found = f"the index {self.url} has schema {self.current or 'none'}"
        if self.newer:
            return (
                f"{found}, newer than {self.head} that this release works with; "
                "run `pip install --upgrade runcas`"
            )
        command = f"cas --index {shlex.quote(self.url)} db upgrade"
        return f"{found}, this release works with {self.head}; run `{command}`"
