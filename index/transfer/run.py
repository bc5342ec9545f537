"""Transfer of one run: find the rows that the destination lacks, keep them, then commit them.

The source is read in one transaction, and the rows are kept in a temporary file. So the run is
copied in one state however long its bytes take, no transaction waits for bytes, and a run of a
million versions is not held in memory. At the commit, the run's revision shows whether the
destination has changed since.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, Self

from cas.temporary import using_temporary_files
from index.commit.write import TOUCH_FRESHNESS, CommitConflict
from index.db.queries import blobs, files, runs, tags, transfer
from index.db.tables import VERSION_COLUMNS
from index.transfer.compare import DivergedError, compare_snapshots, compare_versions
from index.transfer.lineage import Lineage
from index.transfer.report import SyncOutcome
from index.transfer.soundness import UnsoundError, check_run, sound_versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from index.context import StoreContext
    from index.db.queries.transfer import RunColumns, VersionRow
    from index.domain.names import RunKey

__all__ = ["Delta", "Examined", "examine", "record"]

_BATCH: Final = 5_000
"""New versions, or changed ones, in one batch of a delta."""

_CONTENTS: Final = 50_000
"""Contents that are brought together. With their places, they take about 30 MB."""

_IN_MEMORY: Final = 4
"""Batches held in memory, about 20 MB. The rest goes to a file."""


@dataclass(slots=True)
class Batch:
    """A part of the rows that the destination lacks."""

    inserts: list[VersionRow] = field(default_factory=list)
    updates: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def contents(self) -> dict[Digest, int]:
        """Return the digests of the new versions, with their sizes."""
        return {row.digest: row.size for row in self.inserts if row.digest is not None}


class Delta:
    """The rows that the destination lacks, in batches. Written once, read many times."""

    def __init__(self) -> None:
        self._kept: list[Batch] = []
        self._file: IO[bytes] | None = None
        self._pending = Batch()
        self.versions = 0
        """Number of new versions."""
        self.changes = 0
        """Number of versions changed in place."""
        self.has_copies = False
        """Whether some new versions are copies by fork or rewind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove all rows."""
        if self._file is not None:
            self._file.close()
        self._kept, self._file, self._pending = [], None, Batch()
        self.versions = self.changes = 0
        self.has_copies = False

    def insert(self, row: VersionRow) -> None:
        """Add a version that the destination lacks."""
        self.versions += 1
        self.has_copies |= row.origin_id is not None
        inserts = self._pending.inserts
        inserts.append(row)
        if len(inserts) >= _BATCH:
            self._write()

    def change(self, file_id: int, values: dict[str, Any]) -> None:
        """Add column changes of a version that the destination has."""
        self.changes += 1
        self._pending.updates.append((file_id, values))
        if len(self._pending.updates) >= _BATCH:
            self._write()

    def batches(self) -> Iterator[Batch]:
        """Yield all rows in the order in which they were added."""
        if self._pending.inserts or self._pending.updates:
            self._write()
        yield from self._kept
        if self._file is None:
            return
        self._file.seek(0)
        while True:
            try:
                batch = pickle.load(self._file)  # noqa: S301 - written by this very process
            except EOFError:
                return
            yield batch

    def contents(self) -> Iterator[dict[Digest, int]]:
        """Yield the digests of the new versions, with their sizes, many at once.

        The more are brought together, the more whole frames and long stretches of packs they make.
        """
        found: dict[Digest, int] = {}
        for batch in self.batches():
            found |= batch.contents()
            if len(found) >= _CONTENTS:
                yield found
                found = {}
        if found:
            yield found

    def _write(self) -> None:
        batch, self._pending = self._pending, Batch()
        if len(self._kept) < _IN_MEMORY:
            self._kept.append(batch)
            return
        with using_temporary_files():
            if self._file is None:
                # Closed by clear(); a with statement here would close it too early.
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._file.seek(0, os.SEEK_END)
            pickle.dump(batch, self._file, pickle.HIGHEST_PROTOCOL)
            self._file.flush()  # here, where a full disk is explained


@dataclass(frozen=True, slots=True)
class Examined:
    """The comparison of a run in two stores. The missing versions are in a `Delta`."""

    key: RunKey
    outcome: SyncOutcome
    mine: RunColumns | None = None
    theirs: RunColumns | None = None
    snapshots: tuple[tuple[Any, ...], ...] = ()
    """Snapshot rows that the destination lacks."""
    tags: tuple[dict[str, Any], ...] | None = None
    """All moves of tags of the source; None if those of the destination stay."""
    parent_id: int | None = None
    """The destination's id of the parent run, if the link is missing there."""
    reason: str | None = None


def examine(source: StoreContext, destination: StoreContext, key: RunKey, delta: Delta) -> Examined:
    """Compare a run, and put the rows that the destination lacks into the empty `delta`."""
    try:
        return _examine(source, destination, key, delta)
    except UnsoundError as error:
        reason = str(error)
    except (ValueError, TypeError) as error:  # a value that no column type can hold
        reason = f"a row of it can't be read: {error}"
    return Examined(key, SyncOutcome.DAMAGED, reason=f"the source's index is damaged: {reason}")


def _examine(
    source: StoreContext, destination: StoreContext, key: RunKey, delta: Delta
) -> Examined:
    with source.database.reading() as ours:
        mine = transfer.find_row(ours, key.session, key.run)
        if mine is None:
            reason = "it was deleted from the source meanwhile"
            return Examined(key, SyncOutcome.FAILED, reason=reason)
        snapshots = transfer.list_snapshots(ours, mine.id)
        parents = (
            transfer.list_snapshots(ours, mine.parent_id, until=mine.parent_snapshot)
            if mine.parent_id is not None
            else []
        )
        versions = source.database.shielded(transfer.iter_versions(ours, mine.id))
        moves = _moves(ours, mine)
        check_run(ours, key, mine.id, snapshots, moves)
        with destination.database.reading() as others:
            theirs = transfer.find_row(others, key.session, key.run)
            try:
                new = _compare(
                    mine, snapshots, sound_versions(versions, len(snapshots)), others, theirs, delta
                )
                parent_id = _parent(mine, parents, others, theirs, key.session)
                is_newer = theirs is None or mine.revision > theirs.revision
                tagged = moves if is_newer and moves != _moves(others, theirs) else None
            except DivergedError as diverged:
                reason = (
                    f"both stores have recorded into it: {diverged}; fork it under another id and "
                    "sync the fork, or delete the run that you don't need"
                )
                return Examined(key, SyncOutcome.CONFLICT, mine, theirs, reason=reason)
    if theirs is None:
        outcome = SyncOutcome.COPIED
    elif new is None:
        outcome = SyncOutcome.AHEAD
    elif (
        new
        or delta.versions
        or delta.changes
        or parent_id is not None
        or tagged is not None
        or _says_more(mine, theirs)
    ):
        outcome = SyncOutcome.UPDATED
    else:
        outcome = SyncOutcome.UNCHANGED
    return Examined(key, outcome, mine, theirs, tuple(new or ()), tagged, parent_id)


def _moves(connection: Connection, run: RunColumns | None) -> tuple[dict[str, Any], ...]:
    return () if run is None else tuple(tags.list_rows(connection, run.id))


def _says_more(mine: RunColumns, theirs: RunColumns) -> bool:
    """Whether the source has a newer status of the run. A new work directory alone can wait."""
    before = {"work_dir": mine.work_dir, **theirs.settled}
    return mine.revision > theirs.revision and not mine.settled.items() <= before.items()


def _compare(
    mine: RunColumns,
    snapshots: Sequence[tuple[Any, ...]],
    versions: Iterable[VersionRow],
    others: Connection,
    theirs: RunColumns | None,
    delta: Delta,
) -> Sequence[tuple[Any, ...]] | None:
    """Return the snapshots that the destination lacks (None if it is ahead); fill `delta`."""
    known = transfer.list_snapshots(others, theirs.id) if theirs else []
    compare_snapshots(snapshots, known)
    found = compare_versions(
        versions,
        transfer.iter_versions(others, theirs.id) if theirs else (),
        newest=(len(snapshots), len(known)),
        is_newer=theirs is None or mine.revision > theirs.revision,
    )
    for row, there, changes in found:
        if there is None:
            delta.insert(row)
        else:
            delta.change(there.id, changes)
    return snapshots[len(known) :] if len(known) <= len(snapshots) else None


def _parent(
    mine: RunColumns,
    snapshots: Sequence[tuple[Any, ...]],
    others: Connection,
    theirs: RunColumns | None,
    session: str,
) -> int | None:
    """Return the destination's id of the parent run; None if the link exists or there is no parent.

    Raises DivergedError if the run has another parent there.

    Parameters
    ----------
    snapshots
        The snapshots that the run shares with its parent.
    """
    if theirs is not None:
        if theirs.parent_snapshot is not None and mine.parent_snapshot != theirs.parent_snapshot:
            raise DivergedError("it was forked at another snapshot there")
        if theirs.parent is not None:
            if mine.parent not in (None, theirs.parent):
                raise DivergedError(f"it was forked from {theirs.parent!r} there")
            return None
    parent = None if mine.parent is None else transfer.find_row(others, session, mine.parent)
    if parent is None:
        return None
    try:
        known = transfer.list_snapshots(others, parent.id, until=mine.parent_snapshot)
        compare_snapshots(snapshots, known)
    except DivergedError:
        return None  # another run with that id
    return parent.id


def record(
    source: StoreContext,
    destination: StoreContext,
    found: Examined,
    delta: Delta,
    *,
    has_copies: bool,
) -> None:
    """Commit the rows that the destination lacks in one transaction. Their bytes are stored.

    Parameters
    ----------
    has_copies
        Whether the session has copies by fork or rewind in either store.

    Raises
    ------
    CommitConflict, IntegrityError
        When the run or its bytes have changed since the comparison.
    """
    mine = found.mine
    assert mine is not None  # noqa: S101 - it was found, or there is nothing to record
    with destination.database.writing() as connection:
        session_id = runs.ensure_session(
            connection, found.key.session, mine.session_created_at, lock=True
        )
        run_id = _claimed(connection, session_id, found, mine)
        if found.parent_id is not None:
            transfer.link_parent(connection, run_id, found.parent_id, mine.parent_snapshot)
        transfer.insert_snapshots(connection, run_id, found.snapshots)
        if found.tags is not None:
            tags.replace(connection, run_id, found.tags)
        lineage = Lineage(source.database, mine.id, connection, session_id, has_copies=has_copies)
        for batch in delta.batches():
            blobs.touch(connection, batch.contents(), destination.clock(), TOUCH_FRESHNESS)
            # Ends come first, because at most one version of a path is current.
            transfer.update_versions(connection, batch.updates)
            ids = lineage.place(batch.inserts)
            whole = [
                (*row[: len(VERSION_COLUMNS)], *own)
                for row, own in zip(batch.inserts, ids, strict=True)
            ]
            files.insert_whole(connection, run_id, (*VERSION_COLUMNS, "id", "origin_id"), whole)


def _claimed(connection: Connection, session_id: int, found: Examined, mine: RunColumns) -> int:
    """Claim the run at the destination, unchanged since the comparison; return its id."""
    theirs = found.theirs
    if theirs is None:
        run_id = runs.insert_run(
            connection,
            session_id,
            found.key.run,
            mine.created_at,
            revision=mine.revision,
            parent_snapshot=mine.parent_snapshot,
            settled=mine.settled,
        )
        if run_id is None:
            raise CommitConflict
        return run_id
    # Always a higher revision: a cached state may belong to the old one.
    higher = max(theirs.revision + 1, mine.revision)
    settled = mine.settled if mine.revision > theirs.revision else {}
    if not transfer.claim_run(connection, theirs.id, theirs.revision, higher, settled):
        raise CommitConflict
    return theirs.id
