"""Holds travel with the runs of a sync. A release does not: each store has its own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from index.commit.rules import hold, store_rule
from index.db.queries import deletion, runs
from index.db.queries.holds import list_holds_of
from index.errors import UnknownRunError, UnknownSessionError
from index.journal.entries import HoldEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.engine import Connection

    from index.context import StoreContext
    from index.domain.holds import Hold
    from index.domain.names import RunKey
    from index.transfer.run import Examined

__all__ = ["bring_holds", "list_lacking_holds", "store_holds"]


def list_lacking_holds(
    source: StoreContext, destination: StoreContext, key: RunKey, to: RunKey | None
) -> list[Hold]:
    """Return the holds of a run that the destination never had, as they will be there.

    A hold of the whole session holds the session there, too. Of a run that is copied, it becomes
    one of the copy: the other runs of that session are none of its business.

    Parameters
    ----------
    to
        What a copy is called at the destination; None for a sync, where the names are the same.
    """
    ours = source.database.read(lambda each: list_holds_of(each, key.session, key.run))
    if not ours:
        return []
    there = to or key
    wanted = [
        replace(each, session=there.session, run=there.run if to or each.run else None)
        for each in ours
    ]
    theirs = destination.database.read(
        lambda each: list_holds_of(each, there.session, there.run, past=True)
    )
    known = {(each.run, each.reason, each.created_at) for each in theirs}
    return [each for each in wanted if (each.run, each.reason, each.created_at) not in known]


def bring_holds(destination: StoreContext, lacking: Iterable[Hold]) -> None:
    """Hold at the destination what is there already."""
    for each in lacking:
        with suppress(UnknownSessionError, UnknownRunError):  # it was deleted there meanwhile
            _hold(destination, each)


def store_holds(
    destination: StoreContext, lacking: Iterable[Hold], found: Examined
) -> list[Callable[[Connection], None]]:
    """Hold the session of a run that is about to be recorded; return what holds the run.

    So the run is never there without its holds. Holds of the session come first, each in its own
    transaction: such a hold locks all runs of the session, and in the run's transaction that could
    deadlock with others that wait for the session.
    """
    assert found.mine is not None  # noqa: S101 - it was found, or there is nothing to record
    made_at = (found.theirs or found.mine).created_at
    made: list[Callable[[Connection], None]] = []
    for each in lacking:
        if each.run is None:
            destination.database.write(
                partial(
                    runs.ensure_session,
                    session=each.session,
                    created_at=found.mine.session_created_at,
                )
            )
            _hold(destination, each)
            continue
        there = destination.database.read(
            partial(deletion.list_dead, session=each.session, run=each.run)
        )
        entry = HoldEntry(
            created_at=destination.clock(),
            session=each.session,
            run=each.run,
            owner_created_at=made_at,
            said_at=each.created_at,
            # A run that is not there yet has no records here.
            runs=[run.recorded() for run in there] or [(each.run, None, made_at.isoformat())],
            reason=each.reason,
            agent=each.agent,
            is_release=False,
        )
        made.append(store_rule(destination, entry)[1])
    return made


def _hold(destination: StoreContext, each: Hold) -> None:
    hold(
        destination,
        each.session,
        each.run,
        reason=each.reason,
        agent=each.agent,
        at=each.created_at,
    )
