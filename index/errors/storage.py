"""Index and storage that are not there, not usable, or not each other's."""

from __future__ import annotations

import shlex
from functools import partial

__all__ = [
    "ArtifactIndexError",
    "DamagedRecordError",
    "IndexInterruptedError",
    "IndexLostError",
    "IndexPresentError",
    "IndexUnavailableError",
    "LegacyTableError",
    "SchemaOutOfDateError",
    "StoreMismatchError",
    "StoreNotFoundError",
]


class ArtifactIndexError(Exception):
    """Base of every error that `index` raises on purpose."""


class DamagedRecordError(ArtifactIndexError):
    """What a commit left in storage, for an index that is lost, can't be understood."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"a record of a commit can't be used: {self.reason}; recover with a newer runcas"


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


class IndexPresentError(ArtifactIndexError):
    """An index is there, where one should be made anew."""

    def __init__(self, index: str) -> None:
        super().__init__(index)
        self.index = index

    def __str__(self) -> str:
        return (
            f"there is an index at {self.index}, and recovering never puts one over another; "
            "move it away first if it can't be used"
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
            "make it anew with `cas recover`, or bring it back from a copy"
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
