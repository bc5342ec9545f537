"""What a run did, as all provenance documents tell it: activities, what they used and made."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from index import Progress, inputs_of
from index.export.names import bytes_iri, escaped, file_iri, iri, run_iri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cas.digest import Digest
    from index import FileVersion, Input, Provenance, Run, RunStatus, Snapshot

__all__ = ["KINDS", "Activity", "Command", "RecordedRun", "Used", "read_run"]

Ids: TypeAlias = "tuple[str | None, str | None, str | None]"
"""Of a node, a step and an event."""

KINDS: Final = ("node", "step", "event")
"""What an activity has ids of."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that `Run.record` ran."""

    words: tuple[str, ...]
    started_at: datetime | None
    ended_at: datetime | None
    exit_status: int | None


@dataclass(frozen=True, slots=True)
class Used:
    """Something that an activity used: a version, bytes known by their digest, or an address."""

    iri: str
    digest: Digest | None
    size: int | None
    run: str | None
    path: str | None
    version: int | None
    uri: str | None
    at: datetime

    @property
    def name(self) -> tuple[str, str, int] | None:
        """Run, path and number of a version; None if it is none."""
        if self.run is None or self.path is None or self.version is None:
            return None
        return self.run, self.path, self.version


@dataclass(slots=True)
class Activity:
    """What one node, step and event of a run did; without any of them, what the run did."""

    node_id: str | None
    step_id: str | None
    event_id: str | None
    agents: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    code_hashes: list[str] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)
    made: list[FileVersion] = field(default_factory=list)
    sources: list[list[Used]] = field(default_factory=list)
    """What each of `made` was made from: some of `used`."""

    @property
    def ids(self) -> Ids:
        """Of its node, step and event."""
        return self.node_id, self.step_id, self.event_id

    @property
    def name(self) -> str:
        """A name for people; empty for what the run did as a whole."""
        return " / ".join(filter(None, self.ids))

    @property
    def key(self) -> str:
        """What tells it from other activities of the run, as a part of an IRI."""
        return _key(self.ids)

    @property
    def step_key(self) -> str:
        """The same for all attempts of one step."""
        return _key((self.node_id, self.step_id, None))

    @property
    def started_at(self) -> datetime | None:
        """When its first command was started; None if it recorded none."""
        return min((each.started_at for each in self.commands if each.started_at), default=None)

    @property
    def ended_at(self) -> datetime | None:
        """When its last command had ended; None if it recorded none."""
        return max((each.ended_at for each in self.commands if each.ended_at), default=None)

    @property
    def seen(self) -> tuple[datetime, datetime] | None:
        """When the first and last thing of it was recorded; None if nothing was."""
        times = [each.created_at for each in self.made] + [each.at for each in self.used]
        ends = [(each.started_at, each.ended_at) for each in self.commands]
        times += [at for both in ends for at in both if at is not None]
        return (min(times), max(times)) if times else None

    @property
    def failed(self) -> bool | None:
        """Whether its last command failed; None if that is not known."""
        status = self.commands[-1].exit_status if self.commands else None
        return None if status is None else status != 0


def _key(ids: Ids) -> str:
    named = zip(KINDS, ids, strict=True)
    return "/".join(f"{kind}/{escaped(each)}" for kind, each in named if each is not None) or "all"


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run up to one of its snapshots."""

    session: str
    run: str
    created_at: datetime
    started_at: datetime | None
    """When it was last said to be running; None if nobody said so."""
    ended_at: datetime | None
    status: RunStatus | None
    """How it went, as somebody has said; None for a run up to a snapshot that is not its newest."""
    status_reason: str | None
    at: int
    """The number of the snapshot; 0 if there is none."""
    is_whole: bool
    """Whether that is the newest one."""
    recorded_at: datetime
    """When that snapshot was made, or the run."""
    versions: tuple[FileVersion, ...]
    """Every version until then, by snapshot and path."""
    copies: tuple[tuple[FileVersion, FileVersion], ...]
    """Versions that a rewind copied, each with an earlier one that it has the bytes of."""
    activities: tuple[Activity, ...]
    """In the order of the first thing that they used or made. None of them made the copies."""

    @property
    def iri(self) -> str:
        """The `cas://` URL of the run."""
        return run_iri(self.session, self.run)

    def iri_of(self, version: FileVersion) -> str:
        """Return the `cas://` URL of a version."""
        return file_iri(version.session, version.run, version.path, version.version)

    def report_to(self, progress: Callable[[Progress], None] | None) -> None:
        """Report all versions as described, with the bytes that they have in the store."""
        if progress is not None:
            progress(Progress(len(self.versions), sum(each.size for each in self.versions)))

    @property
    def present(self) -> tuple[FileVersion, ...]:
        """The files at the snapshot, by path."""
        versions = (
            each
            for each in self.versions
            if each.end_snapshot is None or each.end_snapshot > self.at
        )
        return tuple(sorted(versions, key=lambda version: version.path))


def read_run(run: Run, *, at: int | str | Snapshot | None = None) -> RecordedRun:
    """Return what a run did until a snapshot; None for the newest one.

    Versions without any provenance belong to no activity where others of the run have some:
    nobody said who made them. A run without any provenance is one activity.

    All of it is held in memory.
    """
    summary = run.summary()
    if isinstance(at, int | str):
        at = run.snapshot(at)
    snapshots = [each for each in run.snapshots() if at is None or each.number <= at.number]
    commands = {each.number: _command_of(each.notes) for each in snapshots}
    versions = [
        version
        for snapshot in snapshots
        for version in sorted((*snapshot.added, *snapshot.changed), key=lambda each: each.path)
    ]
    newest = snapshots[-1].number if snapshots else 0
    # What was noted after a snapshot, before the next, is not of the state at that snapshot.
    last = newest if newest >= summary.snapshots else newest - 1
    inputs = [each for each in run.inputs() if each.snapshot <= last]
    is_known = any(commands.values()) or any(
        any(map(_has_provenance, each)) for each in (versions, inputs)
    )
    grouped: dict[Ids, Activity] = {}
    for snapshot in snapshots:
        if (command := commands[snapshot.number]) is not None:
            _activity(grouped, snapshot.provenance).commands.append(command)
    copies = dict(_copies(versions, {each.number: each.provenance for each in snapshots}))
    made = [
        version
        for version in versions
        if version not in copies
        and (_has_provenance(version) or commands[version.first_snapshot] or not is_known)
    ]
    _add_used(grouped, made, inputs, run.key.session)
    is_whole = newest >= summary.snapshots
    return RecordedRun(
        summary.session,
        summary.run,
        summary.created_at,
        summary.started_at if is_whole else None,
        summary.ended_at if is_whole else None,
        summary.status if is_whole else None,
        summary.status_reason if is_whole else None,
        newest,
        is_whole,
        snapshots[-1].created_at if snapshots else summary.created_at,
        tuple(versions),
        tuple(copies.items()),
        tuple(sorted(grouped.values(), key=_order)),
    )


def _add_used(
    grouped: dict[Ids, Activity], made: list[FileVersion], inputs: list[Input], session: str
) -> None:
    """Add what activities made, and what they made it from.

    An input that nothing was made from belongs to the activity with the same ids.
    """
    by_step: defaultdict[tuple[str | None, str | None], list[Input]] = defaultdict(list)
    for each in inputs:
        by_step[each.node_id, each.step_id].append(each)
    used = {each.position: _used(each, session) for each in inputs}
    names = {name for each in used.values() if (name := each.name) is not None}
    found: dict[tuple[object, ...], list[Input]] = {}
    used_by: defaultdict[Ids, set[int]] = defaultdict(set)
    for version in made:
        activity = _activity(grouped, version)
        own = version.run, version.path, version.version
        # Versions that were recorded together were made from the same, but not from themselves.
        key = (activity.ids, version.first_snapshot, own if own in names else None)
        if key not in found:
            found[key] = inputs_of(version, by_step[version.node_id, version.step_id])
            for each in found[key]:
                _note(activity, each)
                used_by[activity.ids].add(each.position)
        activity.made.append(version)
        activity.sources.append([used[each.position] for each in found[key]])
    taken = set().union(*used_by.values())
    for each in inputs:
        if each.position not in taken:
            used_by[_activity(grouped, each).ids].add(each.position)
    for ids, positions in used_by.items():
        grouped[ids].used += [used[position] for position in sorted(positions)]


def _copies(
    versions: list[FileVersion], by: dict[int, Provenance]
) -> Iterator[tuple[FileVersion, FileVersion]]:
    """Yield the copies among versions, each with its original.

    A rewind gives a copy the provenance of the original, and its own snapshot none.
    """
    known: dict[tuple[object, ...], FileVersion] = {}
    for version in versions:
        if version.content is None:  # it never had bytes, so it has those of no other
            continue
        key = version.path, version.content, version.provenance
        original = known.setdefault(key, version)
        if original is not version and by[version.first_snapshot] != version.provenance:
            yield version, original


def _order(activity: Activity) -> tuple[bool, datetime, str]:
    seen = activity.seen
    return seen is None, seen[0] if seen else datetime.min.replace(tzinfo=UTC), activity.key


def _has_provenance(of: FileVersion | Input) -> bool:
    return any((of.phase, of.agent, of.code_hash, of.node_id, of.step_id, of.event_id))


def _activity(grouped: dict[Ids, Activity], of: Provenance | FileVersion | Input) -> Activity:
    """Return the activity that something belongs to, with its agent, phase and code noted."""
    ids = of.node_id, of.step_id, of.event_id
    found = grouped.setdefault(ids, Activity(*ids))
    _note(found, of)
    return found


def _note(found: Activity, of: Provenance | FileVersion | Input) -> None:
    for known, name in (
        (found.agents, of.agent),
        (found.phases, of.phase),
        (found.code_hashes, of.code_hash),
    ):
        if name is not None and name not in known:
            known.append(name)


def _command_of(notes: object) -> Command | None:
    """Return the command that a snapshot's notes tell of; they may hold any JSON."""
    if not isinstance(notes, dict) or not isinstance(notes.get("command"), list):
        return None
    words = tuple(map(str, notes["command"]))
    begun, took, code = (notes.get(name) for name in ("started_at", "duration_s", "exit_status"))
    started = None
    with suppress(TypeError, ValueError):
        started = datetime.fromisoformat(begun)  # type: ignore[arg-type]  # what else is refused
        started = started if started.tzinfo else None
    ended = None
    with suppress(TypeError, ValueError, OverflowError):
        ended = started and started + timedelta(seconds=took)  # type: ignore[arg-type]
    return Command(words, started, ended, code if type(code) is int else None) if words else None


def _used(noted: Input, session: str) -> Used:
    run = (noted.source_run or noted.run) if noted.path is not None else None
    if run is not None and noted.path is not None:
        address = file_iri(session, run, noted.path, noted.version)
    elif noted.uri is not None:
        address = iri(noted.uri)
    else:
        address = bytes_iri(noted.digest)
    where = (run, noted.path, noted.version, noted.uri)
    return Used(address, noted.digest, noted.size, *where, noted.created_at)
