"""A walk over what was made from what, level by level.

An activity of a version is its run, node, step and event. `inputs_of` says which inputs it used.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

from index.db.queries.graph import Graph, Reached
from index.domain.inputs import inputs_of
from index.domain.lineage import Activity, Lineage, LineageEdge
from index.domain.results import make_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from cas.digest import Digest
    from index.db.queries.graph import VersionName
    from index.domain.inputs import Input
    from index.domain.lineage import Direction, EdgeKind
    from index.domain.snapshots import FileVersion

__all__ = ["LimitReachedError", "Walk", "full_name"]


_Step: TypeAlias = "tuple[str, str | None, str | None]"
"""An activity without its event: a run, a node and a step."""
_step_of: Callable[[FileVersion | Input], _Step] = attrgetter("run", "node_id", "step_id")
_Attempt: TypeAlias = "tuple[_Step, str | None]"
_Labels: TypeAlias = "tuple[str | None, str | None, str | None]"
"""A phase, an agent and a hash of code."""
_labels_of: Callable[[FileVersion | Input], _Labels] = attrgetter("phase", "agent", "code_hash")


_make_edge = make_of(LineageEdge)


class LimitReachedError(Exception):
    """There are more versions or inputs than asked for."""


@dataclass(slots=True)
class Walk:
    """A graph that grows."""

    graph: Graph
    limit: int
    versions: dict[int, FileVersion] = field(default_factory=dict)
    attempts: dict[_Attempt, tuple[str, set[_Labels]]] = field(default_factory=dict)
    others: dict[object, tuple[str, Input]] = field(default_factory=dict)
    edges: dict[tuple[EdgeKind, str, str], Input | None] = field(default_factory=dict)
    named: dict[VersionName, Reached] = field(default_factory=dict)
    """Versions that were read."""
    by_digest: dict[Digest, FileVersion] = field(default_factory=dict)
    """The first version of each digest that was reached."""
    followers: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """The versions that were made from one, by id: an activity makes others from others."""

    def __post_init__(self) -> None:
        self.graph.expect_few()

    def add(self, version: FileVersion) -> str:
        """Add a version; return its key."""
        if version.id not in self.versions:
            if len(self.versions) >= self.limit:
                raise LimitReachedError
            self.versions[version.id] = version
            digest = version.digest or version.content
            if digest is not None:
                self.by_digest.setdefault(digest, version)
        return f"v{version.id}"

    def attempt(self, step: _Step, event_id: str | None, *evidence: FileVersion | Input) -> str:
        """Add an activity, and what tells of its agents; return its key."""
        key = (step, event_id)
        if key not in self.attempts:
            self.attempts[key] = (f"a{len(self.attempts) + 1}", set())
        name, labels = self.attempts[key]
        labels.update(map(_labels_of, evidence))
        return name

    def other(self, found: Input) -> str:
        """Add an input that is no version; return its key."""
        identity = (found.digest, found.uri, found.source_run or found.run, found.path)
        return self.others.setdefault(identity, (f"i{len(self.others)}", found))[0]

    def edge(self, kind: EdgeKind, start: str, end: str, noted: Input | None = None) -> None:
        self.edges.setdefault((kind, start, end), noted)

    def checked(self, rows: list[Input] | list[Reached]) -> None:
        if len(rows) > self.limit:
            raise LimitReachedError

    # Upstream

    def up(self, frontier: Iterable[FileVersion]) -> list[FileVersion]:
        """Take one step from versions to what they were made from; return the new versions."""
        makers: defaultdict[_Step, list[FileVersion]] = defaultdict(list)
        for version in frontier:
            makers[_step_of(version)].append(version)
        used = self._used(makers)
        read: list[tuple[str, list[Input]]] = []
        for step, made in makers.items():
            noted = used.get(step, ())
            paths = {each.path for each in noted}
            alike: set[object] = set()
            for version in made:
                activity = self.attempt(step, version.event_id, version)
                self.edge("made", self.add(version), activity)
                kind = _kind_of(version, paths)
                if kind in alike:
                    continue  # made from the same
                alike.add(kind)
                taken = inputs_of(version, noted)
                self.attempt(step, version.event_id, *taken)
                read.append((activity, taken))
        return self._reach(read)

    def _used(self, steps: Collection[_Step], *, copies: bool = False) -> dict[_Step, list[Input]]:
        makers = {(run, node_id) for run, node_id, _ in steps}
        found = self.graph.list_used(makers, self.limit + 1, copies=copies)
        self.checked(found)
        used: defaultdict[_Step, list[Input]] = defaultdict(list)
        for each in found:
            used[_step_of(each)].append(each)
        return used

    def _find(self, ids: Iterable[int]) -> dict[int, FileVersion]:
        """Return versions by id, those that are reached without asking."""
        wanted = set(ids)
        found = {id_: self.versions[id_] for id_ in wanted & self.versions.keys()}
        return found | self.graph.find_by_id(wanted - found.keys())

    def _reach(self, read: Sequence[tuple[str, list[Input]]]) -> list[FileVersion]:
        """Add what activities read; return the versions that are new, with what they equal."""
        noted = [(activity, each, full_name(each)) for activity, taken in read for each in taken]
        known = self.named
        known |= self.graph.find_named({name for _, _, name in noted} - known.keys())
        first = self.graph.find_first({each.digest for _, each, name in noted if name not in known})
        versions = self._find(first.values())
        new: dict[int, Reached] = {}
        for activity, each, name in noted:
            found = known.get(name)
            if found is None:
                equal = versions.get(first.get(each.digest, 0))
                if equal is None or _is_result(equal, each):
                    self.edge("used", activity, self.other(each), each)
                    continue
                found = Reached(equal, None, is_shared=False)
            version = found.version
            if version.id not in self.versions:
                new[version.id] = found
                self.add(version)
            self.edge("used", activity, f"v{version.id}", each)
        return self.with_equals(new.values())

    def with_equals(self, reached: Collection[Reached]) -> list[FileVersion]:
        """Return versions, and those that they are copies of or had the bytes first."""
        origins = self._find(each.origin_id for each in reached if each.origin_id is not None)
        found: dict[int, Reached] = {}
        for each in reached:
            origin = origins.get(each.origin_id or 0)
            if origin is None:
                found[each.version.id] = each
                continue
            # What a fork or rewind copied was made where it was made first.
            if origin.id not in self.versions:
                found[origin.id] = Reached(origin, None, is_shared=True)
            self.edge("same", self.add(each.version), self.add(origin))
        digests = {
            digest
            for version, _, is_shared in found.values()
            if version.size
            and (is_shared or version.dropped is not None)
            and (digest := version.content) is not None
        }
        first = self.graph.find_first(digests)
        result = {id_: each.version for id_, each in found.items()}
        versions = self._find(first.values())
        for version in [*result.values()] if first else ():
            equal = versions.get(first.get(version.content, 0)) if version.content else None
            if equal is None or equal.id == version.id:
                continue
            if version.dropped is not None and equal.created_at >= version.created_at:
                continue  # the dropped one was the first
            if equal.id not in self.versions:
                result[equal.id] = equal
            self.edge("same", self.add(version), self.add(equal))
        return list(result.values())

    # Downstream

    def down(self, frontier: Sequence[FileVersion]) -> list[FileVersion]:
        """Take one step from versions to what was made from their bytes; return what is new."""
        return self._down(frontier, by_name=False)

    def down_by_name(self, frontier: Sequence[FileVersion]) -> list[FileVersion]:
        """Take one step as `down` does, but not to what has read the same bytes elsewhere.

        Each fork is taken for itself: its inputs name its own copies.
        """
        return self._down(frontier, by_name=True)

    def _down(self, frontier: Sequence[FileVersion], *, by_name: bool) -> list[FileVersion]:
        digests = {
            digest for each in frontier if each.size and (digest := each.content) is not None
        }
        readers = self.graph.list_readers(digests, self.limit + 1, copies=by_name)
        self.checked(readers)
        given: defaultdict[VersionName | Digest | None, list[FileVersion]] = defaultdict(list)
        for each in frontier:
            given[each.run, each.path, each.version, each.content] = [each]
            given[each.content].append(each)

        def starts_of(noted: Input) -> list[FileVersion]:
            found = given.get(full_name(noted), [])
            if found or (by_name and noted.path is not None):
                return found
            if by_name:
                return given[noted.digest]
            first = self.by_digest[noted.digest]
            return [] if noted.path is None and _is_result(first, noted) else [first]

        by_step: defaultdict[_Step, dict[int, tuple[Input, list[FileVersion]]]] = defaultdict(dict)
        for noted in readers:
            if starts := starts_of(noted):
                by_step[_step_of(noted)][noted.position] = (noted, starts)
        used = self._used(by_step, copies=by_name)
        made = self._made(by_step, copies=by_name)
        new = []
        for step, read in by_step.items():
            new += self._follow(step, read, used[step], made.get(step, ()))
        return new

    def _follow(
        self,
        step: _Step,
        read: dict[int, tuple[Input, list[FileVersion]]],
        noted: list[Input],
        made: Iterable[Reached],
    ) -> list[FileVersion]:
        """Go from some of the inputs that a step noted to what it made; return the new versions.

        Parameters
        ----------
        read
            These inputs and what they are versions of, by their positions.
        """
        unread = {**read}
        paths = {each.path for each in noted}
        originals: dict[int, FileVersion] = {}
        alike: dict[object, list[Input]] = {}
        new = []
        for version, origin_id, _ in made:
            # What a rewind brought back was made when it was recorded first.
            original = originals.setdefault(origin_id or version.id, version)
            kind = _kind_of(original, paths)
            if kind not in alike:
                alike[kind] = [each for each in inputs_of(original, noted) if each.position in read]
            if not alike[kind]:
                continue
            if version.id not in self.versions:
                new.append(version)
            activity = self.attempt(step, version.event_id, version, *alike[kind])
            self.edge("made", self.add(version), activity)
            for each in alike[kind]:
                unread.pop(each.position, None)
                for start in read[each.position][1]:
                    self.edge("used", activity, self.add(start), each)
                    self.followers[start.id].append(version.id)
        for each, starts in unread.values():
            activity = self.attempt(step, each.event_id, each)
            for start in starts:
                self.edge("used", activity, self.add(start), each)
        return new

    def _made(self, steps: Collection[_Step], *, copies: bool) -> dict[_Step, list[Reached]]:
        makers = {(run, node_id) for run, node_id, _ in steps}
        found = self.graph.list_made(makers, self.limit + 1, copies=copies)
        self.checked(found)
        made: defaultdict[_Step, list[Reached]] = defaultdict(list)
        for each in found:
            made[_step_of(each.version)].append(each)
        return made

    def result(self, of: Sequence[FileVersion], direction: Direction, *, done: bool) -> Lineage:
        return Lineage(
            self.graph.session,
            tuple(f"v{each.id}" for each in of),
            direction,
            tuple(self.versions.values()),
            tuple(_activities(self.attempts)),
            tuple(each for _, each in self.others.values()),
            tuple(_make_edge(*key, noted) for key, noted in self.edges.items()),
            done,
        )


def _kind_of(version: FileVersion, paths: Collection[str | None]) -> object:
    """Return what two versions of a step have in common if they were made from the same inputs.

    Parameters
    ----------
    paths
        Those of the inputs: a version is not made from itself.
    """
    own = version.path if version.path in paths else None
    return version.event_id, version.first_snapshot, own, own and version.version


def _activities(
    attempts: dict[_Attempt, tuple[str, set[_Labels]]],
) -> Iterator[Activity]:
    for (step, event_id), (name, labels) in attempts.items():
        phases, agents, hashes = (
            tuple(sorted({*filter(None, values)})) for values in zip(*labels, strict=True)
        )
        yield Activity(name, *step, event_id, phases, agents, hashes)


def _is_result(version: FileVersion, noted: Input) -> bool:
    """Whether who read some bytes has made this version of them: a kept copy of what is outside."""
    return _step_of(version) == _step_of(noted) and version.first_snapshot > noted.snapshot


def full_name(noted: Input) -> VersionName:
    """Return the name of the version that was read; one without a path if only bytes are known."""
    return noted.source_run or noted.run, noted.path, noted.version, noted.digest
