"""Verifying packs, a group at a time, and noting what was found of each group."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeVar

from cas.packs.chunk_list import decode_chunk_list
from cas.packs.inspector import PackInspector
from index.db.queries import blobs as blob_rows
from index.db.queries import verification
from index.domain.faults import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from sqlalchemy.engine import Connection

    from cas.catalog import Location
    from cas.digest import Digest
    from cas.packs.inspector import PackVerdict
    from index.context import StoreContext
    from index.db.queries.verification import VerifiablePack
    from index.maintenance.verify.findings import Findings

T = TypeVar("T")

__all__ = ["PackVerifier", "groups", "noting"]

_GROUP_BYTES: Final = 256 << 20
_GROUP_PACKS: Final = 100
"""Packs whose rows are read by one statement, and whose outcome is noted by one transaction."""


class _Located(NamedTuple):
    """A pack and what the index has in it."""

    pack: VerifiablePack
    entries: Mapping[Digest, Location]


class PackVerifier:
    """Verifies packs of a store and notes the outcome. A context manager.

    Whatever looks wrong is looked at once more, in full and with rows that are read anew: a pack
    may have been deleted meanwhile, a blob moved, a request answered badly.
    """

    def __init__(self, context: StoreContext, findings: Findings) -> None:
        self._context = context
        self._findings = findings
        self._inspector = PackInspector(context.blobs.backend)
        self._threads = ThreadPoolExecutor(
            max(1, context.blobs.backend.publishes_at_once), "cas-verify"
        )
        self.doubtful: set[Digest] = set()
        """Large blobs whose chunks are not those of the list that is kept in storage."""
        self.faulty: list[VerifiablePack] = []
        """Packs in which something is wrong."""

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._inspector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def look(self, packs: Sequence[VerifiablePack], report: Callable[[], None]) -> None:
        """Read footers; a pack in which something looks wrong is read whole."""
        for group in groups(packs):
            located = self._locate(group)
            verdicts = self._threads.map(
                lambda found: self._inspector.look(found.pack.name, found.entries), located
            )
            wrong = []
            for found, verdict in zip(located, verdicts, strict=True):
                if verdict.is_whole and verdict.size == found.pack.size:
                    self._count(found, verdict)
                else:
                    self._findings.bytes_read += verdict.bytes_read
                    wrong.append(found.pack)
                report()
            for pack in wrong:
                self._look_again(pack)

    def read(self, packs: Sequence[VerifiablePack], report: Callable[[], None]) -> None:
        """Read every byte of some packs, and note those that are whole as verified."""
        located = self._locate(packs)
        with self._context.database.reading() as connection:
            lists = verification.list_chunk_lists(connection, packs)
        whole, wrong = [], []
        kept: dict[Digest, bytes] = {}
        verdicts = self._threads.map(
            lambda found: self._inspector.read(found.pack.name, found.entries, keep=lists.keys()),
            located,
        )
        for found, verdict in zip(located, verdicts, strict=True):
            if verdict.is_whole and verdict.size == found.pack.size:
                self._count(found, verdict)
                whole.append(found.pack.id)
                kept.update(verdict.kept)
            else:
                self._findings.bytes_read += verdict.bytes_read
                wrong.append(found.pack)
            report()
        self._compare_lists(lists, kept)
        if whole:
            self._findings.recovered += noting(
                self._context,
                lambda connection, now: verification.note_verified(connection, whole, now),
            )
        for pack in wrong:
            self._look_again(pack)
            report()

    def _look_again(self, pack: VerifiablePack) -> None:
        """Read a pack whole once more; what is wrong now is wrong."""
        with self._context.database.reading() as connection:
            fresh = verification.list_packs(connection, [pack.id])
            entries = verification.locate_in_packs(connection, fresh).get(pack.id, {})
        if not fresh or not _is_needed(fresh[0], entries):
            return
        verdict = self._inspector.read(pack.name, entries)
        found = _Located(fresh[0], entries)
        self._count(found, verdict)
        if verdict.is_whole and verdict.size == pack.size:
            self._findings.recovered += noting(
                self._context,
                lambda connection, now: verification.note_verified(connection, [pack.id], now),
            )
            return
        condemned = noting(self._context, partial(_condemn, found=found, verdict=verdict))
        if condemned is not None:
            self._findings.recovered += condemned
            self._findings.add_pack(fresh[0], verdict)
            self.faulty.append(fresh[0])

    def _compare_lists(self, lists: Mapping[Digest, Digest], kept: Mapping[Digest, bytes]) -> None:
        """Hold the chunk lists that were read against the rows."""
        decoded = {}
        for digest, data in kept.items():
            try:
                decoded[digest] = decode_chunk_list(data)
            except ValueError as error:
                self._add_list(digest, lists[digest], str(error))
        sizes = {blob.digest: blob.size for blob in decoded.values()}
        with self._context.database.reading() as connection:
            rows = blob_rows.locate_large(connection, sizes)
            still = {
                large.digest: large for large in verification.list_large(connection, list(sizes))
            }
        for digest, blob in decoded.items():
            if blob.digest != lists[digest]:
                self._add_list(digest, lists[digest], f"it is that of blob {blob.digest}")
            elif blob.digest in still and rows[blob.digest] != blob:
                self.doubtful.add(blob.digest)

    def _add_list(self, digest: Digest, blob: Digest, detail: str) -> None:
        """Tell of a list that is another's, and let it go: `repair` then writes one."""
        noting(self._context, partial(verification.forget_list, blob=blob, digest=digest))
        subject = f"the chunk list of blob {blob}"
        self._findings.add(Fault(FaultKind.BROKEN_LIST, subject, detail, digest))

    def _locate(self, packs: Sequence[VerifiablePack]) -> list[_Located]:
        with self._context.database.reading() as connection:
            entries = verification.locate_in_packs(connection, packs)
        return [_Located(pack, entries[pack.id]) for pack in packs]

    def _count(self, found: _Located, verdict: PackVerdict) -> None:
        self._findings.packs_read += 1
        self._findings.blobs_read += len(found.entries)
        self._findings.bytes_read += verdict.bytes_read
        self._findings.unused_bytes += sum(
            entry.stored_size for entry in verdict.entries if entry.digest not in found.entries
        )


def noting(context: StoreContext, note: Callable[[Connection, datetime], T]) -> T:
    """Note something in a transaction of its own; to note it twice must be to note it once."""
    return context.database.write(
        lambda connection: note(connection, context.clock()), is_repeatable=True
    )


def _condemn(
    connection: Connection, now: datetime, *, found: _Located, verdict: PackVerdict
) -> int | None:
    """Mark what is damaged; return how many others were damaged before.

    None if the pack is not needed any more. Blobs that were moved meanwhile are left out.
    """
    fresh = verification.list_packs(connection, [found.pack.id])
    entries = verification.locate_in_packs(connection, fresh).get(found.pack.id, {})
    if not fresh or not _is_needed(fresh[0], entries):
        return None
    for wrong in (verdict.damaged, verdict.misfiled):
        for digest in [d for d in wrong if entries.get(d) != found.entries[d]]:
            del wrong[digest]
    return verification.mark_blobs(
        connection, found.pack, found.entries, verdict.damaged.keys(), now
    )


def groups(packs: Sequence[VerifiablePack]) -> Iterator[list[VerifiablePack]]:
    """Cut packs so that what one interruption loses is bounded."""
    group: list[VerifiablePack] = []
    size = 0
    for pack in packs:
        if group and (size + pack.size > _GROUP_BYTES or len(group) == _GROUP_PACKS):
            yield group
            group, size = [], 0
        group.append(pack)
        size += pack.size
    if group:
        yield group


def _is_needed(pack: VerifiablePack, entries: Mapping[Digest, Location]) -> bool:
    """Whether the store needs a pack: others may be gone, or not be there yet."""
    return pack.state == "live" or bool(entries)
