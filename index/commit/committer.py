"""Commit the findings of a scan or a put in one transaction, while others commit too.

The bytes are durable before the commit begins. If another commit was first, the transaction is
rolled back, the findings are rebased on the new state, and the commit is retried without reading
files again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import IntegrityError

from index.commit.prepare import plan_commit, with_records
from index.commit.write import CommitConflict, UncertainCommitError, load_state, record
from index.db.queries import current, files, names, runs

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.engine import Connection

    from cas.catalog import WrittenBatch
    from cas.digest import Digest
    from index.commit.plan import CommitPlan, CommitRequest
    from index.context import StoreContext
    from index.domain.changes import ScanChanges
    from index.domain.names import RunKey
    from index.domain.run_state import RunState
    from index.domain.snapshots import FileVersion, Snapshot
    from index.errors import UnknownRunError

__all__ = ["Committer"]

_LOG: Final = logging.getLogger("index.commit")


class Committer:
    """Commits scans of any run to one index. Safe for use by several threads."""

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._database = context.database

    def list_versions(self, key: RunKey, ids: Sequence[int]) -> dict[str, FileVersion]:
        """Return file versions of the run, given by their ids, as they are now; by path."""
        found = self._database.read(
            lambda connection: files.list_by_id(connection, key.session, key.run, ids)
        )
        return {version.path: version for version in found}

    def load_state(
        self,
        key: RunKey,
        cached: RunState | None = None,
        paths: Collection[str] | None = None,
    ) -> RunState:
        """Return the run's state; `cached` itself if it is still the newest and holds enough.

        With `paths` it may hold only the files that concern these.
        """
        return self._database.read(lambda connection: load_state(connection, key, cached, paths))

    def list_similar(self, key: RunKey, path: str) -> tuple[str, ...]:
        """Return paths of the run that the caller may mean by one without a file."""

        def look(connection: Connection) -> tuple[str, ...]:
            found = runs.find_run(connection, key.session, key.run)
            return () if found is None else current.list_similar(connection, found.id, path)

        return self._database.read(look)

    def unknown_run(self, key: RunKey) -> UnknownRunError:
        """Return the error for a run that does not exist, with the closest ones."""
        return self._database.read(
            lambda connection: names.unknown_run(connection, key.session, key.run)
        )

    def plan_commit(
        self, request: CommitRequest, state: RunState, superseded_records: Sequence[Digest] = ()
    ) -> CommitPlan:
        """Return the plan of a request for a run in the given state.

        Write its journal records to the batch of the same commit: see `write_records` of
        `index.commit.prepare`.

        Parameters
        ----------
        superseded_records
            Records of earlier attempts: `CommitConflict.records`.
        """
        return self._prepare(request, request.findings, state, superseded_records)

    def commit(self, plan: CommitPlan, written: WrittenBatch) -> tuple[Snapshot, RunState]:
        """Execute a plan; return the snapshot and the state after it.

        Without changes nothing is written, except at the first scan of a run. On raise nothing is
        visible, unless an `IndexInterruptedError` says that it may be. While the database is
        unavailable the commit is retried for a minute. After a lost answer it first checks whether
        the commit succeeded.

        Raises
        ------
        CommitConflict
            When the scan must be repeated.
        """
        while True:
            superseded_records = (*plan.replaces, *plan.records)
            try:
                done = self._record(plan, written) if _is_chained(plan) else None
                if done is not None:
                    _log(plan.request.key, done[0])
                    return done
                plan, written = self._again(plan, written, superseded_records)
            except (IntegrityError, CommitConflict) as error:
                conflict = CommitConflict()
                conflict.records = superseded_records
                raise conflict from error

    def _again(
        self, plan: CommitPlan, written: WrittenBatch, superseded_records: Sequence[Digest]
    ) -> tuple[CommitPlan, WrittenBatch]:
        """Return the plan rebased on the commits of others, with its new records stored."""
        request, before = plan.request, plan.state
        if not before.has_chain:
            self._begin_chain(request.key)
        newer = self.load_state(request.key, paths=request.paths)
        if newer.run_id is None or before.run_id not in (None, newer.run_id):
            raise CommitConflict
        found = request.rebased(plan.findings, newer)
        again = self._prepare(request, found, newer, superseded_records)
        with self._context.blobs.batch() as batch:
            return with_records(batch, written, again)

    def _prepare(
        self,
        request: CommitRequest,
        findings: ScanChanges,
        state: RunState,
        superseded_records: Sequence[Digest],
    ) -> CommitPlan:
        return self._database.with_retries(
            lambda: plan_commit(
                request,
                findings,
                state,
                look=self._database.reading,
                now=self._context.clock(),
                replaces=superseded_records,
            )
        )

    def _begin_chain(self, key: RunKey) -> None:
        from index.commit.chain import write_history

        write_history(self._context, key)

    def _record(self, plan: CommitPlan, written: WrittenBatch) -> tuple[Snapshot, RunState] | None:
        database = self._database
        while True:
            try:
                return database.with_retries(lambda: record(database.writing, plan, written))
            except UncertainCommitError as uncertain:
                if self._arrived(uncertain.snapshot_id):
                    return uncertain.done

    def _arrived(self, snapshot_id: int | None) -> bool:
        if snapshot_id is None:
            return False
        return self._database.read(lambda connection: runs.has_snapshot(connection, snapshot_id))


def _log(key: RunKey, snapshot: Snapshot) -> None:
    if not snapshot.recorded or not _LOG.isEnabledFor(logging.INFO):
        return
    changes = {
        "added": len(snapshot.lazy_added),
        "changed": len(snapshot.lazy_changed),
        "removed": len(snapshot.lazy_removed),
        "bytes_stored": snapshot.bytes_stored,
    }
    extra = {"session": key.session, "run": key.run, "snapshot": snapshot.number, **changes}
    text = "run %s of session %s: snapshot %d, %d added, %d changed, %d removed, %d bytes stored"
    _LOG.info(text, key.run, key.session, snapshot.number, *changes.values(), extra=extra)


def _is_chained(plan: CommitPlan) -> bool:
    """Whether the commit can proceed: a change needs a complete chain for its record."""
    return plan.state.has_chain or not plan.changes_anything
