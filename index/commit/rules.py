"""Rules of a session that no run's chain tells of: holds, and its quota.

Each is a journal record of its own, so that an index rebuilt from storage has them again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.exc import IntegrityError

from index.commit.chain import store_entry
from index.commit.write import CommitConflict, record_blobs, retry_on_conflict
from index.db.queries import deletion, holds, journal, names, runs, usage
from index.db.queries.deletion import DeadRun
from index.errors import UnknownRunError, UnknownSessionError
from index.journal.entries import HoldEntry, QuotaEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from index.context import StoreContext

__all__ = ["apply_rule", "hold", "set_quota", "store_rule"]

_ATTEMPTS = 20
"""As for a deletion: others may keep making runs while the journal record is stored."""


def hold(
    context: StoreContext,
    session: str,
    run: str | None,
    *,
    reason: str,
    agent: str | None,
    is_release: bool = False,
    at: datetime | None = None,
) -> datetime:
    """Hold a session or run, or release what holds it, now or as if it was done at a time.

    Return that time.

    Raises UnknownSessionError or UnknownRunError if it does not exist.
    """
    now = context.clock()

    def make(given_up: Sequence[Digest]) -> HoldEntry:
        entry = HoldEntry(
            created_at=now,
            session=session,
            run=run,
            owner_created_at=now,
            said_at=at or now,
            reason=reason,
            agent=agent,
            is_release=is_release,
            replaces=given_up,
        )
        try:
            with context.database.reading() as connection:
                owner = _find(connection, session, run)
                held = () if is_release else deletion.list_dead(connection, session, run)
        except (UnknownSessionError, UnknownRunError):
            if given_up:
                _take_back(context, replace(entry, is_release=True))
            raise
        runs_ = [each.recorded() for each in held]
        return replace(entry, owner_created_at=owner.created_at, runs=runs_)

    _commit(context, session, make)
    return at or now


def _take_back(context: StoreContext, entry: HoldEntry) -> None:
    """Keep a record that replaces those of a hold that came too late, after a deletion.

    Without it, a recovery would take the deletion for refused, and what was deleted would come
    back.
    """
    written, record = store_entry(context.blobs, entry)

    def write(connection: Connection) -> None:
        record_blobs(connection, written, (), entry.created_at)
        journal.insert_loose(connection, record)

    context.database.write(write)


def set_quota(context: StoreContext, session: str, quota: int | None) -> None:
    """Set the quota of a session, which need not exist; None for none."""
    entry = QuotaEntry(created_at=context.clock(), session=session, bytes=quota)
    _commit(context, session, lambda _: entry)


def _commit(
    context: StoreContext, session: str, make: Callable[[Sequence[Digest]], HoldEntry | QuotaEntry]
) -> None:
    def attempt(given_up: Sequence[Digest] | None) -> None:
        entry = make(given_up or ())
        record, write = store_rule(context, entry)
        conflict = CommitConflict()
        conflict.records = (*(given_up or ()), record)

        def checked(connection: Connection) -> None:
            if isinstance(entry, HoldEntry) and not _is_current(connection, entry):
                raise conflict
            write(connection)

        try:
            context.database.write(checked)
        except IntegrityError as error:  # the session or run was deleted meanwhile
            raise conflict from error

    retry_on_conflict(attempt, attempts=_ATTEMPTS, name=session)


def store_rule(
    context: StoreContext, entry: HoldEntry | QuotaEntry
) -> tuple[Digest, Callable[[Connection], None]]:
    """Make the record of a rule durable; return it, and what writes the rule in a transaction."""
    written, record = store_entry(context.blobs, entry)

    def write(connection: Connection) -> None:
        record_blobs(connection, written, (), entry.created_at)
        journal.insert_loose(connection, record)
        apply_rule(connection, entry)

    return record, write


def _is_current(connection: Connection, entry: HoldEntry) -> bool:
    """Whether a hold names all runs that are there; no others can come or go any more."""
    # Deletions lock the same rows, so one of the two sees what the other has done.
    found = deletion.list_dead(connection, entry.session, entry.run, lock=True)
    if entry.is_release:
        return True
    if entry.run is None:
        deletion.find_session(connection, entry.session, lock=True)  # no run can be made now
        found = deletion.list_dead(connection, entry.session, None)
    there = {(name, made_at) for name, _, made_at in map(DeadRun.recorded, found)}
    return there == {(name, made_at) for name, _, made_at in entry.runs}


def apply_rule(connection: Connection, entry: HoldEntry | QuotaEntry) -> None:
    """Write what a record says.

    Raises UnknownSessionError or UnknownRunError if a hold is of something that is not there.
    """
    if isinstance(entry, QuotaEntry):
        runs.ensure_session(connection, entry.session, entry.created_at)
        usage.set_quota(connection, entry.session, entry.bytes)
        return
    owner = _find(connection, entry.session, entry.run)
    write = holds.release if entry.is_release else holds.insert_hold
    write(
        connection,
        owner.session_id,
        owner.run_id,
        reason=entry.reason,
        agent=entry.agent,
        now=entry.said_at,
    )


class _Owner(NamedTuple):
    """What is held."""

    session_id: int
    run_id: int | None
    created_at: datetime


def _find(connection: Connection, session: str, run: str | None) -> _Owner:
    if run is None:
        found = deletion.find_session(connection, session)
        if found is None:
            raise UnknownSessionError(session)
        return _Owner(found.id, None, found.created_at)
    for dead in deletion.list_dead(connection, session, run):
        return _Owner(dead.session_id, dead.id, dead.created_at)
    raise names.unknown_run(connection, session, run)
