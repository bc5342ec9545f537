"""Moving over: what the old trackers knew becomes the history of runs.

Files that are still there are stored. Of the others a record stays without bytes: a version that
ended at once, since the file is gone. A path that a run knows already is left alone, so that to
adopt twice, or late, changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from index.classification import PRIORITIES
from index.columns import pack_signature, storable_time
from index.errors import InvalidNameError, UnsafePathError, UnsettledScanError, WorkDirectoryError
from index.ingest import observe
from index.legacy import read_runs
from index.names import MAX_TYPE_LENGTH, check_id, check_label, check_path
from index.provenance import Provenance
from index.recording import SupersededError, record_blobs
from index.records import Progress, Skipped
from index.repository import adopted, runs
from index.scanner import Scan
from index.worktree import Coverage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import URL

    from cas.catalog import WrittenBatch
    from index.legacy import LegacyRow
    from index.services import Services
    from index.state import Observed

__all__ = ["AdoptionReport", "adopt"]

_ATTEMPTS: Final = 5
"""How often a run is adopted again because a scan of it, or garbage collection, came in between."""

_GONE: Final = "the file was gone when it was adopted"


@dataclass(slots=True)
class AdoptionReport:
    """What was adopted, and what was not."""

    runs: int = 0
    adopted: int = 0
    """Files whose bytes are stored now."""
    without_bytes: int = 0
    """Files that were gone; what was known of them is kept."""
    already_known: int = 0
    """Paths that their run had a history of; left alone."""
    duplicates: int = 0
    """Rows of a path that a newer row tells of as well."""
    changed_since: int = 0
    """Stored files whose SHA-256 is not the one that the old table has."""
    bytes_read: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    """Rows that can't be adopted, and why."""


def adopt(
    services: Services,
    url: str | URL,
    *,
    session: str,
    root: str | None,
    progress: Callable[[Progress], None] | None = None,
) -> AdoptionReport:
    """Adopt every run of an old `files` table, each in one transaction; return what became of it.

    Parameters
    ----------
    session
        Whose the rows are that name no session.
    root
        The work directory that paths are relative to; ``{session}`` and ``{run}`` stand for the
        ids. None for the deepest directory that all paths of a run share.

    LegacyTableError if there is nothing to read; runs adopted until then stay.
    """
    report = AdoptionReport()
    for (session_id, run_id), rows in read_runs(url):
        try:
            key = (
                check_id("session", session if session_id is None else session_id),
                check_id("run", run_id),
            )
        except InvalidNameError as error:
            report.skipped += [Skipped(str(row.file_path), str(error)) for row in rows]
            continue
        folder = root and root.replace("{session}", key[0]).replace("{run}", key[1])
        _Run(services, *key, report).adopt(rows, folder)
        if progress is not None:
            progress(Progress(report.adopted + report.without_bytes, report.bytes_read))
    return report


class _Run:
    """One run being adopted."""

    def __init__(self, services: Services, session: str, run: str, report: AdoptionReport) -> None:
        self._services = services
        self._session = session
        self._run = run
        self._report = report

    def adopt(self, rows: Sequence[LegacyRow], root: str | None) -> None:
        root = os.path.realpath(root or _common_directory(rows))
        wanted = self._by_path(rows, root)
        for _ in range(_ATTEMPTS):
            with self._services.database.reading() as connection:
                found = runs.find_run(connection, self._session, self._run)
                known = adopted.list_paths(connection, found.id) if found else set()
            todo = {path: row for path, row in wanted.items() if path not in known}
            if not todo:
                break
            try:
                seen = self._commit(todo, root, found)
            except SupersededError:
                continue
            if seen is not None:
                self._count(todo, seen)
                break
        else:
            raise UnsettledScanError(self._run)
        self._report.already_known += len(wanted) - len(todo)

    def _by_path(self, rows: Sequence[LegacyRow], root: str) -> dict[str, LegacyRow]:
        """Return the newest row of each path relative to the root."""
        wanted: dict[str, LegacyRow] = {}
        for row in rows:
            try:
                path = _relative(row.file_path, root)
                _provenance(row)
            except (UnsafePathError, InvalidNameError, TypeError, ValueError) as error:
                self._report.skipped.append(Skipped(str(row.file_path), str(error)))
                continue
            self._report.duplicates += path in wanted
            wanted[path] = row
        return wanted

    def _commit(
        self, todo: Mapping[str, LegacyRow], root: str, found: runs.FoundRun | None
    ) -> dict[str, Observed] | None:
        """Store and record; return what was there, or None if another commit was first."""
        services = self._services
        seen, reasons, written = self._store(todo, root)
        now = services.clock()
        with services.database.writing() as connection:
            run_id = (
                found.id if found else runs.ensure_run(connection, self._session, self._run, now)
            )
            if not runs.advance_revision(connection, run_id, found.revision if found else 0):
                return None
            record_blobs(connection, written, {o.digest for o in seen.values()}, now)
            number = (found.newest_snapshot if found else 0) + 1
            gone = len(seen) < len(todo)
            for at in (number, number + 1) if gone else (number,):
                head = runs.SnapshotHead(
                    at, Provenance(), now, 0, (), sum(o.size for o in seen.values()),
                    written.bytes_stored,
                )  # fmt: skip
                runs.insert_snapshot(connection, run_id, head, None)
            rows = [
                self._row(path, row, seen.get(path), reasons.get(path, _GONE), now, number)
                for path, row in sorted(todo.items())
            ]
            adopted.insert_past(connection, run_id, number, rows)
        return seen

    def _store(
        self, todo: Mapping[str, LegacyRow], root: str
    ) -> tuple[dict[str, Observed], dict[str, str], WrittenBatch]:
        """Store the files that are there; return them, and why others can't be read."""
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
        with self._services.blobs.batch() as batch:
            if there:
                coverage = Coverage.of(root, scope=there, ignore=(), own=())
                scan = Scan(root, {}, coverage)
                try:
                    found = observe(
                        scan,
                        batch,
                        chunk_size=self._services.blobs.chunk_size,
                        started_ns=time.time_ns(),
                    )
                    seen = {o.path: o for o in found.files if o.path in todo}
                except WorkDirectoryError as error:
                    reasons.update(dict.fromkeys(there, error.reason))
                reasons.update(scan.skipped)
            written = batch.finish()
        return seen, reasons, written

    def _row(
        self,
        path: str,
        row: LegacyRow,
        seen: Observed | None,
        reason: str,
        now: datetime,
        number: int,
    ) -> dict[str, Any]:
        classifier = self._services.classifier
        file_type = row.file_type
        if not file_type or len(file_type) > MAX_TYPE_LENGTH:
            file_type = classifier.classify(path)
        final = bool(row.is_final_output)
        created = row.created_at or now
        told = {
            "id": str(row.id),
            "file_path": str(row.file_path),
            "content_hash": row.content_hash,
            "size_bytes": row.size_bytes,
        }
        trusted = seen is not None and seen.trusted and seen.signature is not None
        return {
            "path": path,
            "digest": seen.digest if seen else None,
            "size": seen.size if seen else max(row.size_bytes or 0, 0),
            "mode": seen.mode if seen else stat.S_IFREG | 0o644,
            "mtime_ns": (
                seen.mtime_ns if seen else storable_time(int(created.timestamp()) * 10**9)
            ),
            "file_type": file_type,
            "priority": (
                row.priority
                if row.priority in PRIORITIES
                else classifier.prioritise(file_type, is_final_output=final)
            ),
            "is_final_output": final,
            "created_at": created,
            "end_snapshot": None if seen else number + 1,
            "meta": {"adopted": told if seen else {**told, "reason": reason}},
            "signature": pack_signature(*seen.signature) if trusted else None,  # type: ignore[union-attr, misc]
            "workflow_phase": row.workflow_phase or None,
            "generating_agent": row.generating_agent or None,
            "generating_code_hash": None,
            "node_id": _text(row.node_id),
            "step_id": _text(row.step_id),
            "event_id": _text(row.event_id),
        }

    def _count(self, todo: Mapping[str, LegacyRow], seen: Mapping[str, Observed]) -> None:
        report = self._report
        report.runs += 1
        report.adopted += len(seen)
        report.without_bytes += len(todo) - len(seen)
        for path, observed in seen.items():
            report.bytes_read += observed.size
            old = todo[path].content_hash
            if old and not stat.S_ISLNK(observed.mode):
                sha256 = hashlib.sha256()
                for piece in self._services.blobs.iter_pieces(observed.digest):
                    sha256.update(piece)
                report.changed_since += sha256.hexdigest() != old.lower()


def _common_directory(rows: Sequence[LegacyRow]) -> str:
    folders = {os.path.dirname(row.file_path) for row in rows if isinstance(row.file_path, str)}
    absolute = [folder for folder in folders if os.path.isabs(folder) and "\0" not in folder]
    return os.path.commonpath(absolute) if absolute else os.curdir


def _relative(file_path: object, root: str) -> str:
    if not isinstance(file_path, str):
        raise TypeError("its path is not text")
    if not os.path.isabs(file_path) or "\0" in file_path:
        return check_path(file_path)
    folder, name = os.path.split(file_path)
    text = os.path.join(os.path.realpath(folder), name)
    prefix = root if root.endswith("/") else f"{root}/"
    if not text.startswith(prefix):
        raise UnsafePathError(file_path, f"it is outside the work directory {root!r}")
    return check_path(text[len(prefix) :])


def _provenance(row: LegacyRow) -> None:
    """Raise `InvalidNameError` for what can't be recorded of who made a file."""
    for name in ("workflow_phase", "generating_agent", "node_id", "step_id", "event_id"):
        if (value := _text(getattr(row, name))) is not None:
            check_label(name, value)


def _text(value: object) -> str | None:
    """Return an id as text: the old tables have numbers and UUIDs too."""
    return None if value in (None, "") else str(value)
