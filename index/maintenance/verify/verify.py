"""Verification of a whole store, from its rows down to every byte.

Verification locks nothing: writers, garbage collection and compaction continue. So anything that
looks wrong is checked again in a new transaction before it counts as a fault. Results are saved
continuously. Blobs are marked as damaged, so that writers store them again and `repair` finds them.
Packs are marked as verified, so that the next verification begins with the others.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from index.db.queries import row_checks, verification
from index.db.queries.verification import VerifiablePack
from index.decorators import relaxed_gc
from index.domain.faults import Depth, Fault, FaultKind, VerifyReport
from index.domain.progress import Progress
from index.maintenance.verify.findings import MOST_FAULTS, Findings
from index.maintenance.verify.large_blobs import verify_large
from index.maintenance.verify.objects import compare_objects
from index.maintenance.verify.packs import PackVerifier, groups, noting
from index.maintenance.verify.references import check_references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cas.digest import Digest
    from index.context import StoreContext
    from index.db.queries.verification import LargeRow
    from index.maintenance.verify.objects import Listing

__all__ = ["verify"]

_NEVER: Final = datetime.min.replace(tzinfo=UTC)

_LARGE_BYTES: Final = 1 << 30
"""Bytes of large blobs assembled together, so that blobs that begin alike share work."""


@relaxed_gc()
def verify(
    context: StoreContext,
    *,
    depth: Depth,
    max_bytes: int | None = None,
    references: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> VerifyReport:
    """Verify a store; see `index.api.maintenance.StoreMaintenance.verify`."""
    verification = _Verification(context, depth, max_bytes, progress)
    if references:
        check_references(context, verification.findings)
    return verification.run()


class _Verification:
    def __init__(
        self,
        context: StoreContext,
        depth: Depth,
        max_bytes: int | None,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._context = context
        self._depth = depth
        self._max_bytes = max_bytes
        self._progress = progress
        self.findings = Findings()
        self._total = 0
        self._left: list[VerifiablePack | LargeRow] = []
        self._settled: set[Digest] = set()
        """Large blobs that this verification has already verified."""

    def run(self) -> VerifyReport:
        listing = compare_objects(self._context)
        suspects = {pack.id: pack for pack in listing.suspects}
        without_list = self._check_rows(suspects)
        with PackVerifier(self._context, self.findings) as packs:
            self._read_suspects(packs, suspects.values())
            rest = [pack for pack in listing.live if pack.id not in suspects]
            if self._depth is Depth.PACKS:
                packs.look(rest, self._report)
            elif self._depth is Depth.BYTES:
                self._read_all(packs, rest)
        return self._result(listing, without_list)

    def _check_rows(self, suspects: dict[int, VerifiablePack]) -> int:
        """Check the rows against each other; add the packs that may be faulty to `suspects`."""
        broken = self._settled
        doubtful: list[int] = []
        with self._context.database.reading() as connection:
            for found in row_checks.find_unsound(connection):
                self.findings.add_row(found)
                if found.kind is FaultKind.BROKEN_CHUNKS and found.digest is not None:
                    broken.add(found.digest)
                if found.pack_id is not None:
                    doubtful.append(found.pack_id)
            without_list = row_checks.count_without_list(connection)
            packs = verification.list_packs(connection, sorted(set(doubtful)))
        suspects.update((pack.id, pack) for pack in packs)
        if broken:
            noting(
                self._context,
                lambda connection, now: verification.mark_large(connection, now, digests=broken),
            )
        return without_list

    def _read_suspects(self, packs: PackVerifier, suspects: Iterable[VerifiablePack]) -> None:
        for group in groups(list(suspects)):
            packs.read(group, self._report)

    def _read_all(self, packs: PackVerifier, rest: Sequence[VerifiablePack]) -> None:
        """Read packs and assemble large blobs, the least recently verified first."""
        with self._context.database.reading() as connection:
            large = verification.list_large(connection)
        due: list[VerifiablePack | LargeRow] = []
        due += rest
        due += large
        due.sort(key=lambda row: (row.verified_at or _NEVER, not isinstance(row, VerifiablePack)))
        self._total = sum(row.size for row in due)
        while due and not self._is_spent():
            kind = type(due[0])
            size = 0
            alike: list[VerifiablePack | LargeRow] = []
            for row in due:
                if type(row) is not kind or (alike and size + row.size > self._room()):
                    break
                alike.append(row)
                size += row.size
            del due[: len(alike)]
            self._read_alike(packs, alike)
        self._left = due

    def _read_alike(self, packs: PackVerifier, alike: Sequence[VerifiablePack | LargeRow]) -> None:
        packs_due = [row for row in alike if isinstance(row, VerifiablePack)]
        for group in groups(packs_due):
            packs.read(group, self._report)
        sizes = {row.digest: row.size for row in alike if not isinstance(row, VerifiablePack)}
        sizes.update(self._sizes(packs.doubtful))
        packs.doubtful.clear()
        sizes = {digest: sizes[digest] for digest in sizes.keys() - self._settled}
        self._settled.update(sizes)
        if sizes:
            unreadable = verify_large(self._context, self.findings, sizes, self._report)
            self._read_suspects(packs, self._packs_of(unreadable))

    def _room(self) -> int:
        """Return the number of bytes that may be read at once."""
        if self._max_bytes is None:
            return _LARGE_BYTES
        return min(_LARGE_BYTES, self._max_bytes - self.findings.bytes_read)

    def _is_spent(self) -> bool:
        return self._max_bytes is not None and self.findings.bytes_read >= self._max_bytes

    def _sizes(self, large: Iterable[Digest]) -> dict[Digest, int]:
        with self._context.database.reading() as connection:
            rows = verification.list_large(connection, list(large))
        return {row.digest: row.size for row in rows}

    def _packs_of(self, chunks: Iterable[Digest]) -> list[VerifiablePack]:
        with self._context.database.reading() as connection:
            return verification.packs_of(connection, list(chunks))

    def _report(self) -> None:
        if self._progress is not None:
            read = self.findings.bytes_read
            total = self._total if self._max_bytes is None else min(self._max_bytes, self._total)
            self._progress(Progress(self.findings.blobs_read, read, None, max(total, read)))

    def _result(self, listing: Listing, without_list: int) -> VerifyReport:
        findings = self.findings
        with self._context.database.reading() as connection:
            known = findings.knows()
            for digest, since in verification.find_damaged(connection, MOST_FAULTS):
                if digest not in known:
                    detail = f"it was found damaged on {since:%Y-%m-%d %H:%M} UTC"
                    findings.add(Fault(FaultKind.NOT_REPAIRED, f"blob {digest}", detail, digest))
            return VerifyReport(
                depth=self._depth,
                faults=findings.explained(connection),
                counts=dict(findings.counts),
                packs=len(listing.live),
                packs_read=findings.packs_read,
                blobs_read=findings.blobs_read,
                bytes_read=findings.bytes_read,
                recovered=findings.recovered,
                pending=listing.pending,
                dead=listing.dead,
                orphans=tuple(listing.orphans),
                orphan_count=listing.orphan_count,
                orphan_bytes=listing.orphan_bytes,
                unused_bytes=findings.unused_bytes,
                without_list=without_list,
                packs_left=sum(isinstance(row, VerifiablePack) for row in self._left),
                bytes_left=sum(row.size for row in self._left),
                oldest_verified=verification.oldest_verified(connection),
                marked=verification.count_damaged(connection),
                references=findings.references,
                unreachable=tuple(findings.unreachable),
            )
