"""Recording what a scan or a put found, in one transaction, against whatever others record.

The bytes are durable before this begins. If another commit was first, the transaction is abandoned,
the findings are rebased on the new state, and it is tried again, without reading a file again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError

from index.delta import rebase, with_displaced
from index.recording import SupersededError, load_state, record
from index.repository import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from index.database import Database
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
        with self._database.reading() as connection:
            (version,) = files.list_by_id(connection, key.session, key.run, [file_id])
        return version

    def load_state(self, key: RunKey, cached: RunState | None = None) -> RunState:
        """Return the run's state; `cached` itself if it is still the newest."""
        with self._database.reading() as connection:
            return load_state(connection, key, cached)

    def commit(self, request: CommitRequest, base: RunState) -> tuple[Snapshot, RunState]:
        """Record the request; return the snapshot and the state after it.

        Nothing is written if there is nothing to record, except for the first time that a run is
        seen. On raise nothing of it is visible.

        Raises
        ------
        SupersededError
            When the scan has to be done again.
        """
        state = base
        found = request.findings
        database = self._database
        while True:
            findings = with_displaced(found, state)
            try:
                done = record(
                    database.writing, database.reading, request, findings, state, self._clock
                )
            except IntegrityError as error:
                raise SupersededError from error
            if done is not None:
                return done
            newer = self.load_state(request.key)
            if newer.run_id is None or state.run_id not in (None, newer.run_id):
                raise SupersededError
            found = rebase(found, newer, request.still_holds)
            state = newer
