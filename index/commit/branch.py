"""Fork and rewind of runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.exc import IntegrityError

from index.commit.chain import find_chained, store_entry
from index.commit.write import CommitConflict, record_blobs, retry_on_conflict, within_quota
from index.db.queries import files, journal, lineage, runs, states
from index.domain.diff import diff_versions
from index.domain.snapshots import Skipped, Snapshot, assemble
from index.errors import RunExistsError, UnknownRunError, UnknownSnapshotError
from index.journal.entries import ForkEntry, RewindEntry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from index.context import StoreContext
    from index.db.queries.runs import FoundRun
    from index.domain.names import RunKey
    from index.domain.provenance import Provenance
    from index.domain.snapshots import FileVersion

__all__ = ["apply_rewind", "fork", "rewind"]

_ATTEMPTS = 20
"""Attempts, if scans of the run keep committing while the journal record is stored."""


def fork(context: StoreContext, source: RunKey, target: RunKey, at: int | None) -> None:
    """Make the run `target` with the history of `source` up to a snapshot; None means now.

    Raises
    ------
    UnknownRunError, UnknownSnapshotError, RunExistsError
        When the source or the snapshot does not exist, or when the target exists.
    UnsettledScanError
        When scans of the source kept committing in between.
    """
    superseded_records: list[Digest] = []

    def attempt(_records: Sequence[Digest] | None) -> None:
        found = find_chained(context, source)
        number = _check_snapshot(source, found, at)
        with context.database.reading() as connection:
            if runs.find_run(connection, target.session, target.run) is not None:
                raise RunExistsError(target.run)
        now = context.clock()
        entry = ForkEntry(
            created_at=now,
            session=target.session,
            run=target.run,
            previous=found.newest_record,
            revision=0,
            replaces=tuple(superseded_records),
            forked_from=source.run,
            at=number,
        )
        written, record = store_entry(context.blobs, entry)
        superseded_records.append(record)

        def commit(connection: Connection) -> None:
            runs.lock_run(connection, found.id)
            if runs.find_run(connection, source.session, source.run) != found:
                raise CommitConflict
            made = runs.insert_run(
                connection,
                runs.ensure_session(connection, target.session, now),
                target.run,
                now,
                forked_from_id=found.id,
                forked_snapshot=number,
                newest_record=record,
            )
            if made is None:
                raise RunExistsError(target.run)
            record_blobs(connection, written, (), now)
            journal.copy(connection, found.id, made)
            journal.append(connection, made, found.records, [record])
            with within_quota(connection, target.session):
                lineage.copy_history(connection, found.id, made, number)

        try:
            context.database.write(commit)
        except IntegrityError as error:
            # The source was deleted and its bytes collected during the copy.
            raise UnknownRunError(source.session, source.run) from error

    retry_on_conflict(attempt, attempts=_ATTEMPTS, name=source.run)


def rewind(context: StoreContext, key: RunKey, at: int, provenance: Provenance) -> Snapshot:
    """Restore the files that a run held at a snapshot as current; return the new snapshot.

    Raises
    ------
    UnknownRunError, UnknownSnapshotError
        When the run or snapshot does not exist.
    UnsettledScanError
        When scans of the run kept committing in between.
    """
    superseded_records: list[Digest] = []

    def attempt(_records: Sequence[Digest] | None) -> Snapshot:
        found = find_chained(context, key)
        _check_snapshot(key, found, at)
        now = context.clock()
        with context.database.reading() as connection:
            step = _plan_rewind(connection, key, found, at, provenance, now)
        if not step.snapshot.recorded:
            return step.snapshot
        entry = RewindEntry(
            created_at=now,
            session=key.session,
            run=key.run,
            previous=found.newest_record,
            revision=found.revision + 1,
            replaces=tuple(superseded_records),
            provenance=asdict(provenance),
            at=at,
        )
        written, record = store_entry(context.blobs, entry)
        superseded_records.append(record)

        def commit(connection: Connection) -> Snapshot:
            if not runs.advance_revision(
                connection,
                found.id,
                found.revision,
                newest_record=found.newest_record,
                next_record=record,
            ):
                raise CommitConflict
            record_blobs(connection, written, (), now)
            journal.append(connection, found.id, found.records, [record])
            return apply_rewind(connection, key, found, at, provenance, now)

        return context.database.write(commit)

    return retry_on_conflict(attempt, attempts=_ATTEMPTS, name=key.run)


def apply_rewind(
    connection: Connection,
    key: RunKey,
    found: FoundRun,
    at: int,
    provenance: Provenance,
    now: datetime,
) -> Snapshot:
    """Write a rewind of a run whose next revision is claimed; return the new snapshot."""
    step = _plan_rewind(connection, key, found, at, provenance, now)
    if not step.snapshot.recorded:
        return step.snapshot  # a recovery has lost what it took back
    runs.insert_snapshot(connection, found.id, step.snapshot, None)
    files.end_versions(connection, step.ended, step.snapshot.number)
    lineage.bring_back(connection, step.wanted, step.snapshot.number, now)
    touched = files.list_versions(
        connection, found.id, key.session, key.run, states.touches([step.snapshot.number])
    )
    (snapshot,) = assemble([step.snapshot], touched)
    return snapshot


class _Rewind(NamedTuple):
    """The changes of a rewind."""

    snapshot: Snapshot
    """Without its changes; not recorded if the rewind changes nothing."""
    ended: list[int]
    """Ids of the versions that end."""
    wanted: list[int]
    """Ids of the past versions that become current again."""


def _plan_rewind(
    connection: Connection,
    key: RunKey,
    found: FoundRun,
    at: int,
    provenance: Provenance,
    now: datetime,
) -> _Rewind:
    def listed(number: int | None) -> list[FileVersion]:
        return files.list_versions(
            connection, found.id, key.session, key.run, files.visible_at(number)
        )

    diff = diff_versions(listed(None), listed(at))
    wanted = [*diff.added, *(change.after for change in diff.changed)]
    ended = [*diff.removed, *(change.before for change in diff.changed if change.after.digest)]
    lost = [version for version in wanted if version.digest is None]
    snapshot = Snapshot(
        found.newest_snapshot + 1 if diff else found.newest_snapshot,
        provenance,
        now,
        len(diff.identical),
        tuple(Skipped(v.path, _lost(v)) for v in lost),
        bytes_read=0,
        bytes_stored=0,
        recorded=bool(diff),
    )
    return _Rewind(
        snapshot,
        [version.id for version in ended],
        [version.id for version in wanted if version.digest is not None],
    )


def _lost(version: FileVersion) -> str:
    return f"its bytes were {'dropped' if version.dropped else 'gone before it was adopted'}"


def _check_snapshot(key: RunKey, found: FoundRun, at: int | None) -> int:
    number = found.newest_snapshot if at is None else at
    if not 0 <= number <= found.newest_snapshot:
        raise UnknownSnapshotError(key.run, number, found.newest_snapshot)
    return number
