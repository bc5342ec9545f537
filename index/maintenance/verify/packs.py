"""Verification of packs in groups. The results are saved after each group."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeVar

from cas.packs.chunk_list import decode_chunk_list
from cas.packs.inspector import PackInspector
from cas.threads import Threads
from index.db.queries import blobs as blob_rows
from index.db.queries import verification
from index.domain.faults import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.catalog import Location
    from cas.digest import Digest
    from cas.packs.inspector import PackVerdict
    from cas.packs.pack import EntryKind
    from index.context import StoreContext
    from index.db.queries.verification import VerifiablePack
    from index.maintenance.verify.findings import Findings

T = TypeVar("T")

__all__ = ["PackVerifier", "groups", "noting"]

_GROUP_BYTES: Final = 256 << 20
_GROUP_PACKS: Final = 100
"""Packs in a group: one statement reads their rows, one transaction saves their results."""


class _Located(NamedTuple):
    """A pack, and its blobs according to the index."""

    pack: VerifiablePack
    entries: Mapping[Digest, Location]
    kinds: Mapping[Digest, EntryKind]
    """Of all packs that were located with it."""


class PackVerifier:
    """Verifies packs of a store and saves the results. A context manager.

    A pack that looks faulty is read again in full, with current rows. In the meantime the pack may
    have been deleted or a blob moved, or a request may have returned wrong bytes.
    """

    def __init__(self, context: StoreContext, findings: Findings) -> None:
        self._context = context
        self._findings = findings
        self._inspector = PackInspector(context.blobs.backend)
        self._threads = Threads(self._inspector.at_once, "cas-verify")
        self.doubtful: set[Digest] = set()
        """Large blobs whose chunks differ from their chunk list in storage."""
        self.faulty: list[VerifiablePack] = []
        """Packs with faults."""

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._inspector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def look(self, packs: Sequence[VerifiablePack], report: Callable[[], None]) -> None:
        """Read footers. A pack that looks faulty is read in full."""
        for group in groups(packs):
            located = self._locate(group)
            verdicts = self._threads.map(
                lambda found: self._inspector.look(
                    found.pack.name, found.entries, kinds=found.kinds
                ),
                located,
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
        """Read every byte of packs, and mark intact ones as verified."""
        located = self._locate(packs)
        with self._context.database.reading() as connection:
            lists = verification.list_chunk_lists(connection, packs)
        whole, wrong = [], []
        kept: dict[Digest, bytes] = {}
        verdicts = self._threads.map(
            lambda found: self._inspector.read(
                found.pack.name, found.entries, keep=lists.keys(), kinds=found.kinds
            ),
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
        """Read a pack in full again. Faults that remain are certain."""
        with self._context.database.reading() as connection:
            fresh = verification.list_packs(connection, [pack.id])
        located = self._locate(fresh)
        if not located or not _is_needed(fresh[0], located[0].entries):
            return
        (found,) = located
        verdict = self._inspector.read(pack.name, found.entries, kinds=found.kinds)
        self._count(found, verdict)
        if verdict.is_whole and verdict.size == pack.size:
            self._findings.recovered += noting(
                self._context,
                lambda connection, now: verification.note_verified(connection, [pack.id], now),
            )
            return
        recovered = noting(self._context, partial(_condemn, found=found, verdict=verdict))
        if recovered is not None:
            self._findings.recovered += recovered
            self._findings.add_pack(fresh[0], verdict)
            self.faulty.append(fresh[0])

    def _compare_lists(self, lists: Mapping[Digest, Digest], kept: Mapping[Digest, bytes]) -> None:
        """Compare the chunk lists in storage with the rows."""
        decoded = {}
        for digest, data in kept.items():
            try:
                decoded[digest] = decode_chunk_list(data).blob
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
        """Report a wrong chunk list, and delete its row, so that `repair` writes a new list."""
        noting(self._context, partial(verification.forget_list, blob=blob, digest=digest))
        subject = f"the chunk list of blob {blob}"
        self._findings.add(Fault(FaultKind.BROKEN_LIST, subject, detail, digest))

    def _locate(self, packs: Sequence[VerifiablePack]) -> list[_Located]:
        with self._context.database.reading() as connection:
            entries = verification.locate_in_packs(connection, packs)
            kinds = verification.list_kinds(connection, packs)
        return [_Located(pack, entries[pack.id], kinds) for pack in packs]

    def _count(self, found: _Located, verdict: PackVerdict) -> None:
        self._findings.packs_read += 1
        self._findings.blobs_read += len(found.entries)
        self._findings.bytes_read += verdict.bytes_read
        self._findings.unused_bytes += sum(
            entry.share for entry in verdict.entries if entry.digest not in found.entries
        )


def noting(context: StoreContext, note: Callable[[Connection, datetime], T]) -> T:
    """Run `note` in its own transaction; return its result. It must be safe to repeat."""
    return context.database.write(
        lambda connection: note(connection, context.clock()), is_repeatable=True
    )


def _condemn(
    connection: Connection, now: datetime, *, found: _Located, verdict: PackVerdict
) -> int | None:
    """Mark damaged blobs; return how many of the others were damaged before.

    Return None if the pack is not needed any more. Blobs that were moved meanwhile are skipped.
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
    """Yield packs in groups, so that an interruption loses a bounded amount of work."""
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
    """Whether the store needs a pack. Other packs may be deleted, or not published yet."""
    return pack.state == "live" or bool(entries)
