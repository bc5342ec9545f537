"""Commits of what a caller says of a run as a whole. They make no snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.commit.named import ATTEMPTS, NamedFiles
from index.commit.plan import CommitRequest
from index.commit.write import retry_on_conflict
from index.db.queries import names, parents, run_tags, runs
from index.db.queries.drops import check as check_drops
from index.domain.changes import ScanChanges
from index.domain.marks import Marks
from index.domain.run_state import ObservedFiles
from index.domain.tags import NewRunTag
from index.errors import ParentCycleError, UnknownRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cas.digest import Digest
    from index.domain.drops import Drop
    from index.domain.provenance import Provenance

__all__ = ["MarkedRun"]


class MarkedRun(NamedFiles):
    """Records files of one run by name, and what is said of the run. Safe for several threads."""

    def mark(self, marks: Marks, provenance: Provenance, *, creates_run: bool = True) -> datetime:
        """Commit what a caller says of the run; return the time of the commit.

        Raises
        ------
        UnknownRunError
            When the run does not exist, and a tag is for it or it is not to be created.
        ParentCycleError
            When the run can't be a part of another, because that is a part of it.
        """
        return self._mark(lambda: marks, provenance, creates_run=creates_run)

    def drop(self, drops: Sequence[Drop], provenance: Provenance) -> datetime:
        """Let the bytes of past versions go; return the time of the commit.

        Raises
        ------
        UnknownRunError, UnknownFileError, HeldError, VersionKeptError
            When one of them does not exist, or must stay.
        """
        key = self._key
        # Before a record says so: a rebuilt index believes the newest one.
        with self._context.database.reading() as connection:
            found = runs.find_run(connection, key.session, key.run)
            if found is None:
                raise names.unknown_run(connection, key.session, key.run)
            check_drops(connection, key, found.id, drops)
        return self.mark(Marks(drops=drops), provenance)

    def move_run_tag(self, name: str, provenance: Provenance, *, is_removed: bool) -> datetime:
        """Commit that a tag names this run from now on, or nothing; return the time.

        Raises UnknownRunError if the run does not exist.
        """

        def next_move() -> Marks:
            position = 1 + self._context.database.read(
                lambda connection: run_tags.newest_position(connection, self._key.session, name)
            )
            return Marks(run_tags=(NewRunTag(name, position, is_removed, provenance.agent),))

        return self._mark(next_move, provenance)

    def _mark(
        self, find: Callable[[], Marks], provenance: Provenance, *, creates_run: bool = True
    ) -> datetime:
        key = self._key

        def attempt(records: Sequence[Digest] | None) -> datetime:
            state = self._load(records, ())
            marks = find()
            needs_run = marks.tags or marks.run_tags or marks.drops or not creates_run
            if state.run_id is None and needs_run:
                raise UnknownRunError(key.session, key.run)
            if marks.parent:  # before the journal record is stored, which can't be taken back
                self._check_parent(marks.parent)
            nothing = ScanChanges(ObservedFiles(), (), (), ())
            request = CommitRequest(
                key,
                nothing,
                provenance,
                rebased=lambda _found, _newer: nothing,
                paths=(),
                marks=marks,
                classifier=self._context.classifier,
            )
            with self._context.blobs.batch() as batch:
                return self._commit(request, state, records, batch)[0].created_at

        return retry_on_conflict(attempt, attempts=ATTEMPTS, name=key.run)

    def _check_parent(self, parent: str) -> None:
        session, run = self._key.session, self._key.run
        if self._context.database.read(
            lambda connection: parents.is_below(connection, session, parent, run)
        ):
            raise ParentCycleError(run, parent)
