"""Planning of a commit, before the last of its bytes are stored."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas.catalog import Places
from index.commit.plan import CommitPlan
from index.db.queries import current, files
from index.db.tables import PROVENANCE_COLUMNS
from index.domain.annotations import NOTHING_SAID
from index.domain.changes import to_claim, to_fill, with_displaced
from index.domain.classification import says_final
from index.domain.inputs import NewInput, PathInput, of_version
from index.errors import OtherDirectoryError, UnknownFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from cas.catalog import WrittenBatch
    from cas.digest import Digest
    from cas.writer import BatchWriter
    from index.commit.plan import CommitRequest
    from index.db.queries.current import Before
    from index.domain.annotations import FileKind
    from index.domain.changes import ScanChanges
    from index.domain.run_state import KnownFile, ObservedFiles, RunState
    from index.domain.usage import Usage

__all__ = ["check_directory", "limit", "plan_commit", "with_records", "write_records"]


def plan_commit(
    request: CommitRequest,
    findings: ScanChanges,
    state: RunState,
    *,
    look: Callable[[], AbstractContextManager[Any]],
    now: datetime,
    replaces: Sequence[Digest] = (),
) -> CommitPlan:
    """Return the plan for findings that are relative to `state`, without its journal records.

    Parameters
    ----------
    look
        Opens a read transaction.
    replaces
        Records of earlier attempts that failed.

    Raises
    ------
    OtherDirectoryError
        See `check_directory`.
    UnknownFileError
        When an input is a path that the run does not have.
    """
    if request.same_directory:
        check_directory(request.key.run, state.work_dir, request.work_dir)
    findings = with_displaced(findings, state)
    noted = _noted(request, findings)
    befores = _load_befores(look, state, findings.new, noted)
    return CommitPlan(
        request=request,
        state=state,
        findings=findings,
        provenance_backfills=(
            () if request.is_claim else to_fill(findings.unchanged, request.provenance)
        ),
        notes=_notes(request, findings, noted, befores),
        kinds=_kinds(request, findings.new, befores),
        befores=befores,
        now=now,
        replaces=tuple(replaces),
        inputs=_inputs(look, request, findings, state, befores),
        records=(),
    )


def _inputs(
    look: Callable[[], AbstractContextManager[Any]],
    request: CommitRequest,
    findings: ScanChanges,
    state: RunState,
    befores: Mapping[str, Before],
) -> list[NewInput]:
    """Return the inputs of a commit, with the versions of those that are paths.

    Raises UnknownFileError for a path that the run had not before and the scan has not found.
    """
    key, given = request.key, request.marks.inputs
    wanted = {each.path for each in given if isinstance(each, PathInput)}
    if not wanted:
        return [each for each in given if isinstance(each, NewInput)]
    known = [each for path in wanted if (each := state.find(path)) is not None]
    with look() as connection:
        versions = files.list_by_id(connection, key.session, key.run, [each.id for each in known])
    found = {
        each.path: of_version(each, key.run, each.digest)
        for each in versions
        if each.digest is not None
    }
    wanted -= found.keys()
    for seen in findings.new if wanted else ():
        if seen.path in wanted:
            before = befores.get(seen.path)
            number = 1 if before is None else before.version + 1
            found[seen.path] = NewInput(seen.digest, seen.size, None, seen.path, number)
    missing = min(wanted - found.keys(), default=None)
    if missing is not None:
        raise UnknownFileError(key.run, missing)
    return [found[each.path] if isinstance(each, PathInput) else each for each in given]


def check_directory(run: str, before: str | None, now: str | None) -> None:
    """Raise OtherDirectoryError if a run's work directory and a scanned one are not the same."""
    if before is None or now is None or before == now:
        return
    with suppress(OSError):
        if Path(before).samefile(now):  # another name of it
            return
    raise OtherDirectoryError(run, before, now)


def limit(batch: BatchWriter, usage: Usage | None) -> None:
    """Have a batch refuse more new bytes than a quota allows, before it writes them.

    The transaction checks the quota again: it knows what others have committed meanwhile, and
    counts bytes that the store has already.
    """
    new = 0
    if usage is None or usage.quota_bytes is None:
        return

    def check(size: int) -> None:
        nonlocal new
        new += size
        usage.check(new)

    batch.on_new = check


def write_records(batch: BatchWriter, plan: CommitPlan) -> CommitPlan:
    """Write the journal records of a plan to a batch; return the plan with them."""
    # A synced or adopted run has no chain until one begins with all of its history.
    if not plan.changes_anything or not plan.state.has_chain:
        return plan
    from index.commit.describe import describe  # not imported by a scan that finds nothing

    return replace(plan, records=tuple(map(batch.add_record, describe(plan))))


def with_records(
    batch: BatchWriter, written: WrittenBatch, plan: CommitPlan
) -> tuple[CommitPlan, WrittenBatch]:
    """Store the records of a new attempt in their own batch, and drop earlier ones.

    Return the plan with them, and everything that was stored. The batch is finished on return.
    """
    plan = write_records(batch, plan)
    more = batch.finish()
    blobs = Places()
    for places in (written.blobs, more.blobs):
        packs = places.packs
        for digest, *place, number in places.rows():
            if digest not in plan.replaces:
                blobs.add(packs[number], [(digest, *place)])
    return plan, replace(
        written,
        packs=written.packs + more.packs,
        blobs=blobs,
        bytes_stored=written.bytes_stored + more.bytes_stored,
    )


def _noted(request: CommitRequest, findings: ScanChanges) -> list[KnownFile]:
    """Return the versions with unchanged content that annotations may change."""
    said = request.annotations
    if not said:
        return []
    return [
        known
        for known in findings.unchanged
        if known.path in said and said[known.path].may_change(known)
    ]


def _load_befores(
    look: Callable[[], AbstractContextManager[Any]],
    state: RunState,
    new: ObservedFiles,
    noted: Sequence[KnownFile],
) -> dict[str, Before]:
    """Return the last versions of the paths that change. Nothing is read for unchanged ones."""
    if state.run_id is None or state.newest_snapshot == 0 or not (new or noted):
        return {}
    ids = [known.id for known in noted]
    ids += [base.id for base in new.bases.values()]
    others = [path for path in new.paths if path not in new.bases]
    with look() as connection:
        return current.load_newest(connection, state.run_id, ids, others)


def _kinds(
    request: CommitRequest, new: ObservedFiles, befores: Mapping[str, Before]
) -> list[FileKind]:
    classifier, annotations = request.classifier, request.annotations
    kinds = []
    shared: dict[Any, FileKind] = {}
    plain: dict[tuple[str, bool], FileKind] = {}
    classify, is_known = classifier.classify, annotations or befores
    for path in new.paths:
        said, before = (annotations.get(path), befores.get(path)) if is_known else (None, None)
        if said is None and before is None:  # as most paths of a first scan
            of_path = classify(path), says_final(classifier, path)
            kind = plain.get(of_path)
            if kind is None:
                kind = NOTHING_SAID.kind(path, None, classifier)
                kind = plain[of_path] = shared.setdefault(kind, kind)
            kinds.append(kind)
            continue
        kind = (said or NOTHING_SAID).kind(path, before and before.kind, classifier)
        # Notes can't be hashed. Without them a kind is its own key.
        key = kind if kind.meta is None else (*kind[:-1], json.dumps(kind.meta))
        kinds.append(shared.setdefault(key, kind))
    return kinds


def _notes(
    request: CommitRequest,
    findings: ScanChanges,
    noted: Sequence[KnownFile],
    befores: Mapping[str, Before],
) -> dict[KnownFile, dict[str, Any]]:
    """Return the columns that annotations and claims change, without versions that stay."""
    notes: dict[KnownFile, dict[str, Any]] = {}
    for known in noted:
        if known.path in befores:  # else another commit has ended it meanwhile
            said = request.annotations[known.path]
            before = befores[known.path].kind
            notes[known] = said.over(known.path, before, request.classifier)
    if request.is_claim:
        for known in findings.unchanged:
            claimed = to_claim(known.provenance, request.provenance)
            if claimed:
                columns = {PROVENANCE_COLUMNS[name]: value for name, value in claimed.items()}
                notes[known] = {**notes.get(known, {}), **columns}
    return {known: values for known, values in notes.items() if values}
