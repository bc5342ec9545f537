"""Runs as a tree: a run that stems from another, and a run that goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError

from index.comparison import compare
from index.errors import RunExistsError, UnknownRunError, UnknownSnapshotError, UnsettledScanError
from index.history import assemble
from index.records import Skipped, Snapshot
from index.repository import copies, files, runs

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from index.database import Database
    from index.provenance import Provenance
    from index.recording import RunKey
    from index.records import FileVersion
    from index.repository.runs import FoundRun

__all__ = ["fork", "rewind"]

_ATTEMPTS = 20
"""How often a rewind begins anew because a scan of the run committed between its statements, which
only PostgreSQL lets happen."""


def fork(
    database: Database,
    source: RunKey,
    target: RunKey,
    at: int | None,
    clock: Callable[[], datetime],
) -> None:
    """Make the run `target` with the history that `source` has up to a snapshot; None is now.

    Raises
    ------
    UnknownRunError, UnknownSnapshotError, RunExistsError
        When the source isn't there, or the target is.
    """
    with database.writing() as connection:
        found = _find(connection, source)
        number = _check_snapshot(source, found, at)
        try:
            made = runs.insert_fork(
                connection, target.session, target.run, found.id, number, clock()
            )
            if made is None:
                raise RunExistsError(target.run)
            copies.copy_history(connection, found.id, made, number)
        except IntegrityError as error:
            # The source was deleted, and its bytes collected, while it was copied.
            raise UnknownRunError(source.session, source.run) from error


def rewind(
    database: Database,
    key: RunKey,
    at: int,
    provenance: Provenance,
    clock: Callable[[], datetime],
) -> Snapshot:
    """Make a run hold what it held at a snapshot; return the new snapshot.

    Raises
    ------
    UnknownRunError, UnknownSnapshotError
        When there is no such run or snapshot.
    UnsettledScanError
        When scans of the run kept coming in between.
    """
    for _ in range(_ATTEMPTS):
        with database.writing() as connection:
            found = _find(connection, key)
            _check_snapshot(key, found, at)
            if runs.advance_revision(connection, found.id, found.revision):
                return _rewind_claimed(connection, key, found, at, provenance, clock())
    raise UnsettledScanError(key.run)


def _rewind_claimed(
    connection: Connection,
    key: RunKey,
    found: FoundRun,
    at: int,
    provenance: Provenance,
    now: datetime,
) -> Snapshot:
    def listed(number: int | None) -> list[FileVersion]:
        return files.list_versions(
            connection, found.id, key.session, key.run, files.visible_at(number)
        )

    diff = compare(listed(None), listed(at))
    wanted = [*diff.added, *(change.after for change in diff.changed)]
    ended = [*diff.removed, *(change.before for change in diff.changed if change.after.digest)]
    lost = [version for version in wanted if version.digest is None]
    number = found.newest_snapshot + 1 if diff else found.newest_snapshot
    head = runs.SnapshotHead(
        number,
        provenance,
        now,
        len(diff.identical),
        tuple(Skipped(v.path, "its bytes were gone before it was adopted") for v in lost),
        bytes_read=0,
        bytes_stored=0,
    )
    if not diff:
        return Snapshot(*head, recorded=False)
    runs.insert_snapshot(connection, found.id, head, None)
    files.end_versions(connection, [version.id for version in ended], number)
    copies.bring_back(connection, [v.id for v in wanted if v.digest is not None], number, now)
    touched = files.list_versions(
        connection, found.id, key.session, key.run, files.touches_snapshot(number)
    )
    (snapshot,) = assemble([head], touched)
    return snapshot


def _find(connection: Connection, key: RunKey) -> FoundRun:
    found = runs.find_run(connection, key.session, key.run)
    if found is None:
        raise UnknownRunError(key.session, key.run)
    return found


def _check_snapshot(key: RunKey, found: FoundRun, at: int | None) -> int:
    number = found.newest_snapshot if at is None else at
    if not 0 <= number <= found.newest_snapshot:
        raise UnknownSnapshotError(key.run, number, found.newest_snapshot)
    return number
