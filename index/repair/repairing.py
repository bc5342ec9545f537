"""Repair: what is damaged is had again, by digest, from wherever it still is.

In this order: what is right in damaged packs is carried out of them; what is damaged is looked for
in the cache, in the sources that are given, and in all of the store's packs; then lists and rows of
large blobs are made to agree. At each step bytes are durable before one transaction leads rows to
them. Nothing is deleted: an object to which no row leads any more is set aside.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from cas.packs.pack import EntryKind, pack_object_name
from index.records import Progress
from index.repair.chains import renew_chains
from index.repair.directories import search_directory
from index.repair.mender import Mender
from index.repair.records import RepairReport
from index.repair.rescue import (
    carry_out,
    chunks_from_list,
    find_elsewhere,
    set_aside,
    take_cached,
)
from index.repair.stores import search_store
from index.repository import blobs as blob_rows
from index.repository import repairs, verification
from index.repository.holders import find_holders
from index.verification.findings import MOST_FAULTS, Findings
from index.verification.large import put_together, verify_large
from index.verification.packs import PackVerifier, groups, noting
from index.verification.records import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection

    from cas.catalog import ChunkedBlob
    from cas.digest import Digest
    from index.repair.chains import Renewed
    from index.repository.repairs import DamagedRow
    from index.repository.verification import PackRow
    from index.services import Services

__all__ = ["repair"]


def repair(
    services: Services,
    sources: Sequence[Services | str | os.PathLike[str]],
    *,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> RepairReport:
    """Repair a store; see `index.upkeep.Upkeep.repair`."""
    return _Repair(services, sources, dry_run, progress).run()


class _Repair:
    def __init__(
        self,
        services: Services,
        sources: Sequence[Services | str | os.PathLike[str]],
        dry_run: bool,  # noqa: FBT001 - as its caller has it
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._services = services
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
                self._rescued += carry_out(self._services, pack)
            unneeded = self._write(repairs.forget_unneeded)
        wanted = {row.digest: row.size for row in damaged}
        with Mender(self._services, wanted, dry_run=self._dry_run) as mender:
            self._report = lambda: self._tell(mender)
            self._search(mender)
            mender.finish()
            self._agree(mender, [row.digest for row in damaged if row.is_large])
            mender.finish()
            renewed = renew_chains(self._services, mender, dry_run=self._dry_run)
        aside = []
        if not self._dry_run:
            unneeded += self._write(repairs.forget_unneeded)
            aside = [pack for pack in faulty if set_aside(self._services, pack)]
        return self._told(damaged, mender, renewed, unneeded, aside)

    def _inspect(self) -> list[PackRow]:
        """Read the packs in which something may be wrong once more; return those where it is."""
        with self._services.database.reading() as connection:
            packs = repairs.list_doubtful_packs(connection)
        if self._dry_run:
            return packs
        with PackVerifier(self._services, Findings()) as verifier:
            for group in groups(packs):
                verifier.read(group, self._report)
        known = {pack.id for pack in verifier.faulty}
        # Blobs must not stay in a pack that garbage collection may delete at any time.
        stray = [pack for pack in packs if pack.state != "live" and pack.id not in known]
        return [*verifier.faulty, *stray]

    def _load(self) -> list[DamagedRow]:
        with self._services.database.reading() as connection:
            return repairs.list_damaged(connection)

    def _write(self, work: Callable[[Connection], int]) -> int:
        return noting(self._services, lambda connection, _now: work(connection))

    def _search(self, mender: Mender) -> None:
        """Look for everything that is wanted."""
        services = self._services
        with services.database.reading() as connection:
            kinds = repairs.kinds_of(connection, mender.wanted.keys())
        mender.records = {digest for digest, kind in kinds.items() if kind is EntryKind.RECORD}
        mender.offer(b"")  # of which everything is known
        take_cached(services, mender)
        for source in self._sources:
            if isinstance(source, (str, os.PathLike)):
                chunk_size = services.blobs.chunk_size
                search_directory(os.fspath(source), mender, chunk_size, self._report)
            else:
                search_store(source, services, mender, self._report)
        # Last, as it asks for every pack: what is missing still may be where no row leads.
        find_elsewhere(services, mender, dry_run=self._dry_run)

    def _agree(self, mender: Mender, large: Sequence[Digest]) -> None:
        """Mend rows of large blobs by their lists, and lists by the rows."""
        services = self._services
        if self._dry_run:
            with services.database.reading() as connection:
                ready = repairs.replaceable_lists(connection, mender.wanted.keys())
            for digest in ready:
                mender.settle(digest)
            mender.lists += len(ready)
            return
        for blob in chunks_from_list(services, [d for d in large if d in mender.wanted]):
            if self._makes_up(blob):
                noting(services, partial(repairs.replace_chunks, blob=blob))
                mender.settle(blob.digest)
        left = {digest: mender.wanted[digest] for digest in large if digest in mender.wanted}
        verify_large(services, Findings(), left, self._report)
        with services.database.reading() as connection:
            unlisted = repairs.list_unlisted(connection)
            sizes = {digest: size for digest, size, _ in unlisted}
            readable = verification.without_damage(connection, list(sizes))
            blobs = blob_rows.locate_large(connection, {d: sizes[d] for d in sorted(readable)})
        verified = {digest for digest, _, is_verified in unlisted if is_verified}
        for digest, blob in blobs.items():
            if digest in verified or self._makes_up(blob):
                mender.write_list(blob)

    def _makes_up(self, blob: ChunkedBlob) -> bool:
        whole, _, _ = put_together(self._services, {blob.digest: blob}, lambda _size: None)
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
        aside: Sequence[PackRow],
    ) -> RepairReport:
        with self._services.database.reading() as connection:
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
