"""Repair: what is damaged is had again, by digest, from wherever it still is.

In this order: what is right in damaged packs is carried out of them; what is damaged is looked for
in the cache, in the sources that are given, and in all of the store's packs; then lists and rows of
large blobs are made to agree. At each step bytes are durable before one transaction leads rows to
them. Nothing is deleted: an object to which no row leads any more is set aside.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from cas.packs.pack import EntryKind, pack_object_name
from index.commit.chain import write_history
from index.db.queries import blobs as blob_rows
from index.db.queries import journal, repairs, verification
from index.db.queries.holders import find_holders
from index.domain.faults import Fault, FaultKind
from index.domain.names import RunKey
from index.domain.snapshots import Progress
from index.maintenance.repair.directories import search_directory
from index.maintenance.repair.mender import Mender
from index.maintenance.repair.salvage import (
    chunks_from_list,
    find_elsewhere,
    salvage_pack,
    set_aside,
    take_cached,
)
from index.maintenance.repair.stores import search_store
from index.maintenance.verify.findings import MOST_FAULTS, Findings
from index.maintenance.verify.large_blobs import put_together, verify_large
from index.maintenance.verify.packs import PackVerifier, groups, noting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection

    from cas.catalog import ChunkedBlob
    from cas.digest import Digest
    from index.context import StoreContext
    from index.db.queries.repairs import DamagedRow
    from index.db.queries.verification import VerifiablePack

__all__ = ["Renewed", "RepairReport", "renew_chains", "repair"]


def repair(
    context: StoreContext,
    sources: Sequence[StoreContext | str | os.PathLike[str]],
    *,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> RepairReport:
    """Repair a store; see `index.api.maintenance.StoreMaintenance.repair`."""
    return _Repair(context, sources, dry_run, progress).run()


class _Repair:
    def __init__(
        self,
        context: StoreContext,
        sources: Sequence[StoreContext | str | os.PathLike[str]],
        dry_run: bool,  # noqa: FBT001 - as its caller has it
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._context = context
        self._sources = sources
        self._dry_run = dry_run
        self._progress = progress
        self._rescued = 0
        self._report: Callable[[], None] = lambda: None

    def run(self) -> RepairReport:
        faulty = self._inspect()
        damaged = self._load()
        unneeded = 0
        if not self._dry_run:
            for pack in faulty:
                self._rescued += salvage_pack(self._context, pack)
            unneeded = self._write(repairs.forget_unneeded)
        wanted = {row.digest: row.size for row in damaged}
        with Mender(self._context, wanted, dry_run=self._dry_run) as mender:
            self._report = lambda: self._tell(mender)
            self._search(mender)
            mender.finish()
            self._agree(mender, [row.digest for row in damaged if row.is_large])
            mender.finish()
            renewed = renew_chains(self._context, mender, dry_run=self._dry_run)
        aside = []
        if not self._dry_run:
            unneeded += self._write(repairs.forget_unneeded)
            aside = [pack for pack in faulty if set_aside(self._context, pack)]
        return self._told(damaged, mender, renewed, unneeded, aside)

    def _inspect(self) -> list[VerifiablePack]:
        """Read the packs in which something may be wrong once more; return those where it is."""
        with self._context.database.reading() as connection:
            packs = repairs.list_doubtful_packs(connection)
        if self._dry_run:
            return packs
        with PackVerifier(self._context, Findings()) as verifier:
            for group in groups(packs):
                verifier.read(group, self._report)
        known = {pack.id for pack in verifier.faulty}
        # Blobs must not stay in a pack that garbage collection may delete at any time.
        stray = [pack for pack in packs if pack.state != "live" and pack.id not in known]
        return [*verifier.faulty, *stray]

    def _load(self) -> list[DamagedRow]:
        with self._context.database.reading() as connection:
            return repairs.list_damaged(connection)

    def _write(self, work: Callable[[Connection], int]) -> int:
        return noting(self._context, lambda connection, _now: work(connection))

    def _search(self, mender: Mender) -> None:
        """Look for everything that is wanted."""
        context = self._context
        with context.database.reading() as connection:
            kinds = repairs.kinds_of(connection, mender.wanted.keys())
        mender.records = {digest for digest, kind in kinds.items() if kind is EntryKind.RECORD}
        mender.offer(b"")  # of which everything is known
        take_cached(context, mender)
        for source in self._sources:
            if isinstance(source, (str, os.PathLike)):
                chunk_size = context.blobs.chunk_size
                search_directory(os.fspath(source), mender, chunk_size, self._report)
            else:
                search_store(source, context, mender, self._report)
        # Last, as it asks for every pack: what is missing still may be where no row leads.
        find_elsewhere(context, mender, dry_run=self._dry_run)

    def _agree(self, mender: Mender, large: Sequence[Digest]) -> None:
        """Mend rows of large blobs by their lists, and lists by the rows."""
        context = self._context
        if self._dry_run:
            with context.database.reading() as connection:
                ready = repairs.replaceable_lists(connection, mender.wanted.keys())
            for digest in ready:
                mender.settle(digest)
            mender.lists += len(ready)
            return
        for blob in chunks_from_list(context, [d for d in large if d in mender.wanted]):
            if self._makes_up(blob):
                noting(context, partial(repairs.replace_chunks, blob=blob))
                mender.settle(blob.digest)
        left = {digest: mender.wanted[digest] for digest in large if digest in mender.wanted}
        verify_large(context, Findings(), left, self._report)
        with context.database.reading() as connection:
            unlisted = repairs.list_unlisted(connection)
            sizes = {digest: size for digest, size, _ in unlisted}
            readable = verification.without_damage(connection, list(sizes))
            blobs = blob_rows.locate_large(connection, {d: sizes[d] for d in sorted(readable)})
        verified = {digest for digest, _, is_verified in unlisted if is_verified}
        for digest, blob in blobs.items():
            if digest in verified or self._makes_up(blob):
                mender.write_list(blob)

    def _makes_up(self, blob: ChunkedBlob) -> bool:
        whole, _, _ = put_together(self._context, {blob.digest: blob}, lambda _size: None)
        return blob.digest in whole

    def _tell(self, mender: Mender) -> None:
        if self._progress is not None:
            self._progress(Progress(len(mender.mended), mender.bytes_read))

    def _told(
        self,
        damaged: Sequence[DamagedRow],
        mender: Mender,
        renewed: Renewed,
        unneeded: int,
        aside: Sequence[VerifiablePack],
    ) -> RepairReport:
        with self._context.database.reading() as connection:
            left = dict(verification.find_damaged(connection, MOST_FAULTS))
            count = repairs.count_needed(connection)
            if self._dry_run:
                left = {digest: since for digest, since in left.items() if digest in mender.wanted}
                count = sum(1 for digest in mender.wanted if digest in left)
            holders = find_holders(connection, left.keys())
        mended = len(damaged) - count - unneeded
        lost = []
        for digest, since in left.items():
            touched, touches = holders.get(digest, (0, ()))
            detail = f"none of the sources has its bytes; damaged since {since:%Y-%m-%d %H:%M} UTC"
            lost.append(
                Fault(FaultKind.NOT_MENDED, f"blob {digest}", detail, digest, touches, touched)
            )
        return RepairReport(
            dry_run=self._dry_run,
            damaged=len(damaged),
            mended=len(mender.mended) if self._dry_run else max(0, mended),
            rescued=self._rescued,
            lists=mender.lists,
            chains=renewed.chains,
            forgotten=renewed.forgotten,
            unneeded=unneeded,
            set_aside=tuple(pack_object_name(pack.name) for pack in aside),
            bytes_read=mender.bytes_read,
            bytes_stored=mender.bytes_stored,
            lost=tuple(lost),
            lost_count=count,
        )


class Renewed(NamedTuple):
    """What was done about damaged records."""

    chains: int
    """Runs whose chain of records begins anew, with all of their history."""
    forgotten: int
    """Notes of deletions and copies of the index that are of no use any more."""


def renew_chains(context: StoreContext, mender: Mender, *, dry_run: bool) -> Renewed:
    """Let no run, and no copy of the index, rest on a damaged record.

    On return what was damaged is needed by nothing. A deletion whose note is lost may be undone by
    a recovery, until garbage collection has taken what was deleted.
    """
    with context.database.reading() as connection:
        runs = journal.list_damaged_chains(connection)
        settled = journal.list_damaged_digests(connection)
    if dry_run:
        for digest in settled:
            mender.settle(digest)
        with context.database.reading() as connection:
            return Renewed(len(runs), journal.count_useless(connection))
    for session, run in runs:
        key = RunKey(session, run)
        write_history(context, key)
    forgotten = noting(context, lambda connection, _now: journal.forget_useless(connection))
    return Renewed(len(runs), forgotten)


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did, or would do if it is a dry run."""

    dry_run: bool
    damaged: int
    """Blobs that were known to be damaged."""
    mended: int
    """Of these, and of large blobs: whole again."""
    rescued: int
    """Blobs that were right, and carried out of damaged packs."""
    lists: int
    """Large blobs whose list of chunks was written to storage anew."""
    chains: int
    """Runs whose records of commits were damaged, and were written anew from the index."""
    forgotten: int
    """Copies of the index, and notes of deletions, that could not be read any more."""
    unneeded: int
    """Damaged blobs that nothing refers to: they are not known to the index any more."""
    set_aside: tuple[str, ...]
    """Damaged objects to which no row leads any more; copies of them are under ``damaged/``."""
    bytes_read: int
    """From directories and other stores."""
    bytes_stored: int
    lost: tuple[Fault, ...]
    """The first thousand blobs that are still damaged, with the file versions they touch."""
    lost_count: int

    @property
    def is_complete(self) -> bool:
        """Whether nothing is damaged any more, as far as is known."""
        return not self.lost_count
