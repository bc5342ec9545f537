"""The journal records of a planned commit."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from cas.digest import Digest
from index.journal.encoding import encode_record
from index.journal.entries import CommitEntry, NewFiles, PartEntry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from index.commit.plan import CommitPlan
    from index.domain.annotations import FileKind
    from index.domain.marks import Marks
    from index.domain.run_state import ObservedFiles

__all__ = ["describe"]

_PART_SIZE: Final = 2 << 20
"""Approximate bytes of JSON in one record, far below the limit of an entry."""

_FILE_SIZE: Final = 160
"""Maximum bytes of JSON for a file, besides its path."""


def describe(plan: CommitPlan) -> Iterator[bytes]:
    """Yield the journal records of a plan, the newest last; none if they describe no change.

    Records hold no stat signatures: these belong to one host, and the next scan makes new ones.
    """
    request, state, found = plan.request, plan.state, plan.findings
    touched = [
        (known.path, seen.mode, seen.mtime_ns, known.seen_by | seen.seen_by)
        for known, seen in found.refreshed
        if (seen.mode, seen.mtime_ns) != (known.mode, known.mtime_ns)
        or seen.seen_by & ~known.seen_by
    ]
    marks = request.marks
    changes = (plan.makes_snapshot, plan.provenance_backfills, plan.notes, touched, plan.settled)
    if not any((*changes, marks.is_more, plan.inputs)):
        return
    first, *groups = _groups(plan)
    named = []
    for group in groups:
        data = encode_record(PartEntry(created_at=plan.now, files=_columns(*group)))
        named.append(Digest.of(data))
        yield data
    entry = CommitEntry(
        created_at=plan.now,
        session=request.key.session,
        run=request.key.run,
        previous=state.newest_record,
        revision=state.revision + 1,
        provenance=asdict(request.provenance),
        snapshot=plan.number if plan.makes_snapshot else None,
        scope=request.scope,
        unchanged=len(found.unchanged),
        skipped=request.skipped,
        torn=request.torn,
        bytes_read=request.bytes_read,
        files=_columns(*first),
        parts=named,
        seen_by=found.new[0].seen_by if found.new else 0,
        removed=[known.path for known in found.removed],
        filled=[known.path for known in plan.provenance_backfills],
        notes={known.path: values for known, values in plan.notes.items()},
        touched=touched,
        work_dir=plan.work_dir,
        snapshot_notes=marks.notes,
        status=_status(marks),
        tags=marks.tags,
        parent=marks.parent,
        run_notes=marks.run_notes,
        run_tags=marks.run_tags,
        inputs=[(str(each.digest), *each[1:]) for each in plan.inputs],
        inputs_after=state.newest_snapshot,
        drops=marks.drops,
        replaces=plan.replaces,
    )
    yield encode_record(entry)


def _status(marks: Marks) -> tuple[str, str | None] | None:
    return None if marks.status is None else (marks.status, marks.reason)


def _groups(plan: CommitPlan) -> Iterator[tuple[ObservedFiles, Sequence[FileKind]]]:
    """Yield groups of new versions that fit one record each; at least one group."""
    new, kinds = plan.findings.new, plan.kinds
    start = size = 0
    noted: set[int] = set()
    for number, (path, kind) in enumerate(zip(new.paths, kinds, strict=True), 1):
        size += 6 * len(path) + _FILE_SIZE  # JSON escapes take up to six bytes a character
        if kind.meta is not None and id(kind) not in noted:
            noted.add(id(kind))
            size += len(json.dumps(kind.meta))
        if size > _PART_SIZE:
            yield new[start:number], kinds[start:number]
            start, size = number, 0
            noted.clear()
    if start == 0 or start < len(new):
        yield new[start:], kinds[start:]


def _columns(new: ObservedFiles, kinds: Sequence[FileKind]) -> NewFiles:
    if not new:
        return NewFiles()
    numbers: dict[int, int] = {}  # by identity: notes can't be hashed
    kind_of = [numbers.setdefault(id(kind), len(numbers)) for kind in kinds]
    distinct = {id(kind): kind for kind in kinds}
    digests, sizes, modes, mtimes_ns, *_ = zip(*new.contents, strict=True)
    return NewFiles(
        paths=list(new.paths),
        digests=digests,
        sizes=sizes,
        modes=modes,
        mtimes_ns=mtimes_ns,
        kinds=list(distinct.values()),
        kind_of=kind_of,
    )
