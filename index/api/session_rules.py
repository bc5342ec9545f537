"""The rules of a session: what is kept and let go, what is held, and how much it may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.api.holding import find_holds, hold, release
from index.db.queries.usage import find_usage
from index.decorators import awaitable
from index.domain.usage import check_quota
from index.errors import UnknownSessionError

if TYPE_CHECKING:
    from index.context import StoreContext
    from index.domain.holds import Hold
    from index.domain.names import Label
    from index.domain.retention import RetentionPolicy
    from index.domain.usage import Usage
    from index.maintenance.retention import RetentionPlan

__all__ = ["SessionRules"]


class SessionRules:
    """The part of `Session` that says what stays."""

    __slots__ = ()

    id: str
    _context: StoreContext

    def plan_retention(self, policy: RetentionPolicy) -> RetentionPlan:
        """Return which runs and past versions a policy keeps and lets go; write nothing.

        Call ``execute()`` on the plan to delete the runs and to drop the versions; `plan_gc` of the
        store then removes the bytes. Others may write meanwhile: what has changed since the plan
        stays. Tagged and held runs stay whatever the policy says.

        ``session.plan_retention(RetentionPolicy(keep_last=5, keep_daily=14)).execute()``

        Raises UnknownSessionError if nothing was ever written to the session.
        """
        from index.maintenance.retention import plan_retention

        return plan_retention(self._context, self.id, policy)

    plan_retention_async = awaitable(plan_retention)

    def hold(self, reason: str, *, agent: Label | None = None) -> Hold:
        """Hold the session: until `release_hold` none of its runs can be deleted or dropped from.

        Runs can still be written to. See `Run.hold`. Raises UnknownSessionError if nothing was ever
        written to the session.
        """
        return hold(self._context, self.id, None, reason, agent)

    hold_async = awaitable(hold)

    def release_hold(self, reason: str, *, agent: Label | None = None) -> tuple[Hold, ...]:
        """Release all holds of the session; return those that were released. Runs' own stay."""
        return release(self._context, self.id, None, reason, agent)

    release_hold_async = awaitable(release_hold)

    def holds(self, *, past: bool = False) -> tuple[Hold, ...]:
        """Return the holds of the session and of its runs, oldest first.

        Parameters
        ----------
        past
            Return released holds, too.
        """
        return tuple(find_holds(self._context, self.id, past=past))

    def set_quota(self, quota: int | None) -> Usage:
        """Set how many bytes the session may hold, None for any number; return its usage.

        The session need not exist yet. What would take it beyond the quota raises
        QuotaExceededError before it is recorded, and before new bytes are written. That goes for
        every way to record: scans, puts, forks, syncs into this store and adoptions. What is there
        stays, also if it is more. A quota stays in this store: a sync does not bring it elsewhere.
        """
        from index.commit.rules import set_quota

        set_quota(self._context, self.id, check_quota(quota))
        return self.usage()

    set_quota_async = awaitable(set_quota)

    def usage(self) -> Usage:
        """Return how many bytes the session holds, and may hold.

        Bytes count before compression, and once in each run that has them, so that deleting a run
        frees what it counts for. Raises UnknownSessionError if there is no such session.
        """
        with self._context.database.reading() as connection:
            found = find_usage(connection, self.id)
        if found is None:
            raise UnknownSessionError(self.id)
        return found
