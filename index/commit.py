"""Recording what a scan or a put found, in one transaction, against whatever others record.

The bytes are durable before this begins. If another commit was first, the transaction is abandoned,
the findings are rebased on the new state, and it is tried again, without reading a file again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError

from index.delta import rebase, with_displaced
from index.recording import SupersededError, UncertainCommitError, load_state, record
from index.repository import files, runs

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from index.database import Database
    from index.delta import Findings
    from index.recording import CommitRequest, RunKey
    from index.records import FileVersion, Snapshot
    from index.state import RunState

__all__ = ["Committer"]


class Committer:
    """Records scans of any run in one index. Safe for use by several threads."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def get_version(self, key: RunKey, file_id: int) -> FileVersion:
        """Return a file version of the run by its id, as it is now."""
        return self._database.insist(lambda: self._get_version(key, file_id))

    def _get_version(self, key: RunKey, file_id: int) -> FileVersion:
        with self._database.reading() as connection:
            (version,) = files.list_by_id(connection, key.session, key.run, [file_id])
        return version

    def load_state(self, key: RunKey, cached: RunState | None = None) -> RunState:
        """Return the run's state; `cached` itself if it is still the newest."""

        def load() -> RunState:
            with self._database.reading() as connection:
                return load_state(connection, key, cached)

        return self._database.insist(load)

    def commit(self, request: CommitRequest, base: RunState) -> tuple[Snapshot, RunState]:
        """Record the request; return the snapshot and the state after it.

        Nothing is written if there is nothing to record, except for the first time that a run is
        seen. On raise nothing of it is visible, but for `IndexInterruptedError` that says so. If
        the database goes away it is tried again for a minute; a commit whose answer was lost is
        looked for.

        Raises
        ------
        SupersededError
            When the scan has to be done again.
        """
        state = base
        found = request.findings
        while True:
            try:
                done = self._record(request, with_displaced(found, state), state)
            except IntegrityError as error:
                raise SupersededError from error
            if done is not None:
                return done
            newer = self.load_state(request.key)
            if newer.run_id is None or state.run_id not in (None, newer.run_id):
                raise SupersededError
            found = rebase(found, newer, request.still_holds)
            state = newer

    def _record(
        self, request: CommitRequest, findings: Findings, state: RunState
    ) -> tuple[Snapshot, RunState] | None:
        database = self._database

        def attempt() -> tuple[Snapshot, RunState] | None:
            return record(database.writing, database.reading, request, findings, state, self._clock)

        while True:
            try:
                return database.insist(attempt)
            except UncertainCommitError as uncertain:
                if self._arrived(uncertain.snapshot_id):
                    return uncertain.done

    def _arrived(self, snapshot_id: int | None) -> bool:
        if snapshot_id is None:
            return False

        def look() -> bool:
            with self._database.reading() as connection:
                return runs.has_snapshot(connection, snapshot_id)

        return self._database.insist(look)
