"""A session: the tenant scope that every run and every read belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from index.commit import RunKey
from index.errors import UnknownSessionError
from index.names import check_id
from index.repository import runs
from index.run import Run

if TYPE_CHECKING:
    from cas.store import BlobStore
    from index.database import Database
    from index.records import RunSummary
    from index.state import StateCache
    from index.tracking import TrackingService

__all__ = ["Session"]


@dataclass(frozen=True, slots=True)
class Session:
    """A handle: cheap to make, valid as long as its store is open."""

    id: str
    _database: Database = field(repr=False)
    _blobs: BlobStore = field(repr=False)
    _tracking: TrackingService = field(repr=False)
    _states: StateCache = field(repr=False)

    def run(self, run_id: str) -> Run:
        """Return a run of this session; it is created by the first write to it.

        Raises
        ------
        InvalidNameError
            When the id can't be one.
        """
        key = RunKey(self.id, check_id("run", run_id))
        return Run(key, self._database, self._blobs, self._tracking, self._states)

    def runs(self) -> list[RunSummary]:
        """Return the session's runs, oldest first.

        Raises
        ------
        UnknownSessionError
            When nothing was ever written in the session.
        """
        with self._database.reading() as connection:
            found = runs.list_runs(connection, self.id)
            if not found and not runs.session_exists(connection, self.id):
                raise UnknownSessionError(self.id)
        return found
