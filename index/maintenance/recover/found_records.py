"""The journal records in storage, sorted by kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from index.errors import DamagedRecordError
from index.journal.encoding import decode_record
from index.journal.entries import (
    BackupEntry,
    CommitEntry,
    DeletionEntry,
    HistoryEntry,
    HoldEntry,
    InputsEntry,
    NewFiles,
    PartEntry,
    QuotaEntry,
    RunEntry,
    VersionsEntry,
)
from index.maintenance.recover.report import RecordedStep

if TYPE_CHECKING:
    from cas.catalog import Location
    from cas.digest import Buffer, Digest
    from cas.reader import BlobReader
    from index.journal.entries import Entry

__all__ = ["FoundRecords"]

_HELD: Final = 16 << 10
"""Records up to this many bytes stay in memory between sorting and applying."""


class FoundRecords:
    """Records by digest. The large parts of records are read again when they are needed."""

    def __init__(self, reader: BlobReader, damaged: list[str]) -> None:
        """Begin without records.

        Parameters
        ----------
        damaged
            Receives the faults of records that can't be used.
        """
        self._reader = reader
        self._damaged = damaged
        self._held: dict[Digest, Entry] = {}
        self._parts: set[Digest] = set()
        self.places: dict[Digest, Location] = {}
        """The locations of the records; filled before records are added."""
        self.entries: dict[Digest, RunEntry] = {}
        """Records in chains of runs, without their files."""
        self.deletions: dict[Digest, DeletionEntry] = {}
        self.rules: dict[Digest, HoldEntry | QuotaEntry] = {}
        self.copies: dict[Digest, BackupEntry] = {}

    def add(self, digest: Digest, data: Buffer | None) -> None:
        """Add a record; None if its bytes are damaged."""
        if data is None:
            self._damaged.append(f"record {digest} is damaged")
            return
        try:
            entry = decode_record(data)
        except DamagedRecordError as error:
            self._damaged.append(f"record {digest}: {error.reason}")
            return
        if len(data) <= _HELD:
            self._held[digest] = entry
        if isinstance(entry, RunEntry):
            self.entries[digest] = _without_files(entry)
        elif isinstance(entry, DeletionEntry):
            self.deletions[digest] = entry
        elif isinstance(entry, HoldEntry | QuotaEntry):
            self.rules[digest] = entry
        elif isinstance(entry, BackupEntry):
            self.copies[digest] = entry
        elif isinstance(entry, PartEntry | VersionsEntry | InputsEntry):
            self._parts.add(digest)

    def leave_out_void(self) -> None:
        """Drop records with missing parts, and holds that were tried again, after all are added."""
        for rule in list(self.rules.values()):
            for digest in rule.replaces if isinstance(rule, HoldEntry) else ():
                self.rules.pop(digest, None)
        for digest, entry in list(self.entries.items()):
            needed = entry.parts if isinstance(entry, CommitEntry | HistoryEntry) else ()
            if not self._parts.issuperset(needed):
                self._damaged.append(f"record {digest} lacks some of its parts")
                del self.entries[digest]

    def read(self, digest: Digest) -> Entry:
        """Return a complete record."""
        held = self._held.get(digest)
        return (
            decode_record(self._reader.fetch(digest, self.places[digest])) if held is None else held
        )

    def describe(self, digest: Digest) -> RecordedStep:
        """Return a record of a chain as reports show it."""
        entry, files = self.entries[digest], 0
        snapshot = agent = None
        if isinstance(entry, CommitEntry):
            snapshot, agent = entry.snapshot, entry.provenance.get("agent")
            whole = self.read(digest)
            assert isinstance(whole, CommitEntry)  # noqa: S101 - it is that record
            files = len(whole.files)
        return RecordedStep(
            entry.session, entry.run, entry.op, snapshot, agent, entry.created_at, files, digest
        )


def _without_files(entry: RunEntry) -> RunEntry:
    """Return a record without its large parts."""
    if isinstance(entry, CommitEntry):
        return replace(entry, files=NewFiles(), notes={}, touched=(), filled=(), removed=(),
                       inputs=())  # fmt: skip
    if isinstance(entry, HistoryEntry):
        return replace(entry, snapshots=())
    return entry
