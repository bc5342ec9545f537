"""Holds travel with the runs of a sync. A release does not: each store has its own."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from index.commit.rules import hold
from index.db.queries.holds import list_holds
from index.errors import UnknownRunError, UnknownSessionError

if TYPE_CHECKING:
    from collections.abc import Collection

    from index.context import StoreContext

__all__ = ["bring_holds"]


def bring_holds(
    source: StoreContext, destination: StoreContext, session: str, runs: Collection[str]
) -> None:
    """Hold at the destination what is held at the source, of a session and of these runs of it."""
    ours = source.database.read(lambda connection: list_holds(connection, session))
    ours = [each for each in ours if each.run is None or each.run in runs]
    if not ours:
        return
    theirs = destination.database.read(
        lambda connection: list_holds(connection, session, past=True)
    )
    known = {(each.run, each.reason, each.created_at) for each in theirs}
    for each in ours:
        if (each.run, each.reason, each.created_at) not in known:
            with suppress(UnknownSessionError, UnknownRunError):  # it was deleted there meanwhile
                hold(
                    destination,
                    session,
                    each.run,
                    reason=each.reason,
                    agent=each.agent,
                    at=each.created_at,
                )
