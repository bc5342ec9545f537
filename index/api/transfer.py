"""What a store takes over from elsewhere, and gives to other stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.api.maintenance import StoreMaintenance
from index.decorators import awaitable
from index.domain.names import as_paths, check_id

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from sqlalchemy import URL

    from index.domain.names import Label
    from index.domain.progress import Progress
    from index.transfer.adopt import AdoptionReport, Root
    from index.transfer.report import SyncReport
    from index.transfer.sync import SyncPlan

__all__ = ["StoreTransfer"]


class StoreTransfer(StoreMaintenance):
    """The part of `ArtifactStore` that copies runs between stores, and from old trackers."""

    def adopt(
        self,
        url: str | URL,
        *,
        session: str = "default",
        root: Root = None,
        moved: Mapping[str, str | os.PathLike[str]] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> AdoptionReport:
        """Import the `files` table of an old tracker from an application's database.

        The database is only read. The bytes of files that still exist are stored. For missing files
        the store keeps a version without bytes. You can call this again: it skips paths that a run
        has already.

        Parameters
        ----------
        session
            Session of the rows that name none.
        root
            Work directories of the runs: text with ``{session}`` and ``{run}`` for their ids, a
            mapping from run ids, or a function of session id and run id. Where it names none, the
            deepest directory that all paths of a run share.
        moved
            Absolute directories of the table, and where each is now. The adopted metadata keeps
            the old path.

        Raises
        ------
        LegacyTableError
            When the database can't be read or has no such table.
        """
        from index.transfer.adopt import adopt
        from index.transfer.legacy_paths import check_moves

        return adopt(
            self.context,
            url,
            session=session,
            root=root,
            moved=check_moves(moved),
            progress=progress,
        )

    def check_runs(
        self, *, sessions: Iterable[Label] | None = None, runs: Iterable[Label] | None = None
    ) -> None:
        """Check that sessions and runs exist in this store; raise as `sync_to` does if not."""
        from index.transfer.sync import select_runs

        select_runs(self.context, **_chosen(sessions, runs))

    def plan_sync(
        self,
        destination: StoreTransfer,
        *,
        sessions: Iterable[Label] | None = None,
        runs: Iterable[Label] | None = None,
    ) -> SyncPlan:
        """Compare this store with another and return what `sync_to` would copy; write nothing.

        Parameters and errors are those of `sync_to`. Call ``execute()`` on the plan to copy.
        """
        from index.transfer.sync import plan_sync

        return plan_sync(self.context, destination.context, **_chosen(sessions, runs))

    def sync_to(
        self,
        destination: StoreTransfer,
        *,
        sessions: Iterable[Label] | None = None,
        runs: Iterable[Label] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> SyncReport:
        """Copy runs with their history to another store, and the bytes that it lacks.

        On return, each run in the destination is as it was here at one moment, or the report gives
        the reason. On raise, each run is complete or unchanged. You can interrupt a sync at any
        point: bytes that have arrived are not sent again. A sync only adds; it never removes or
        replaces anything in the destination. A run arrives with what holds it. If both stores have
        recorded into a run, that is a conflict: the report names it, and the run does not change.

        Parameters
        ----------
        sessions, runs
            Ids of the sessions and runs to copy; None for all.
        progress
            Called now and then with the file versions and bytes copied so far.

        Raises
        ------
        UnknownSessionError, UnknownRunError, UnknownRunNameError
            When one of them does not exist in this store.
        SameStoreError
            When the destination is this store.
        BackendError, IndexUnavailableError
            When storage or a database of either store fails.
        """
        if progress is not None:  # progress needs totals, which a plan has
            plan = self.plan_sync(destination, sessions=sessions, runs=runs)
            return plan.execute(progress=progress)
        from index.transfer.sync import sync_runs

        return sync_runs(self.context, destination.context, **_chosen(sessions, runs))

    sync_to_async = awaitable(sync_to)


def _chosen(
    sessions: Iterable[Label] | None, names: Iterable[Label] | None
) -> dict[str, tuple[str, ...] | None]:
    return {
        "sessions": None if sessions is None else _ids("session", as_paths("sessions", sessions)),
        "names": None if names is None else _ids("run", as_paths("runs", names)),
    }


def _ids(kind: str, values: tuple[Label, ...]) -> tuple[str, ...]:
    return tuple(check_id(kind, value) for value in values)
