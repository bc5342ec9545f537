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
from typing import TYPE_CHECKING, ClassVar

from cas.packs.pack import EntryKind, pack_object_name
from index.commit.chain import write_history
from index.db.queries import blobs as blob_rows
from index.db.queries import journal, repairs, verification
from index.db.queries.holders import find_holders
from index.domain.faults import Fault, FaultKind
from index.domain.names import RunKey
from index.domain.progress import Progress
from index.domain.results import Result
from index.maintenance.repair.directories import search_directory
from index.maintenance.repair.mender import Mender
from index.maintenance.repair.salvage import (
    chunks_from_list,
    find_elsewhere,
    salvage_pack,
    set_aside,
    take_cached,
)
from index.maintenance.repair.search import Search
from index.maintenance.repair.stores import search_store
from index.maintenance.verify.findings import MOST_FAULTS, Findings
from index.maintenance.verify.large_blobs import put_together, verify_large
from index.maintenance.verify.packs import PackVerifier, groups, noting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.catalog import ChunkedBlob
    from cas.digest import Digest
    from index.context import StoreContext
    from index.db.queries.repairs import DamagedRow
    from index.db.queries.verification import VerifiablePack

__all__ = ["RepairReport", "plan_repair", "repair"]


def plan_repair(
    context: StoreContext,
    sources: Sequence[StoreContext | str | os.PathLike[str]],
    *,
    progress: Callable[[Progress], None] | None = None,
) -> RepairReport:
    """Return the report of what a repair could restore; write nothing."""
    damaged = _load(context)
    search = Search({row.digest: row.size for row in damaged})
    _search(context, sources, search, progress)
    with context.database.reading() as connection:
        lists = repairs.replaceable_lists(connection, search.wanted.keys())
        chains = journal.list_damaged_chains(connection)
        for digest in (*lists, *journal.list_damaged_digests(connection)):
            search.settle(digest)
        forgotten = journal.count_useless(connection)
        left = dict(verification.find_damaged(connection, MOST_FAULTS))
    left = {digest: since for digest, since in left.items() if digest in search.wanted}
    return RepairReport(
        dry_run=True,
        damaged=len(damaged),
        repaired=len(search.repaired),
        lists=len(lists),
        chains=len(chains),
        forgotten=forgotten,
        bytes_read=search.bytes_read,
        lost=_lost(context, left),
        lost_count=len(left),
    )


def repair(
    context: StoreContext,
    sources: Sequence[StoreContext | str | os.PathLike[str]],
    *,
    progress: Callable[[Progress], None] | None = None,
) -> RepairReport:
    """Repair a store; see `index.api.maintenance.StoreMaintenance.repair`."""
    faulty = _inspect(context)
    damaged = _load(context)
    salvaged = sum(salvage_pack(context, pack) for pack in faulty)
    unneeded = _write(context, repairs.forget_unneeded)
    wanted = {row.digest: row.size for row in damaged}
    with context.database.reading() as connection:
        kinds = repairs.kinds_of(connection, wanted.keys())
    records = {digest for digest, kind in kinds.items() if kind is EntryKind.RECORD}
    with Mender(context, wanted, records) as mender:
        _search(context, sources, mender, progress)
        mender.finish()
        _mend_large(context, mender, [row.digest for row in damaged if row.is_large])
        mender.finish()
        chains, forgotten = _renew_chains(context)
    unneeded += _write(context, repairs.forget_unneeded)
    aside = [pack for pack in faulty if set_aside(context, pack)]
    with context.database.reading() as connection:
        left = dict(verification.find_damaged(connection, MOST_FAULTS))
        lost_count = repairs.count_needed(connection)
    return RepairReport(
        dry_run=False,
        damaged=len(damaged),
        repaired=max(0, len(damaged) - lost_count - unneeded),
        salvaged=salvaged,
        lists=mender.lists,
        chains=chains,
        forgotten=forgotten,
        unneeded=unneeded,
        set_aside=tuple(pack_object_name(pack.name) for pack in aside),
        bytes_read=mender.bytes_read,
        bytes_stored=mender.bytes_stored,
        lost=_lost(context, left),
        lost_count=lost_count,
    )


def _inspect(context: StoreContext) -> list[VerifiablePack]:
    """Read again the packs that may be damaged; return those that are, and those not live."""
    with context.database.reading() as connection:
        packs = repairs.list_doubtful_packs(connection)
    with PackVerifier(context, Findings()) as verifier:
        for group in groups(packs):
            verifier.read(group, _nothing)
    known = {pack.id for pack in verifier.faulty}
    # Blobs must not stay in a pack that garbage collection may delete.
    stray = [pack for pack in packs if pack.state != "live" and pack.id not in known]
    return [*verifier.faulty, *stray]


def _nothing() -> None:
    """Report nothing: only the search has progress to show."""


def _load(context: StoreContext) -> list[DamagedRow]:
    with context.database.reading() as connection:
        return repairs.list_damaged(connection)


def _write(context: StoreContext, work: Callable[[Connection], int]) -> int:
    return noting(context, lambda connection, _now: work(connection))


def _search(
    context: StoreContext,
    sources: Sequence[StoreContext | str | os.PathLike[str]],
    search: Search,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Search all sources for the wanted blobs."""

    def report() -> None:
        if progress is not None:
            progress(Progress(len(search.repaired), search.bytes_read))

    search.offer(b"")  # the bytes of the empty blob are always known
    take_cached(context, search)
    for source in sources:
        if isinstance(source, (str, os.PathLike)):
            search_directory(os.fspath(source), search, context.blobs.chunker, report)
        else:
            search_store(source, context, search, report)
    # Last, because it reads every pack: lost blobs may be in places that no row points to.
    find_elsewhere(context, search)


def _mend_large(context: StoreContext, mender: Mender, large: Sequence[Digest]) -> None:
    """Repair the rows of large blobs from their chunk lists, and the lists from the rows."""
    for blob in chunks_from_list(context, [d for d in large if d in mender.wanted]):
        if _makes_up(context, blob):
            noting(context, partial(repairs.replace_chunks, blob=blob))
            mender.settle(blob.digest)
    left = {digest: mender.wanted[digest] for digest in large if digest in mender.wanted}
    verify_large(context, Findings(), left, _nothing)
    with context.database.reading() as connection:
        unlisted = repairs.list_unlisted(connection)
        sizes = {digest: size for digest, size, _ in unlisted}
        readable = verification.without_damage(connection, list(sizes))
        blobs = blob_rows.locate_large(connection, {d: sizes[d] for d in sorted(readable)})
    verified = {digest for digest, _, is_verified in unlisted if is_verified}
    for digest, blob in blobs.items():
        if digest in verified or _makes_up(context, blob):
            mender.write_list(blob)


def _makes_up(context: StoreContext, blob: ChunkedBlob) -> bool:
    """Whether the chunks of a large blob are stored and make up its bytes."""
    whole, _, _ = put_together(context, {blob.digest: blob}, lambda _size: None)
    return blob.digest in whole


def _lost(context: StoreContext, left: Mapping[Digest, datetime]) -> tuple[Fault, ...]:
    """Return the faults of blobs that stay damaged, with the file versions that they affect."""
    with context.database.reading() as connection:
        holders = find_holders(connection, left.keys())
    lost = []
    for digest, since in left.items():
        touched, touches = holders.get(digest, (0, ()))
        detail = f"none of the sources has its bytes; damaged since {since:%Y-%m-%d %H:%M} UTC"
        lost.append(
            Fault(FaultKind.NOT_REPAIRED, f"blob {digest}", detail, digest, touches, touched)
        )
    return tuple(lost)


def _renew_chains(context: StoreContext) -> tuple[int, int]:
    """Replace damaged journal records, so that no run and no backup needs one.

    Return the number of runs with a new chain that holds their whole history, and the number of
    records of deletions and backups that were dropped. If the record of a deletion is lost, a
    recovery may undo that deletion until garbage collection has deleted the bytes.
    """
    with context.database.reading() as connection:
        runs = journal.list_damaged_chains(connection)
    for session, run in runs:
        write_history(context, RunKey(session, run))
    return len(runs), _write(context, journal.forget_useless)


@dataclass(frozen=True, slots=True)
class RepairReport(Result):
    """The results of a repair, or of its dry run."""

    dry_run: bool
    damaged: int
    """Number of blobs that were marked as damaged."""
    repaired: int
    """Number of damaged blobs, large ones included, that are intact again."""
    lists: int
    """Number of large blobs whose chunk list was written again."""
    chains: int
    """Number of runs with damaged journal records, rewritten from the index."""
    forgotten: int
    """Number of backups and deletion records dropped because they could not be read."""
    bytes_read: int
    """Bytes read from directories and other stores."""
    lost: tuple[Fault, ...]
    """The first thousand blobs that are still damaged, with the affected file versions."""
    lost_count: int
    salvaged: int = 0
    """Number of intact blobs copied out of damaged packs."""
    unneeded: int = 0
    """Number of damaged blobs that nothing refers to. Their rows are deleted."""
    set_aside: tuple[str, ...] = ()
    """Damaged objects that no row points to any more. Copies are under ``damaged/``."""
    bytes_stored: int = 0

    derived: ClassVar = ("is_complete",)

    @property
    def is_complete(self) -> bool:
        """Whether no known damage remains."""
        return not self.lost_count
