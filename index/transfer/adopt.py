"""Adoption: import the tables of older trackers as the history of runs.

Files that still exist are stored. A file that is gone becomes a version without bytes that ended at
once. Paths that a run knows already stay unchanged, so adopting twice or late changes nothing. The
exception is a version without bytes whose file is back: the path gets a version with bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy.exc import IntegrityError

from index.commit.chain import complete_chain, write_history
from index.commit.prepare import limit
from index.commit.write import CommitConflict, record_blobs, within_quota
from index.db.database import is_impossible
from index.db.queries import adopted, runs
from index.db.queries.usage import find_usage
from index.db.tables import PROVENANCE_COLUMNS
from index.domain.classification import PRIORITIES
from index.domain.names import MAX_TYPE_LENGTH, RunKey, check_id, check_local, storable
from index.domain.progress import Progress
from index.domain.provenance import Provenance
from index.domain.results import Result
from index.domain.snapshots import Skipped, Snapshot
from index.errors import InvalidNameError, UnsettledScanError, WorkDirectoryError
from index.scan.coverage import Coverage
from index.scan.ingest import Observations
from index.scan.scanner import Scan
from index.transfer.legacy_paths import (
    RowsByPath,
    as_label,
    common_directory,
    place_now,
    root_of,
)
from index.transfer.legacy_table import read_runs

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import URL

    from cas.catalog import WrittenBatch
    from index.context import StoreContext
    from index.domain.run_state import Observed
    from index.transfer.legacy_paths import Moves
    from index.transfer.legacy_table import LegacyRow

__all__ = ["AdoptionReport", "Root", "adopt"]

_Path: TypeAlias = "str | os.PathLike[str]"
Root: TypeAlias = "_Path | Mapping[str, _Path] | Callable[[str, str], _Path | None] | None"
"""The work directories of runs: a template, one for each run id, or a function of both ids."""

_ATTEMPTS: Final = 5
"""Attempts to adopt a run if scans of it, or garbage collection, come in between."""

_GONE: Final = "the file was gone when it was adopted"

_SHA256: Final = re.compile("[0-9a-fA-F]{64}")
"""The old hash of a file under 50 MiB (stage 4, task 4.2). Other trackers wrote other values."""


@dataclass(frozen=True, slots=True)
class AdoptionReport(Result):
    """The report of an adoption."""

    runs: int
    """Number of runs with adopted files."""
    adopted: int
    """Number of files whose bytes are stored now."""
    without_bytes: int
    """Number of files that were gone. Their table values are kept."""
    already_known: int
    """Number of paths that had a history in their run. They stay unchanged."""
    duplicates: int
    """Number of rows beyond the first of a path."""
    changed_since: int
    """Number of stored files whose SHA-256 differs from the old table."""
    bytes_read: int
    skipped: tuple[Skipped, ...]
    """Rows that can't be adopted, with the reasons."""
    torn: tuple[str, ...] = ()
    """Files that changed each time they were read, by their paths of now; see `Snapshot.torn`."""


@dataclass(slots=True)
class _Tally:
    """The counts of a report in progress."""

    runs: int = 0
    adopted: int = 0
    without_bytes: int = 0
    already_known: int = 0
    duplicates: int = 0
    changed_since: int = 0
    bytes_read: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    def report(self) -> AdoptionReport:
        return AdoptionReport(
            self.runs,
            self.adopted,
            self.without_bytes,
            self.already_known,
            self.duplicates,
            self.changed_since,
            self.bytes_read,
            tuple(self.skipped),
            tuple(self.torn),
        )


def adopt(
    context: StoreContext,
    url: str | URL,
    *,
    session: str,
    root: Root = None,
    moved: Moves = (),
    progress: Callable[[Progress], None] | None = None,
) -> AdoptionReport:
    """Adopt all runs of an old `files` table, each in one transaction; return the report.

    Parameters
    ----------
    session
        The session of rows that name none.
    root
        The work directory that paths are relative to: see `ArtifactStore.adopt`. Where it names
        none, the directory of an earlier adoption of the run, or else the deepest directory that
        all its paths share.
    moved
        Pairs of the directory that paths begin with and the one where their files are now.

    Raises
    ------
    LegacyTableError
        When the table can't be read. Runs adopted until then stay.
    """
    tally = _Tally()
    with closing(read_runs(url)) as found:
        for (session_id, run_id), rows in found:
            try:
                key = (
                    check_id("session", session if session_id is None else session_id),
                    check_id("run", run_id),
                )
            except InvalidNameError as error:
                tally.skipped += [Skipped(str(row.file_path), str(error)) for row in rows]
                continue
            _Run(context, *key, tally).adopt(rows, _folder(root, *key), moved)
            if progress is not None:
                progress(Progress(tally.adopted + tally.without_bytes, tally.bytes_read))
    return tally.report()


def _folder(root: Root, session: str, run: str) -> str | None:
    """Return the work directory of a run; None if `root` names none."""
    if root is None:
        return None
    if callable(root):
        found = root(session, run)
    elif isinstance(root, Mapping):
        found = root.get(run)
    else:
        found = os.fspath(root).replace("{session}", session).replace("{run}", run)
    return None if found is None else check_local(found)


class _Run:
    """The adoption of one run."""

    def __init__(self, context: StoreContext, session: str, run: str, tally: _Tally) -> None:
        self._context = context
        self._session = session
        self._run = run
        self._tally = tally

    def adopt(self, rows: Sequence[LegacyRow], root: str | None, moved: Moves) -> None:
        root = root or self._root_of_before(moved) or common_directory(rows, moved)
        root = os.path.realpath(root)
        wanted = RowsByPath.of(rows, root, moved)
        self._tally.duplicates += wanted.duplicates
        self._tally.skipped += wanted.skipped
        recorded: Mapping[str, LegacyRow] = {}
        for _ in range(_ATTEMPTS):
            with self._context.database.reading() as connection:
                found = runs.find_run(connection, self._session, self._run)
                known = adopted.list_paths(connection, found.id) if found else {}
            todo = {
                path: row
                for path, row in wanted.rows.items()
                if path not in known
                or (known[path].is_lost and os.path.lexists(os.path.join(root, path)))
            }
            if not todo:
                complete_chain(self._context, RunKey(self._session, self._run))
                break
            try:
                done = self._commit(todo, root, found, known)
            except CommitConflict:
                continue
            except IntegrityError as error:
                if is_impossible(error):
                    raise
                continue  # garbage collection deleted blobs that it relied on
            if done is not None:
                seen, torn = done
                recorded = {path: todo[path] for path in _recorded(todo, seen, known)}
                self._count(recorded, seen)
                self._tally.torn += [os.path.join(root, path) for path in torn]
                break
        else:
            raise UnsettledScanError(self._run)
        self._tally.already_known += len(wanted.rows) - len(recorded)

    def _root_of_before(self, moved: Moves) -> str | None:
        with self._context.database.reading() as connection:
            found = runs.find_run(connection, self._session, self._run)
            origins = adopted.list_origins(connection, found.id) if found else ()
        roots = (root_of(place_now(file_path, moved), path) for path, file_path in origins)
        return next((root for root in roots if root is not None), None)

    def _commit(
        self,
        todo: Mapping[str, LegacyRow],
        root: str,
        found: runs.FoundRun | None,
        known: Mapping[str, adopted.KnownPath],
    ) -> tuple[dict[str, Observed], tuple[str, ...]] | None:
        """Store and commit; return the files found and the torn ones among them.

        Return None if another commit was first.
        """
        context = self._context
        seen, torn, reasons, written = self._store(todo, root)
        recorded = _recorded(todo, seen, known)
        if not recorded:  # what is there again is no file that can be read
            return seen, torn
        now = context.clock()
        with context.database.writing() as connection:
            run_id = (
                found.id if found else runs.ensure_run(connection, self._session, self._run, now)
            )
            if not runs.advance_revision(
                connection,
                run_id,
                found.revision if found else 0,
                newest_record=found.newest_record if found else None,
                next_record=None,
            ):
                return None
            record_blobs(connection, written, {o.digest for o in seen.values()}, now)
            number = (found.newest_snapshot if found else 0) + 1
            gone = any(path not in seen for path in recorded)
            for at in (number, number + 1) if gone else (number,):
                snapshot = Snapshot(
                    at, Provenance(), now, 0, (), sum(o.size for o in seen.values()),
                    written.bytes_stored, torn=torn if at == number else (),
                )  # fmt: skip
                runs.insert_snapshot(connection, run_id, snapshot, None)
            with within_quota(connection, self._session):
                adopted.insert_past(
                    connection,
                    run_id,
                    number,
                    [
                        self._row(path, todo[path], seen.get(path), reasons.get(path, _GONE), now)
                        | adopted.next_version(known.get(path), number)
                        | {"end_snapshot": None if path in seen else number + 1}
                        for path in recorded
                    ],
                )
        key = RunKey(self._session, self._run)
        write_history(context, key)
        return seen, torn

    def _store(
        self, todo: Mapping[str, LegacyRow], root: str
    ) -> tuple[dict[str, Observed], tuple[str, ...], dict[str, str], WrittenBatch]:
        """Store the files that exist; return them, the torn ones, and why others can't be read."""
        reasons: dict[str, str] = {}
        there = []
        for path in todo:
            try:
                is_directory = stat.S_ISDIR(os.lstat(os.path.join(root, path)).st_mode)
            except OSError:
                continue
            if is_directory:
                reasons[path] = "a directory is in its place"
            else:
                there.append(path)
        seen: dict[str, Observed] = {}
        torn: tuple[str, ...] = ()
        used = self._context.database.read(lambda each: find_usage(each, self._session))
        with self._context.blobs.batch() as batch:
            limit(batch, used)
            if there:
                own = self._context.own_files
                scan = Scan(root, {}, Coverage.of_files(there), own=own)
                try:
                    found = Observations(scan, batch, started_ns=time.time_ns())
                    seen = {o.path: o for o in found if o.path in todo}
                    torn = tuple(sorted(seen.keys() & found.torn))
                except WorkDirectoryError as error:
                    reasons.update(dict.fromkeys(there, error.reason))
                reasons.update(scan.skipped)
            written = batch.finish()
        return seen, torn, reasons, written

    def _row(
        self,
        path: str,
        row: LegacyRow,
        seen: Observed | None,
        reason: str,
        now: datetime,
    ) -> dict[str, Any]:
        classifier = self._context.classifier
        file_type = row.file_type
        if not file_type or len(file_type) > MAX_TYPE_LENGTH:
            file_type = classifier.classify(path)
        final = bool(row.is_final_output)
        created = row.created_at or now
        values = {
            "id": str(row.id),
            "file_path": str(row.file_path),
            "content_hash": row.content_hash,
            "size_bytes": row.size_bytes,
            **row.others,
        }
        return {
            "path": path,
            "digest": seen.digest if seen else None,
            "size": seen.size if seen else max(row.size_bytes or 0, 0),
            "mode": seen.mode if seen else stat.S_IFREG | 0o644,
            "mtime_ns": (seen.mtime_ns if seen else storable(int(created.timestamp()) * 10**9)),
            "file_type": file_type,
            "priority": (
                row.priority
                if row.priority in PRIORITIES
                else classifier.prioritise(file_type, is_final_output=final)
            ),
            "is_final_output": final,
            "created_at": created,
            "meta": {"adopted": values if seen else {**values, "reason": reason}},
            "signature": seen.signature if seen and seen.trusted else None,
            **{column: as_label(getattr(row, column)) for column in PROVENANCE_COLUMNS.values()},
        }

    def _count(self, todo: Mapping[str, LegacyRow], seen: Mapping[str, Observed]) -> None:
        tally = self._tally
        tally.runs += bool(todo)
        tally.adopted += len(seen)
        tally.without_bytes += len(todo) - len(seen)
        for path, observed in seen.items():
            tally.bytes_read += observed.size
            old = todo[path].content_hash
            if old and _SHA256.fullmatch(old) and not stat.S_ISLNK(observed.mode):
                sha256 = hashlib.sha256()
                for piece in self._context.blobs.iter_pieces(observed.digest):
                    sha256.update(piece)
                tally.changed_since += sha256.hexdigest() != old.lower()


def _recorded(todo: Iterable[str], seen: Container[str], known: Container[str]) -> list[str]:
    """Return the paths that get a version: one without bytes is not inserted twice."""
    return [path for path in sorted(todo) if path in seen or path not in known]
