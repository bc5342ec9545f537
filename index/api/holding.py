"""Holds of sessions and runs, as both have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.db.queries import holds
from index.domain.holds import Hold
from index.domain.names import check_reason
from index.domain.provenance import Provenance
from index.domain.scopes import current_provenance

if TYPE_CHECKING:
    from index.context import StoreContext
    from index.domain.names import Label

__all__ = ["find_holds", "hold", "release"]


def hold(
    context: StoreContext, session: str, run: str | None, reason: str, agent: Label | None
) -> Hold:
    """Hold a session, or a run of it; return the hold, which others may have released by then."""
    return _commit(context, session, run, reason, agent)


def release(
    context: StoreContext, session: str, run: str | None, reason: str, agent: Label | None
) -> tuple[Hold, ...]:
    """Release the holds of a session, or of a run of it; return them."""
    active = {each.created_at for each in find_holds(context, session) if each.run == run}
    if not active:
        return ()
    _commit(context, session, run, reason, agent, is_release=True)
    past = find_holds(context, session, past=True)
    return tuple(each for each in past if each.run == run and each.created_at in active)


def find_holds(context: StoreContext, session: str, *, past: bool = False) -> list[Hold]:
    """Return the holds of a session and its runs, oldest first."""
    with context.database.reading() as connection:
        return holds.list_holds(connection, session, past=past)


def _commit(
    context: StoreContext,
    session: str,
    run: str | None,
    reason: str,
    agent: Label | None,
    *,
    is_release: bool = False,
) -> Hold:
    from index.commit import rules

    who = Provenance(agent=agent).over(current_provenance()).agent
    kept = check_reason(reason)
    said_at = rules.hold(context, session, run, reason=kept, agent=who, is_release=is_release)
    return Hold(session, run, kept, who, said_at)
