"""One collection of garbage: blobs first, then packs, then orphans.

Each transaction checks again what it acts on. Transactions are short, and each stands by itself. So
a collection can be interrupted at any point, and any number of collections may run at once, beside
writers and readers.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cas.errors import ObjectNotFoundError
from cas.packs.pack import pack_object_name
from cas.store import find_owner
from cas.threads import Threads
from index.db.queries import deletion, liveness, packs, runs
from index.domain.progress import Progress
from index.errors import StorageClaimedError
from index.maintenance.gc import orphans
from index.maintenance.gc.compact import choose, compact
from index.maintenance.gc.report import GcReport, Tally
from index.maintenance.gc.survey import iter_candidates, split_batches
from index.maintenance.gc.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.engine import Connection

    from cas.backend import Backend
    from cas.digest import Digest
    from index.context import StoreContext
    from index.db.queries.liveness import Candidate, Swept
    from index.db.queries.packs import StoredPack
    from index.maintenance.gc.report import DamagedEntry, Orphan
    from index.maintenance.gc.settings import GcOptions

__all__ = ["Collection"]


class Collection:
    """A collection in progress. Used once, by one thread."""

    def __init__(
        self,
        context: StoreContext,
        options: GcOptions,
        progress: Callable[[Progress], None] | None,
        totals: Tally,
    ) -> None:
        self._context = context
        self._options = options
        self._settings = options.settings
        self._progress = progress
        self._totals = totals
        self._transactions = Transactions(context.database, self._settings.rest)
        self._now = context.clock()
        self._since = options.cutoff(self._now)
        self._condemned = Tally()
        self._swept = Tally()
        self._unmarked = 0
        self._packs_deleted = 0
        self._bytes_deleted = 0
        self._compacted = 0
        self._bytes_written = 0
        self._damaged: list[DamagedEntry] = []

    def run(self) -> GcReport:
        """Collect garbage; return the report."""
        # Large blobs first: they keep their chunks, which the same collection can then delete.
        self._collect_blobs(only_large=True)
        self._collect_blobs(only_large=False)
        self._forget_names()
        self._delete_packs()
        if self._options.compact:
            self._compact()
            self._delete_packs()
        found = self._see_to_orphans()
        oldest = self._transactions.read(liveness.oldest_condemned)
        return GcReport(
            condemned=self._condemned,
            swept=self._swept,
            unmarked=self._unmarked,
            packs_deleted=self._packs_deleted,
            bytes_deleted=self._bytes_deleted,
            packs_compacted=self._compacted,
            bytes_written=self._bytes_written,
            damaged=tuple(self._damaged),
            orphans=found,
            next_removal=None if oldest is None else oldest + self._settings.grace,
        )

    def _collect_blobs(self, *, only_large: bool) -> None:
        ranges = iter_candidates(
            self._transactions, self._settings, self._since, only_large=only_large
        )
        for found in ranges:
            if self._since is not None:  # otherwise the collection sweeps them at once
                for batch in self._split([blob for blob in found if blob.condemned_at is None]):
                    self._condemn(batch)
            for batch in self._split([blob for blob in found if self._is_due(blob)]):
                self._sweep(batch)
            for batch in self._split([b for b in found if b.condemned_at and b.is_needed]):
                self._unmark(batch)

    def _split(self, blobs: list[Candidate]) -> Iterable[list[Candidate]]:
        return split_batches(blobs, self._settings, self._context.blobs.chunker.size)

    def _is_due(self, blob: Candidate) -> bool:
        if self._since is None:
            return not blob.is_needed
        return bool(blob.condemned_at and blob.condemned_at <= self._since and not blob.is_needed)

    def _condemn(self, batch: list[Candidate]) -> None:
        digests = [blob.digest for blob in batch]

        def work(connection: Connection) -> set[Digest]:
            return liveness.condemn(connection, digests, self._now, self._since)

        done = self._transactions.write(work) or set()
        size = sum(blob.stored_size for blob in batch if blob.digest in done)
        self._condemned = _plus(self._condemned, len(done), size)

    def _sweep(self, batch: list[Candidate]) -> None:
        digests = [blob.digest for blob in batch]

        def work(connection: Connection) -> Swept:
            return liveness.sweep(connection, digests, self._since)

        done = self._transactions.write(work)
        if done is not None:
            self._swept = _plus(self._swept, done.blobs, done.stored_size)
            self._unmarked += done.unmarked
        self._report()

    def _unmark(self, batch: list[Candidate]) -> None:
        digests = [blob.digest for blob in batch]
        done = self._transactions.write(lambda connection: liveness.unmark(connection, digests))
        self._unmarked += done or 0

    def _forget_names(self) -> None:
        """Delete notes of last owners for blobs that are referenced again."""
        limit = self._settings.batch
        while True:
            found = self._transactions.read(lambda c: deletion.list_referenced(c, limit))
            if not found or not self._transactions.write(partial(_forget, found)):
                return

    def _delete_packs(self) -> None:
        """Declare packs dead that no row points to, and delete dead packs."""
        limit = self._settings.batch

        def pending(connection: Connection) -> list[StoredPack]:
            return packs.declare_pending_dead(connection, self._since, limit)

        while len(self._transactions.write(pending) or ()) == limit:
            pass
        after = 0
        while True:

            def empty(connection: Connection, after: int = after) -> list[StoredPack]:
                return packs.declare_empty_dead(connection, after, limit)

            found = self._transactions.write(empty)
            if not found:
                break
            after = found[-1].id
        self._delete_dead()

    def _delete_dead(self) -> None:
        backend = self._context.blobs.backend
        after = 0
        while True:

            def look(connection: Connection, after: int = after) -> list[StoredPack]:
                return packs.list_of_state(connection, "dead", after, self._settings.batch)

            found = self._transactions.read(look)
            if not found:
                return
            after = found[-1].id
            with Threads(backend.publishes_at_once, "cas-delete") as threads:
                were_there = list(threads.map(partial(_delete, backend), found))
            late = self._now - self._settings.late_publisher
            gone = [
                pack.id
                for pack, was_there in zip(found, were_there, strict=True)
                if was_there or pack.created_at <= late
            ]

            def drop(connection: Connection, gone: list[int] = gone) -> None:
                packs.drop_dead(connection, gone)

            if gone:
                self._transactions.write(drop)
            self._packs_deleted += sum(were_there)
            self._bytes_deleted += sum(
                pack.size for pack, was_there in zip(found, were_there, strict=True) if was_there
            )
            self._report()

    def _compact(self) -> None:
        usages = self._transactions.read(packs.list_usage)
        chosen = choose(usages, self._settings, self._options.max_bytes)
        if not chosen:
            return
        done = compact(
            self._context, self._transactions, [usage for usage, _ in chosen], self._report
        )
        self._compacted, self._bytes_written, self._damaged = done

    def _see_to_orphans(self) -> tuple[Orphan, ...]:
        backend = self._context.blobs.backend
        if self._options.remove_orphans:
            index_id = self._transactions.read(runs.get_index_id)
            if find_owner(backend) not in (None, index_id):  # they may be the packs of that index
                raise StorageClaimedError(self._context.database.url, backend.url)
        seen = []
        for orphan in orphans.find_orphans(self._transactions, backend):
            outcome = orphan
            if self._options.remove_orphans:
                outcome = orphans.remove_orphan(self._transactions, backend, orphan, self._now)
            if outcome.outcome == orphans.REMOVED:
                self._bytes_deleted += orphan.size
            seen.append(outcome)
        return tuple(seen)

    def _report(self) -> None:
        if self._progress is not None:
            totals = self._totals
            self._progress(
                Progress(
                    self._swept.blobs,
                    self._bytes_deleted,
                    max(totals.blobs, self._swept.blobs),
                    max(totals.stored_size, self._bytes_deleted),
                )
            )


def _forget(digests: list[Digest], connection: Connection) -> int:
    return deletion.forget(connection, digests)


def _plus(tally: Tally, blobs: int, size: int) -> Tally:
    return Tally(tally.blobs + blobs, tally.stored_size + size)


def _delete(backend: Backend, pack: StoredPack) -> bool:
    """Delete the object of a dead pack; return whether it existed."""
    name = pack_object_name(pack.name)
    try:
        backend.size(name)
        was_there = True
    except ObjectNotFoundError:
        was_there = False
    backend.delete(name)
    return was_there
