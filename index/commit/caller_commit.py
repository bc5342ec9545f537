"""Recording of named files of a run in the application's own transaction."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy.exc import IntegrityError

from index.commit.caller_transaction import (
    Known,
    begin_writing,
    catalog_of,
    check_references,
    look_of,
    memory_of,
    within,
)
from index.commit.named import as_result, find_removed
from index.commit.plan import CommitRequest
from index.commit.prepare import limit, plan_commit, with_records, write_records
from index.commit.write import CommitConflict, load_state, record
from index.db.catalog import TransactionCatalog
from index.db.queries import blobs, current, runs
from index.decorators import naming_memory
from index.domain.annotations import Annotations, FileKind
from index.domain.changes import compare_scan, rebase
from index.errors import UnknownFileError, UnsettledScanError
from index.scan.ingest import Observations
from index.scan.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from cas.catalog import WrittenBatch
    from cas.writer import BatchWriter
    from index.commit.caller_transaction import Memory
    from index.commit.plan import CommitPlan
    from index.context import StoreContext
    from index.domain.changes import ScanChanges
    from index.domain.names import RunKey
    from index.domain.provenance import Provenance
    from index.domain.run_state import RunState
    from index.domain.snapshots import FileVersion, Snapshot

__all__ = ["CallersRun"]

T = TypeVar("T")

_ATTEMPTS: Final = 5
"""How often files are read again because the state behind the first read has changed. On SQLite the
second attempt succeeds, because no other process can write then."""


class CallersRun:
    """One run, for one call in the transaction of a SQLAlchemy session."""

    def __init__(
        self,
        connection: Connection,
        context: StoreContext,
        key: RunKey,
        recorded: Callable[[Memory], None],
    ) -> None:
        """Bind to an open transaction; `recorded` is called whenever it has got new rows."""
        self._recorded = recorded
        self._connection = connection
        self._context = context
        self._key = key
        self._memory = memory_of(connection)

    def register(
        self,
        root: str,
        paths: Sequence[str],
        provenance: Provenance,
        annotations: Annotations,
    ) -> list[FileVersion]:
        """Record the present content of files below `root`; return their versions."""

        def find(known: Known, batch: BatchWriter) -> CommitRequest:
            return self._observed(known, batch, root, paths, provenance, annotations)

        def attempt() -> list[FileVersion]:
            known, snapshot = self._commit(paths, find)
            versions = known.versions(look_of(self._connection, self._context), paths)
            return [as_result(version, provenance, snapshot.torn) for version in versions]

        return self._settle(attempt)

    def remove(self, paths: Sequence[str], provenance: Provenance) -> list[FileVersion]:
        """End the current versions of paths; return them in the order given."""

        def find(known: Known, _batch: BatchWriter) -> CommitRequest:
            return CommitRequest(
                self._key,
                find_removed(self._key, paths, known.state),
                provenance,
                rebased=lambda _found, newer: find_removed(self._key, paths, newer),
                paths=paths,
                is_claim=True,
            )

        def attempt() -> list[FileVersion]:
            _, snapshot = self._commit(paths, find)
            removed = {version.path: version for version in snapshot.removed}
            return [removed[path] for path in paths]

        try:
            return self._settle(attempt)
        except UnknownFileError as error:
            with look_of(self._connection, self._context)() as reading:
                found = runs.find_run(reading, self._key.session, self._key.run)
                if found is None:
                    raise
                closest = current.list_similar(reading, found.id, error.path)
            raise UnknownFileError(error.run, error.path, closest=closest) from None

    def _settle(self, attempt: Callable[[], T]) -> T:
        cause: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                with naming_memory(f"record {self._key.run!r}"):
                    return attempt()
            except (IntegrityError, CommitConflict) as error:
                self._memory.runs.pop(self._key, None)
                cause = error
        raise UnsettledScanError(self._key.run) from cause

    def _commit(
        self, paths: Sequence[str], find: Callable[[Known, BatchWriter], CommitRequest]
    ) -> tuple[Known, Snapshot]:
        """Record what `find` returns, or on raise nothing; return the run after that."""
        memory, look = self._memory, look_of(self._connection, self._context)
        known = self._load(paths)
        with self._context.blobs.batch(catalog_of(self._connection, self._context)) as batch:
            limit(batch, known.state.usage)
            request = find(known, batch)
            now = self._context.clock()
            plan = plan_commit(request, request.findings, known.state, look=look, now=now)
            plan = write_records(batch, plan)
            written = batch.finish()
        based_on, snapshot, state = self._record(plan, written)
        if state is not known.state:
            if based_on is known.state:
                known.advance(state, paths)
            else:
                known = Known(self._key, state)
            memory.runs[self._key] = known
            memory.recorded[self._key] = state
            memory.has_written = True
            self._recorded(memory)
        return known, snapshot

    def _load(self, paths: Sequence[str]) -> Known:
        key, memory, states = self._key, self._memory, self._context.states
        known = memory.runs.get(key)
        if known is not None and known.state.holds(paths):
            return known
        with look_of(self._connection, self._context)() as connection:
            if known is None:
                cached = states.get(key.session, key.run)
                known = Known(key, load_state(connection, key, cached, paths))
            else:
                known = known.load(connection, paths)
        if not memory.has_written and known.state.run_id is not None:
            states.keep(key.session, key.run, known.state)
        memory.runs[key] = known
        return known

    def _observed(
        self,
        known: Known,
        batch: BatchWriter,
        root: str,
        paths: Sequence[str],
        provenance: Provenance,
        annotations: Annotations,
    ) -> CommitRequest:
        """Store the new content of files; return what to commit."""
        started_ns = time.time_ns()
        scan = Selection(root, known.state.directories, paths, self._context.own_files)
        found = Observations(scan, batch, started_ns=started_ns)
        findings = compare_scan(found, (), scan.unchanged, known.state)
        scan.require({*findings.new.paths, *(file.path for file in findings.unchanged)})
        if (
            annotations.given
            and not findings.new
            and not self._says_more(known, findings, annotations)
        ):
            annotations = Annotations()  # else each call would look up its files again
        return CommitRequest(
            self._key,
            findings,
            provenance,
            rebased=partial(_registered, paths, scan.bit),
            paths=paths,
            is_claim=True,
            torn=tuple(sorted(found.torn)),
            scope=paths,
            bytes_read=found.bytes_read,
            annotations=dict.fromkeys(paths, annotations) if annotations.given else {},
            classifier=self._context.classifier,
        )

    def _says_more(self, known: Known, findings: ScanChanges, annotations: Annotations) -> bool:
        """Whether annotations change any file with unchanged content."""
        unchanged = [file.path for file in findings.unchanged if annotations.may_change(file)]
        recorded = known.versions(look_of(self._connection, self._context), unchanged)
        return any(
            annotations.over(
                v.path,
                FileKind(v.file_type, v.priority, v.is_final_output, v.meta),
                self._context.classifier,
            )
            for v in recorded
        )

    def _record(
        self, plan: CommitPlan, written: WrittenBatch
    ) -> tuple[RunState, Snapshot, RunState]:
        """Record the whole plan or, on raise, nothing; return the state before and after."""
        request, connection = plan.request, self._connection
        unregistered = list(written.packs)

        @contextmanager
        def begin() -> Iterator[Connection]:
            begin_writing(connection)
            with connection.begin_nested():
                while unregistered:
                    blobs.insert_pending_pack(connection, unregistered.pop(), plan.now)
                check_references(connection, request, written)
                yield connection

        while True:
            done = record(begin, plan, written)
            if done is not None:
                return plan.state, *done
            # This happens once: from here on the transaction holds the run.
            state = load_state(connection, request.key, paths=request.paths)
            plan = plan_commit(
                request,
                request.rebased(plan.findings, state),
                state,
                look=within(connection),
                now=self._context.clock(),
                replaces=(*plan.replaces, *plan.records),
            )
            known = len(written.packs)
            with self._context.blobs.batch(TransactionCatalog(connection)) as batch:
                plan, written = with_records(batch, written, plan)
            unregistered.extend(written.packs[known:])


def _registered(
    paths: Sequence[str], seen_by: int, found: ScanChanges, state: RunState
) -> ScanChanges:
    """Return registered files relative to a newer state. Their explicit registration wins.

    Raises CommitConflict if others have recorded new content for an unchanged file.
    """
    findings = rebase(found, state, seen_by, lambda _path, _seen: True)
    settled = {*findings.new.paths}
    settled.update(file.path for file in findings.unchanged)
    if not settled.issuperset(paths):
        raise CommitConflict
    return findings
