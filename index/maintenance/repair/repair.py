"""Repair: restore damaged blobs from any remaining copy, by digest.

The steps are, in this order:

1. Copy intact blobs out of damaged packs.
2. Search for damaged blobs in the cache, in the given sources, and in all packs of the store.
3. Make the chunk lists and rows of large blobs agree.

At each step the bytes are durable before a transaction points rows to them. Repair deletes nothing:
it sets aside objects that no row points to any more.
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
        return self._result(damaged, mender, renewed, unneeded, aside)

    def _inspect(self) -> list[VerifiablePack]:
        """Read the packs that may be damaged again; return those that are."""
        with self._context.database.reading() as connection:
            packs = repairs.list_doubtful_packs(connection)
        if self._dry_run:
            return packs
        with PackVerifier(self._context, Findings()) as verifier:
            for group in groups(packs):
                verifier.read(group, self._report)
        known = {pack.id for pack in verifier.faulty}
        # Blobs must not stay in a pack that garbage collection may delete.
        stray = [pack for pack in packs if pack.state != "live" and pack.id not in known]
        return [*verifier.faulty, *stray]

    def _load(self) -> list[DamagedRow]:
        with self._context.database.reading() as connection:
            return repairs.list_damaged(connection)

    def _write(self, work: Callable[[Connection], int]) -> int:
        return noting(self._context, lambda connection, _now: work(connection))

    def _search(self, mender: Mender) -> None:
        """Search all sources for the wanted blobs."""
        context = self._context
        with context.database.reading() as connection:
            kinds = repairs.kinds_of(connection, mender.wanted.keys())
        mender.records = {digest for digest, kind in kinds.items() if kind is EntryKind.RECORD}
        mender.offer(b"")  # the bytes of the empty blob are always known
        take_cached(context, mender)
        for source in self._sources:
            if isinstance(source, (str, os.PathLike)):
                chunk_size = context.blobs.chunk_size
                search_directory(os.fspath(source), mender, chunk_size, self._report)
            else:
                search_store(source, context, mender, self._report)
        # Last, because it reads every pack: lost blobs may be in places that no row points to.
        find_elsewhere(context, mender, dry_run=self._dry_run)

    def _agree(self, mender: Mender, large: Sequence[Digest]) -> None:
        """Repair the rows of large blobs from their chunk lists, and the lists from the rows."""
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

    def _result(
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
    """The repair of damaged journal records."""

    chains: int
    """Number of runs with a new chain of records that holds their whole history."""
    forgotten: int
    """Number of deletion records and backups dropped because they can't be read."""


def renew_chains(context: StoreContext, mender: Mender, *, dry_run: bool) -> Renewed:
    """Replace damaged journal records, so that no run and no backup needs one.

    On return nothing needs the damaged records. If the record of a deletion is lost, a recovery may
    undo that deletion until garbage collection has deleted the bytes.
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
    """The results of a repair, or of its dry run."""

    dry_run: bool
    damaged: int
    """Number of blobs that were marked as damaged."""
    mended: int
    """Number of damaged blobs, large ones included, that are intact again."""
    rescued: int
    """Number of intact blobs copied out of damaged packs."""
    lists: int
    """Number of large blobs whose chunk list was written again."""
    chains: int
    """Number of runs with damaged journal records, rewritten from the index."""
    forgotten: int
    """Number of backups and deletion records dropped because they could not be read."""
    unneeded: int
    """Number of damaged blobs that nothing refers to. Their rows are deleted."""
    set_aside: tuple[str, ...]
    """Damaged objects that no row points to any more. Copies are under ``damaged/``."""
    bytes_read: int
    """Bytes read from directories and other stores."""
    bytes_stored: int
    lost: tuple[Fault, ...]
    """The first thousand blobs that are still damaged, with the affected file versions."""
    lost_count: int

    @property
    def is_complete(self) -> bool:
        """Whether no known damage remains."""
        return not self.lost_count
