"""Rebuild the index of a store from its storage alone.

Packs and blobs come from the footers of packs. The chunks of large blobs come from the chunk lists.
Everything else comes from the newest backup of the index, if there is one, and from later journal
records. One transaction writes it all. An SQLite index gets its name when it is complete.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from cas.catalog import Location
from cas.errors import BackendError, CasError, ObjectNotFoundError
from cas.packs.chunk_list import decode_chunk_list
from cas.packs.pack import EntryKind
from cas.reader import BlobReader
from cas.store import claim_storage
from index.commit.rules import apply_rule
from index.db import schema
from index.db.bulk import batches
from index.db.catalog import TransactionCatalog
from index.db.database import Database, sqlite_url
from index.db.queries import journal, rebuilding, repairs, runs
from index.db.queries.blobs import locate
from index.errors import (
    ArtifactIndexError,
    DamagedRecordError,
    IndexUnavailableError,
    SchemaOutOfDateError,
    UnknownRunError,
    UnknownSessionError,
)
from index.journal.entries import HoldEntry
from index.maintenance.recover import copy_tables
from index.maintenance.recover.chains import Base, arrange
from index.maintenance.recover.found_records import FoundRecords
from index.maintenance.recover.held import Ends, effective
from index.maintenance.recover.inventory import Inventory
from index.maintenance.recover.replay import Replay
from index.maintenance.recover.report import LostFile, RecoveryReport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.backend import Backend
    from cas.digest import Digest
    from index.domain.progress import Progress
    from index.journal.entries import BackupEntry
    from index.maintenance.recover.chains import Chains, Key, Step

__all__ = ["rebuild"]

_UNFIT: Final = (
    LookupError, TypeError, ValueError, OverflowError, AttributeError, SQLAlchemyError,
)  # fmt: skip
"""Errors of a record whose values no commit has written."""

_LOST: Final = 10_000
"""The number of lost file versions that a report names."""


def rebuild(
    backend: Backend,
    database: Database,
    store_id: str,
    clock: Callable[[], datetime],
    progress: Callable[[Progress], None] | None = None,
    *,
    claim: bool,
) -> RecoveryReport:
    """Fill an index with empty tables from storage.

    It uses one transaction: on raise the index is still empty. Storage is only read.

    Parameters
    ----------
    claim
        Whether the storage is to belong to this index, and no longer to the one that was lost.

    Raises
    ------
    BackendError
        When storage fails.
    UnsupportedFormatError
        When a newer release wrote it.
    """
    with database.writing() as connection:
        rebuilding_ = _Rebuilding(backend, connection, clock())
        report = rebuilding_.run(progress)
        runs.insert_store_id(connection, store_id, clock())
        if claim:  # before the commit: a claim without an index is taken over by the next recovery
            claim_storage(backend, runs.get_index_id(connection), replace=True)
    return report


class _Rebuilding:
    """The rebuilding of one index."""

    def __init__(self, backend: Backend, connection: Connection, now: datetime) -> None:
        self._connection = connection
        self._now = now
        self._inventory = Inventory(backend)
        self._reader = BlobReader(backend, TransactionCatalog(connection))
        self._lists: dict[Digest, Location] = {}
        """The locations of chunk lists."""
        self._copies: defaultdict[Digest, list[Location]] = defaultdict(list)
        """Other locations of blobs: two writers stored them at once, or damage was repaired."""
        self._damaged: list[str] = []
        self._records = FoundRecords(self._reader, self._damaged)

    def run(self, progress: Callable[[Progress], None] | None) -> RecoveryReport:
        """Fill the index."""
        self._insert_packs(progress)
        self._choose_copies()
        self._insert_large()
        self._read_records()
        found = self._records
        since = self._begin_with_copy()
        known = self._list_runs(since or self._now)
        applied = rebuilding.list_records(self._connection) if since else frozenset()
        done = {digest: found.deletions[digest] for digest in found.deletions.keys() & applied}
        doubtful = {digest: found.deletions[digest] for digest in found.deletions.keys() - applied}
        later = effective(doubtful, found.rules.values(), found.entries, applied)
        deletions = {**done, **later}
        chains = arrange(
            found.entries,
            deletions,
            {key: base for key, (base, *_) in known.items()},
            applied,
        )
        kept = known.keys() - set(chains.discarded)
        ended = {each.session for each in later.values() if each.is_session}
        ended -= {session for session, _ in kept}
        left = rebuilding.list_sessions(self._connection) - ended
        set_aside = rebuilding.set_aside(self._connection, ended)
        replay = Replay(
            self._connection,
            found.read,
            self._now,
            {key: (run_id, records) for key, (_, run_id, records) in known.items()},
            chains.discarded,
        )
        for step in chains.steps:
            try:
                replay.apply(step)
            except OperationalError:  # of the database itself
                raise
            except _UNFIT as error:
                reason = f"record {step.digest} can't be applied: {error!r}"
                raise DamagedRecordError(reason) from error
        for chain, is_deleted in chains.discarded.items():
            replay.discard(chain, is_deleted=is_deleted)
        rebuilding.delete_sessions(self._connection, set_aside)
        newest = {key: base.newest for key, (base, *_) in self._list_runs(self._now).items()}
        ends = Ends(deletions.values(), newest, found.entries)
        for digest, deletion in sorted(later.items()):
            journal.insert_loose(self._connection, digest)
            if not deletion.is_session and not ends.ended(deletion):
                replay.leave_session(deletion)
        self._apply_rules(applied, {*kept, *((each, None) for each in left)}, ends)
        for digest, entry in found.copies.items():
            if rebuilding.has_blob(self._connection, entry.digest):
                journal.insert_absent(self._connection, entry.digest, digest, entry.created_at)
        # The backup has rows of blobs that were collected after it: older backups, deleted runs.
        journal.forget_lost(self._connection)
        repairs.forget_unneeded(self._connection)
        for digest in rebuilding.list_absent_records(self._connection):
            reason = "only a backup of the index names it; `store.repair()` begins a new chain"
            self._damaged.append(f"record {digest} is missing: {reason}")
        return self._report(chains, since)

    def _insert_packs(self, progress: Callable[[Progress], None] | None) -> None:
        from index.domain.progress import Progress

        kept = self._kept()
        size = 0
        for number, pack in enumerate(self._inventory.iter_packs(), 1):
            pack_id = rebuilding.insert_pack(self._connection, pack.name, pack.size, self._now)
            places = {entry.digest: Location.of(pack.name, entry) for entry in pack.entries}
            inserted = rebuilding.insert_located(self._connection, pack_id, places, self._now)
            if inserted < len(places):
                for digest in rebuilding.list_elsewhere(self._connection, pack_id, places):
                    self._copies[digest].append(places[digest])
            for entry in pack.entries:
                if entry.kind in kept:
                    kept[entry.kind][entry.digest] = places[entry.digest]
            size += pack.size
            if progress is not None:
                progress(Progress(number, size))

    def _kept(self) -> dict[EntryKind, dict[Digest, Location]]:
        """Return the locations to fill for each kind of entry that is read."""
        return {EntryKind.RECORD: self._records.places, EntryKind.CHUNK_LIST: self._lists}

    def _choose_copies(self) -> None:
        """Choose an intact copy of blobs that are in several packs: one may be damaged."""
        for batch in batches(sorted(self._copies)):
            found = locate(self._connection, batch)
            chosen = {d: place for d, place in found.items() if isinstance(place, Location)}
            wrong = [d for d, data in self._inventory.read(chosen) if data is None]
            for digest in sorted(wrong):
                for place in self._copies[digest]:
                    ((_, data),) = self._inventory.read({digest: place})
                    if data is not None:
                        repairs.lead(self._connection, [(digest, place, chosen[digest])])
                        chosen[digest] = place
                        break
            for places in self._kept().values():
                places.update((d, place) for d, place in chosen.items() if d in places)

    def _insert_large(self) -> None:
        for digest, data in self._inventory.read(self._lists):
            if data is None:
                self._damaged.append(f"the list of chunks {digest} is damaged")
                continue
            try:
                blob, sizes = decode_chunk_list(data)
            except ValueError as error:
                self._damaged.append(f"the list of chunks {digest} can't be used: {error}")
                continue
            lengths = dict(zip(blob.chunks, sizes, strict=True))
            rebuilding.insert_absent(self._connection, lengths, self._now)  # even of lost chunks
            rebuilding.insert_large(self._connection, blob, digest, self._now)

    def _read_records(self) -> None:
        for digest, data in self._inventory.read(self._records.places):
            self._records.add(digest, data)
        self._records.leave_out_void()

    def _begin_with_copy(self) -> datetime | None:
        """Start from the newest intact backup of the index; return when it was made."""
        copies = self._records.copies.values()
        for entry in sorted(copies, key=lambda each: each.created_at, reverse=True):
            try:
                with tempfile.TemporaryDirectory(prefix="runcas-recover-") as folder:
                    self._take_over(entry, Path(folder, "index.db"))
            except (CasError, ArtifactIndexError, IntegrityError) as error:
                if _may_pass(error):
                    raise
                self._damaged.append(f"the copy of the index {entry.digest}: {error}")
            else:
                return entry.created_at
        return None

    def _take_over(self, entry: BackupEntry, file: Path) -> None:
        with file.open("wb") as opened:
            for piece in self._reader.iter_pieces(entry.digest):
                opened.write(piece)
        # A backup that can't be copied completely leaves no rows.
        with _opened_copy(file) as copy, self._connection.begin_nested():
            copy_tables.copy_blobs(copy, self._connection, self._now)
            copy_tables.copy_meaning(copy, self._connection)
            copy_tables.settle_ids(self._connection)

    def _list_runs(self, seen_at: datetime) -> dict[Key, tuple[Base, int, int]]:
        return {
            (session, run): (
                Base(newest, revision, created_at.isoformat(), seen_at),
                run_id,
                records,
            )
            for session, run, newest, revision, created_at, run_id, records in (
                rebuilding.list_chained(self._connection)
            )
        }

    def _apply_rules(
        self, applied: Collection[Digest], kept: Collection[tuple[str, str | None]], ends: Ends
    ) -> None:
        """Apply holds and quotas, in the order of their times.

        Parameters
        ----------
        kept
            The runs, and sessions, that are still those of the backup, which has their holds.
        """
        rules = self._records.rules
        for digest in sorted(rules, key=lambda each: (rules[each].created_at, each)):
            rule = rules[digest]
            if digest not in applied:
                journal.insert_loose(self._connection, digest)
            elif isinstance(rule, HoldEntry) and (rule.session, rule.run) in kept:
                continue
            if ends.ended(rule):
                continue
            if isinstance(rule, HoldEntry) and rule.run is None and not rule.is_release:
                # Nothing else may tell of it.
                runs.ensure_session(self._connection, rule.session, rule.owner_created_at)
            with suppress(UnknownRunError, UnknownSessionError):  # it is lost
                apply_rule(self._connection, rule)

    def _report(self, chains: Chains, since: datetime | None) -> RecoveryReport:
        packs, blobs, sessions, runs_, snapshots, versions = rebuilding.counts(self._connection)
        last: dict[object, Step] = {step.chain: step for step in chains.steps}
        discarded = set(chains.discarded)
        return RecoveryReport(
            packs=packs,
            blobs=blobs,
            sessions=sessions,
            runs=runs_,
            snapshots=snapshots,
            versions=versions,
            from_backup=since,
            unconfirmed=tuple(
                self._records.describe(step.digest)
                for chain, step in last.items()
                if not step.is_named and chain not in discarded
            ),
            never_arrived=tuple(
                self._records.describe(digest)
                for digest in chains.never_arrived
                if digest in self._records.entries
            ),
            gaps=tuple(
                self._records.describe(step.digest) for step in chains.steps if step.has_gap
            ),
            deleted=tuple(chains.gone),
            damaged_packs=tuple(self._inventory.damaged),
            damaged_records=tuple(self._damaged),
            lost=tuple(LostFile(*row) for row in rebuilding.list_lost(self._connection, _LOST)),
        )


def _may_pass(error: Exception) -> bool:
    """Whether storage or a disk failed, so that the backup itself may be intact."""
    if isinstance(error, BackendError):
        return not isinstance(error, ObjectNotFoundError)
    return isinstance(error, IndexUnavailableError) and isinstance(
        error.__cause__, OperationalError
    )


@contextmanager
def _opened_copy(file: Path) -> Iterator[Connection]:
    copy = Database(sqlite_url(file))
    try:
        with suppress(SchemaOutOfDateError):  # the check reports it
            schema.upgrade(copy)
        schema.check(copy)
        with copy.reading() as connection:
            yield connection
    finally:
        copy.close()
