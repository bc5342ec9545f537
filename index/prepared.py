"""What a commit will do to a run, worked out against one state of it before bytes are finished.

So the record of the commit is known in time to ride in the pack that the commit's bytes go into.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from index.delta import to_fill, with_displaced
from index.repository import files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from cas.catalog import WrittenBatch
    from cas.digest import Digest
    from cas.writer import BatchWriter
    from index.delta import Findings
    from index.requests import CommitRequest
    from index.state import KnownFile, Observed, RunState

__all__ = ["NewVersion", "Prepared", "prepare", "with_records"]


class NewVersion(NamedTuple):
    """A version that a commit begins."""

    path: str
    base: KnownFile | None
    """The version that ends for it."""
    seen: Observed
    file_type: str
    priority: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A commit that is ready to be recorded, relative to `state`."""

    request: CommitRequest
    state: RunState
    findings: Findings
    fills: Sequence[KnownFile]
    """Versions whose missing provenance is supplied."""
    notes: Mapping[KnownFile, Mapping[str, Any]]
    """Columns that annotations change of versions whose content is recorded."""
    new: Sequence[NewVersion]
    now: datetime
    records: Mapping[Digest, bytes]
    """What it leaves in storage, in the order in which it is chained; the newest one comes last."""

    @property
    def changes_anything(self) -> bool:
        """Whether a transaction is needed: the first scan of a run is always recorded."""
        found = self.findings
        return bool(
            self.state.run_id is None
            or found.changes
            or found.refreshed
            or self.fills
            or self.notes
        )

    @property
    def makes_snapshot(self) -> bool:
        """Whether it is a snapshot: an empty directory that is scanned first is a known state."""
        return bool(self.findings.changes) or self.state.run_id is None

    @property
    def number(self) -> int:
        """The newest snapshot once it is recorded."""
        return self.state.newest_snapshot + self.makes_snapshot

    @property
    def newest_record(self) -> Digest | None:
        """The end of the run's chain of records once this is recorded."""
        return next(reversed(list(self.records)), self.state.newest_record)

    def add_records(self, batch: BatchWriter) -> None:
        """Have a batch write what this leaves in storage."""
        for data in self.records.values():
            batch.add_record(data)


def prepare(
    request: CommitRequest,
    findings: Findings,
    state: RunState,
    *,
    look: Callable[[], AbstractContextManager[Any]],
    now: datetime,
    replaces: Sequence[Digest] = (),
) -> Prepared:
    """Work out what findings relative to `state` change.

    Parameters
    ----------
    look
        Opens a transaction to read in.
    replaces
        Records of attempts that never arrived.
    """
    findings = with_displaced(findings, state)
    said = request.annotations
    final = bool(said.is_final_output)
    new = []
    for path, base, seen in findings.changes:
        if seen is not None:
            file_type = said.file_type or request.classifier.classify(path)
            priority = request.classifier.prioritise(file_type, is_final_output=final)
            new.append(NewVersion(path, base, seen, file_type, priority))
    prepared = Prepared(
        request=request,
        state=state,
        findings=findings,
        fills=to_fill(findings.unchanged, request.provenance),
        notes=_notes(look, request, findings),
        new=new,
        now=now,
        records={},
    )
    # A run that was recorded by an older release begins its chain with all of its history.
    if not prepared.changes_anything or not state.has_chain:
        return prepared
    from index.journal.describing import describe  # not imported by a scan that finds nothing

    return describe(prepared, replaces)


def with_records(
    batch: BatchWriter, written: WrittenBatch, prepared: Prepared, replaced: Collection[Digest]
) -> WrittenBatch:
    """Store the records of another attempt in a batch of their own, and forget earlier ones.

    Returns what was stored in all; the batch is finished.
    """
    prepared.add_records(batch)
    more = batch.finish()
    return replace(
        written,
        packs=written.packs + more.packs,
        blobs={**{d: at for d, at in written.blobs.items() if d not in replaced}, **more.blobs},
        bytes_stored=written.bytes_stored + more.bytes_stored,
    )


def _notes(
    look: Callable[[], AbstractContextManager[Any]], request: CommitRequest, findings: Findings
) -> dict[KnownFile, dict[str, Any]]:
    if not request.annotations.given or not findings.unchanged:
        return {}
    known = {known.id: known for known in findings.unchanged}
    with look() as connection:
        versions = files.list_by_id(connection, request.key.session, request.key.run, list(known))
    said = request.annotations
    changed = ((known[v.id], said.over(v, request.classifier)) for v in versions)
    return {version: values for version, values in changed if values}
