"""Search for file versions over many runs, with bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from index.db.queries import runs, search
from index.db.queries.expressions import condition_of, may_hold
from index.db.queries.files import has_digest_prefix
from index.db.queries.listings import conditions_for, has_prefix
from index.domain.expressions import needs_meta
from index.errors import UnknownSessionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from index.db.database import Database
    from index.db.queries.files import Condition
    from index.db.queries.search import SearchedRun
    from index.domain.expressions import Expression
    from index.domain.listing import NamePattern
    from index.domain.snapshots import FileVersion

__all__ = ["Search"]

_PAGE: Final = 2_000
"""Versions that are held at once, about 2 MB."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for. All values are checked."""

    labels: Mapping[str, Any]
    """Arguments of `conditions_for`."""
    prefix: str
    name: NamePattern | None
    since: datetime | None
    until: datetime | None
    larger: int | None
    smaller: int | None
    digest: str | None
    """First digits."""
    run: str | None
    """An id, or a pattern for ids."""
    where: Expression | None
    past: bool
    """Whether past versions match, too."""

    def iter_found(
        self, database: Database, session: str | None, limit: int | None
    ) -> Iterator[FileVersion]:
        """Yield what is found in a session, or in all: run by run, by path and version.

        Runs without a version of these labels are not looked at: the kept counts tell. Small ones
        are read together. Raises UnknownSessionError if there is no such session.
        """
        left = limit
        for batch in self._batches(database, session):
            for version in self._iter_batch(database, batch):
                if left == 0:
                    return
                if self.name is None or self.name.matches(version.path):
                    yield version
                    left = None if left is None else left - 1

    def _batches(self, database: Database, session: str | None) -> Iterator[list[SearchedRun]]:
        """Yield runs that one statement reads: several small ones, or a large one."""
        with database.reading() as connection:
            where = [] if self.where is None else may_hold(connection, self.where)
            searched = search.list_searched(
                connection, session, *where, labels=self.labels, past=self.past, digest=self.digest
            )
            if not (searched or session is None or runs.session_exists(connection, session)):
                raise UnknownSessionError(session)
        batch: list[SearchedRun] = []
        count = 0
        for each in searched:
            if self.run not in (None, each.run) and not fnmatchcase(each.run, str(self.run)):
                continue
            if batch and count + each.versions > _PAGE:
                yield batch
                batch, count = [], 0
            batch.append(each)
            count += each.versions
        if batch:
            yield batch

    def _iter_batch(self, database: Database, batch: list[SearchedRun]) -> Iterator[FileVersion]:
        size = _PAGE if len(batch) == 1 else None
        last: FileVersion | None = None
        noted = self.where is not None and needs_meta(self.where)
        while True:
            with database.reading() as connection:
                conditions = [*conditions_for(**self.labels), *self._described()]
                if self.name is not None:
                    conditions += search.contains(connection, self.name.part)
                if self.where is not None:
                    conditions.append(condition_of(connection, self.where))
                page = search.search_page(
                    connection,
                    batch,
                    *conditions,
                    past=self.past,
                    noted=noted,
                    after=last,
                    limit=size,
                )
            yield from page
            if size is None or len(page) < size:
                return
            last = page[-1]

    def _described(self) -> Iterator[Condition]:
        yield from has_prefix(self.prefix)
        if self.name is not None:
            yield from has_prefix(self.name.prefix)
        if self.digest is not None:
            yield has_digest_prefix(self.digest)
        yield from search.recorded_in(self.since, self.until)
        yield from search.has_size(self.larger, self.smaller)
