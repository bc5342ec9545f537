"""Replay of journal records into an index, commit by commit."""

from __future__ import annotations

import uuid
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from cas.digest import Digest
from index.commit.branch import apply_rewind
from index.db import tables
from index.db.bulk import allocate_ids
from index.db.queries import (
    drops,
    files,
    inputs,
    journal,
    lineage,
    parents,
    rebuilding,
    run_tags,
    runs,
    tags,
    transfer,
)
from index.db.queries.current import load_newest
from index.domain.annotations import FileKind
from index.domain.drops import Drop
from index.domain.inputs import NewInput
from index.domain.marks import Marks
from index.domain.names import RunKey
from index.domain.provenance import Provenance
from index.domain.run_state import Observed
from index.domain.snapshots import Skipped, Snapshot
from index.domain.tags import NewTag
from index.journal.entries import (
    CommitEntry,
    ForkEntry,
    HistoryEntry,
    InputsEntry,
    PartEntry,
    RewindEntry,
    VersionsEntry,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from index.journal.entries import DeletionEntry, Entry, NewFiles, RunEntry
    from index.maintenance.recover.chains import Key, Step

__all__ = ["Replay"]


class _Place(NamedTuple):
    """A run during the replay."""

    id: int
    name: str
    records: int
    key: Key
    """What it is called in its records. The name is another one if it will be discarded."""


class Replay:
    """Applies steps in the order that `index.maintenance.recover.chains.arrange` returns."""

    def __init__(
        self,
        connection: Connection,
        read: Callable[[Digest], Entry],
        now: datetime,
        known: Mapping[Key, tuple[int, int]],
        discarded: Collection[Digest | Key],
    ) -> None:
        """Bind to an index.

        Parameters
        ----------
        read
            Returns a complete record.
        now
            The time to note for missing bytes.
        known
            Runs that the index has already: id and number of records.
        discarded
            Chains that are replayed only for their forks. Their names stay free.
        """
        self._connection = connection
        self._read = read
        self._now = now
        self._discarded = frozenset(discarded)
        self._places: dict[Digest | Key, _Place] = {}
        self._linked_at: dict[int, datetime] = {}
        """When runs were last said to be a part of another; not for those of the backup."""
        for key, (run_id, records) in known.items():
            name = key[1]
            if key in self._discarded:
                name = uuid.uuid4().hex
                rebuilding.set_run_aside(connection, run_id, name)
            self._places[key] = _Place(run_id, name, records, key)

    def apply(self, step: Step) -> None:
        """Apply one record."""
        entry = self._read(step.digest)
        place = self._places.get(step.chain)
        digests = [*getattr(entry, "parts", ()), step.digest]
        if isinstance(entry, ForkEntry):
            place = self._fork(entry, step)
            digests = [step.digest]
        elif isinstance(entry, HistoryEntry):
            place = self._begin(entry, step, entry.run_created_at)
            self._write_history(place.id, entry)
        else:
            assert isinstance(entry, CommitEntry | RewindEntry)  # noqa: S101 - no others exist
            place = place or self._begin(entry, step, entry.created_at)
            if isinstance(entry, CommitEntry):
                self._commit(place.id, entry)
            else:
                self._rewind(place, entry)
        journal.append(self._connection, place.id, place.records, digests)
        self._places[step.chain] = place._replace(records=place.records + len(digests))
        rebuilding.set_run(
            self._connection,
            place.id,
            revision=entry.revision,
            newest_record=step.digest,
            settled=_settled(entry),
        )
        self._mark(place.id, entry, step)

    def _mark(self, run_id: int, entry: RunEntry, step: Step) -> None:
        """Apply what was said of the run, besides columns that a record has as they become."""
        if not isinstance(entry, CommitEntry | HistoryEntry):
            return
        connection = self._connection
        said = entry.parent if isinstance(entry, CommitEntry) else entry.description.get("parent")
        if said:
            self._linked_at[run_id] = entry.created_at
        if isinstance(entry, HistoryEntry):
            moves = [_typed(each) for each in entry.run_tags]
        else:
            moves = [_move([*each, entry.created_at]) for each in entry.run_tags]
            if entry.run_notes:
                runs.merge_notes_of(connection, run_id, entry.run_notes)
        if moves:
            session_id = runs.ensure_session(connection, entry.session, entry.created_at)
            # A run that will be discarded leaves its moves to the run that has its name by then.
            owner = None if step.chain in self._discarded else run_id
            run_tags.merge(connection, session_id, owner, moves)

    def leave_session(self, deletion: DeletionEntry) -> None:
        """Apply what a deletion of runs left: their session, its tags, and runs without parents."""
        connection = self._connection
        made_at = min(datetime.fromisoformat(str(each[2])) for each in deletion.runs)
        session_id = runs.ensure_session(connection, deletion.session, made_at)
        for name, *_ in deletion.runs:
            for run_id in parents.list_linked(connection, deletion.session, str(name)):
                linked_at = self._linked_at.get(run_id)
                if linked_at is None or linked_at <= deletion.created_at:
                    rebuilding.end_link(connection, run_id)
        moves = [_typed(_move(each)) for each in deletion.run_tags]
        if moves:
            run_tags.merge(connection, session_id, None, moves)

    def discard(self, chain: Digest | Key, *, is_deleted: bool) -> None:
        """Delete a run that was replayed only for its forks, or that a newer chain has."""
        place = self._places.pop(chain, None)
        if place is not None:
            if not is_deleted:
                rebuilding.link_forks(self._connection, place.id, *place.key)
            rebuilding.delete_run(self._connection, place.id)

    def _begin(self, entry: RunEntry, step: Step, created_at: datetime) -> _Place:
        name = uuid.uuid4().hex if step.chain in self._discarded else entry.run
        origin: dict[str, Any] = {}
        if isinstance(entry, HistoryEntry):
            origin = {
                "session_created_at": entry.session_created_at,
                "forked_from": entry.forked_from,
                "forked_snapshot": entry.forked_snapshot,
            }
        made = rebuilding.insert_run(self._connection, entry.session, name, created_at, **origin)
        return _Place(made, name, 0, (entry.session, entry.run))

    def _fork(self, entry: ForkEntry, step: Step) -> _Place:
        place = self._begin(entry, step, entry.created_at)
        parent = None if step.parent is None else self._places.get(step.parent)
        if parent is None:
            return place
        connection = self._connection
        transfer.link_origin(connection, place.id, parent.id, entry.at)
        journal.copy(connection, parent.id, place.id)
        lineage.copy_history(connection, parent.id, place.id, entry.at)
        return place._replace(records=parent.records)

    def _rewind(self, place: _Place, entry: RewindEntry) -> None:
        key = RunKey(entry.session, place.name)
        found = runs.find_run(self._connection, key.session, key.run)
        if found is None or entry.at > found.newest_snapshot:
            return  # its snapshot is in a gap
        apply_rewind(self._connection, key, found, entry.at, _provenance(entry), entry.created_at)

    def _commit(self, run_id: int, entry: CommitEntry) -> None:
        connection, provenance = self._connection, _provenance(entry)
        groups = [entry.files, *self._parts(entry)]
        for group in groups:
            sizes = dict(zip(group.digests, group.sizes, strict=True))
            rebuilding.insert_absent(connection, _as_digests(sizes), self._now)
        touched = {path: values for path, *values in entry.touched}
        again = [*entry.filled, *entry.notes, *touched]
        current = rebuilding.find_current(connection, run_id, again)
        rebuilding.touch_files(
            connection, ((current[p], *values) for p, values in touched.items() if p in current)
        )
        files.fill_provenance(
            connection, [current[path] for path in entry.filled if path in current], provenance
        )
        files.annotate(
            connection, {current[p]: values for p, values in entry.notes.items() if p in current}
        )
        if entry.tags:
            moves = [NewTag(*each) for each in entry.tags]
            tags.append(connection, run_id, moves, entry.created_at)
        if entry.inputs:
            inputs.append(
                connection,
                run_id,
                [NewInput(Digest.parse(digest), *rest) for digest, *rest in entry.inputs],
                snapshot=entry.inputs_after,
                provenance=provenance,
                now=entry.created_at,
            )
        if entry.drops:
            gone = [Drop(*each) for each in entry.drops]
            drops.drop(connection, run_id, gone, provenance.agent, entry.created_at)
        if entry.snapshot is None:
            return
        runs.insert_snapshot(connection, run_id, _snapshot(entry, provenance), entry.scope)
        ended = [*entry.removed, *(path for group in groups for path in group.paths)]
        current = rebuilding.find_current(connection, run_id, ended)
        files.end_versions(connection, list(current.values()), entry.snapshot)
        for group in groups:
            self._insert(run_id, entry, entry.snapshot, group, provenance)

    def _insert(
        self,
        run_id: int,
        entry: CommitEntry,
        snapshot: int,
        group: NewFiles,
        provenance: Provenance,
    ) -> None:
        befores = load_newest(self._connection, run_id, (), group.paths)
        rows = []
        for path, digest, size, mode, mtime_ns, kind in zip(
            group.paths,
            group.digests,
            group.sizes,
            group.modes,
            group.mtimes_ns,
            group.kind_of,
            strict=True,
        ):
            before = befores.get(path)
            newest, appeared = (0, snapshot) if before is None else before[:2]
            seen = Observed(
                path=path,
                digest=Digest(digest),
                size=size,
                mode=mode,
                mtime_ns=mtime_ns,
                signature=None,
                trusted=False,
                seen_by=entry.seen_by,
            )
            rows.append((path, newest + 1, seen, FileKind(*group.kinds[kind]), appeared))
        files.insert_versions(
            self._connection,
            rows,
            count=len(rows),
            run_id=run_id,
            snapshot=snapshot,
            provenance=provenance,
            now=entry.created_at,
        )

    def _parts(self, entry: CommitEntry) -> Iterator[NewFiles]:
        for digest in entry.parts:
            part = self._read(digest)
            assert isinstance(part, PartEntry)  # noqa: S101 - checked when records were sorted
            yield part.files

    def _write_history(self, run_id: int, entry: HistoryEntry) -> None:
        connection = self._connection
        snapshots = [_typed(columns) for columns in entry.snapshots]
        columns = transfer.SNAPSHOT_COLUMNS
        transfer.insert_snapshots(
            connection, run_id, [tuple(each[name] for name in columns) for each in snapshots]
        )
        tags.replace(connection, run_id, [_typed(each) for each in entry.tags])
        for digest in entry.parts:
            part = self._read(digest)
            if isinstance(part, InputsEntry):
                rows = [_typed(dict(zip(part.columns, row, strict=True))) for row in part.rows]
                values = [[row[name] for name in inputs.COLUMNS] for row in rows]
                inputs.insert_whole(connection, run_id, values)
                continue
            assert isinstance(part, VersionsEntry)  # noqa: S101 - checked when records were sorted
            versions = [dict(zip(part.columns, row, strict=True)) for row in part.rows]
            sizes = {Digest.parse(v["digest"]): v["size"] for v in versions if v["digest"]}
            rebuilding.insert_absent(connection, sizes, self._now)
            self._insert_past(run_id, entry, versions)

    def _insert_past(
        self, run_id: int, entry: HistoryEntry, rows: Sequence[dict[str, Any]]
    ) -> None:
        """Insert the versions of a history; look up the original of each copy."""
        connection = self._connection
        ids = allocate_ids(connection, tables.files, len(rows))
        mine = {(row["path"], row["version"]): n for n, row in zip(ids, rows, strict=True)}
        made = []
        for file_id, row in zip(ids, rows, strict=True):
            origin, origin_id = row.pop("origin"), None
            if origin is not None:
                run, path, version = origin
                if run == entry.run:
                    origin_id = mine.get((path, version))
                if origin_id is None:
                    origin_id = rebuilding.find_version(
                        connection, entry.session, run, path, version
                    )
            if origin_id == file_id:
                origin_id = None
            made.append({**_typed(row), "id": file_id, "origin_id": origin_id})
        if made:
            columns = list(made[0])
            files.insert_whole(
                connection, run_id, columns, [[row[name] for name in columns] for row in made]
            )


def _as_digests(sizes: Mapping[bytes, int]) -> dict[Digest, int]:
    return {Digest(digest): size for digest, size in sizes.items()}


def _typed(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return column values with their types from before the JSON encoding."""
    typed = dict(columns)
    if typed.get("digest") is not None:
        typed["digest"] = Digest.parse(typed["digest"])
    for name in ("created_at", "started_at", "ended_at"):
        if isinstance(typed.get(name), str):
            typed[name] = datetime.fromisoformat(typed[name])
    return typed


def _settled(entry: RunEntry) -> dict[str, Any]:
    """Return the columns of the run that a record changes."""
    if not isinstance(entry, CommitEntry | HistoryEntry):
        return {}
    moved = {} if entry.work_dir is None else {"work_dir": entry.work_dir}
    if isinstance(entry, HistoryEntry):
        return {**moved, **_typed(entry.description)}
    status, reason = entry.status or (None, None)
    marks = Marks(status=status, reason=reason, parent=entry.parent)  # type: ignore[arg-type] # a status
    return {**moved, **marks.columns_at(entry.created_at)}


def _move(values: Sequence[Any]) -> dict[str, Any]:
    """Return a move of a tag of a run as `run_tags.merge` takes it."""
    return {**dict(zip(run_tags.COLUMNS, values, strict=True)), "is_mine": True}


def _provenance(entry: CommitEntry | RewindEntry) -> Provenance:
    values = {each.name: entry.provenance.get(each.name) for each in fields(Provenance)}
    return Provenance(**values)


def _snapshot(entry: CommitEntry, provenance: Provenance) -> Snapshot:
    assert entry.snapshot is not None  # noqa: S101 - the caller has checked
    return Snapshot(
        entry.snapshot,
        provenance,
        entry.created_at,
        entry.unchanged,
        tuple(Skipped(*each) for each in entry.skipped),
        entry.bytes_read,
        bytes_stored=0,  # not in the record, which is stored together with those bytes
        notes=entry.snapshot_notes,
        torn=tuple(entry.torn),
    )
