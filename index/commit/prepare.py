"""Planning of a commit, before the last of its bytes are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from index.commit.plan import CommitPlan
from index.db.queries import files
from index.domain.changes import to_fill, with_displaced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from cas.catalog import WrittenBatch
    from cas.digest import Digest
    from cas.writer import BatchWriter
    from index.commit.plan import CommitRequest, FileKind
    from index.domain.changes import ScanChanges
    from index.domain.run_state import KnownFile, RunState

__all__ = ["plan_commit", "with_records"]


def plan_commit(
    request: CommitRequest,
    findings: ScanChanges,
    state: RunState,
    *,
    look: Callable[[], AbstractContextManager[Any]],
    now: datetime,
    replaces: Sequence[Digest] = (),
) -> CommitPlan:
    """Return the plan for findings that are relative to `state`.

    Parameters
    ----------
    look
        Opens a read transaction.
    replaces
        Records of earlier attempts that failed.
    """
    findings = with_displaced(findings, state)
    said = request.annotations
    final = bool(said.is_final_output)
    new = [change for change in findings.changes if change.observed is not None]
    kinds = []
    shared: dict[FileKind, FileKind] = {}
    for change in new:
        file_type = said.file_type or request.classifier.classify(change.path)
        priority = request.classifier.prioritise(file_type, is_final_output=final)
        kind = file_type, priority
        kinds.append(shared.setdefault(kind, kind))
    plan = CommitPlan(
        request=request,
        state=state,
        findings=findings,
        provenance_backfills=to_fill(findings.unchanged, request.provenance),
        notes=_notes(look, request, findings),
        new=new,
        kinds=kinds,
        now=now,
        replaces=tuple(replaces),
        records=(),
        record_data=(),
    )
    # A synced or adopted run has no chain until one begins with all of its history.
    if not plan.changes_anything or not state.has_chain:
        return plan
    from index.commit.describe import describe  # not imported by a scan that finds nothing

    return describe(plan)


def with_records(batch: BatchWriter, written: WrittenBatch, plan: CommitPlan) -> WrittenBatch:
    """Store the records of a new attempt in their own batch, and drop earlier ones.

    Return everything that was stored. The batch is finished on return.
    """
    plan.write_records(batch)
    more = batch.finish()
    return replace(
        written,
        packs=written.packs + more.packs,
        blobs={
            **{d: at for d, at in written.blobs.items() if d not in plan.replaces},
            **more.blobs,
        },
        bytes_stored=written.bytes_stored + more.bytes_stored,
    )


def _notes(
    look: Callable[[], AbstractContextManager[Any]], request: CommitRequest, findings: ScanChanges
) -> dict[KnownFile, dict[str, Any]]:
    if not request.annotations.given or not findings.unchanged:
        return {}
    known = {known.id: known for known in findings.unchanged}
    with look() as connection:
        versions = files.list_by_id(connection, request.key.session, request.key.run, list(known))
    said = request.annotations
    changed = ((known[v.id], said.over(v, request.classifier)) for v in versions)
    return {version: values for version, values in changed if values}
