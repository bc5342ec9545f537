"""What a version was made from, what was made from it, and what is to be made again."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from index.domain.lineage import Stale
from index.reading.walk import LimitReachedError, Walk, full_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from index.db.queries.graph import Graph, Reached
    from index.domain.inputs import Input
    from index.domain.lineage import Direction, Lineage
    from index.domain.snapshots import FileVersion

__all__ = ["find_sources", "find_stale", "walk"]


def walk(
    graph: Graph, of: Sequence[Reached], direction: Direction, *, depth: int | None, limit: int
) -> Lineage:
    """Return the lineage of versions; see `Session.lineage`."""
    walked = Walk(graph, limit)
    versions = [each.version for each in of]
    done = True
    try:
        for each in versions:
            walked.add(each)
        if direction != "down":
            done = _go(walked.up, walked.with_equals(of), depth)
        if direction != "up":
            done &= _go(walked.down, versions, depth)
    except LimitReachedError:
        done = False
    return walked.result(versions, direction, done=done)


def _go(
    step: Callable[[Sequence[FileVersion]], list[FileVersion]],
    frontier: Sequence[FileVersion],
    depth: int | None,
) -> bool:
    """Take steps until there is nothing new, or the depth is reached; return whether it is not."""
    level = 0
    while frontier and level != depth:
        frontier = step(frontier)
        level += 1
    return not frontier


def find_stale(
    graph: Graph, run: str | None, path: str | None, limit: int
) -> tuple[list[Stale], bool]:
    """Return the present versions that were made from superseded ones, and whether that is all."""
    superseded = graph.list_superseded(run, path, limit + 1)
    walked = Walk(graph, limit)
    starts = [each.version for each in superseded]
    try:
        for version in starts:
            walked.add(version)
        is_all = _go(walked.down_by_name, starts, None)
    except LimitReachedError:
        is_all = False
    versions: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for each in walked.versions.values():
        versions[each.run, each.path].add(each.id)
    stale: dict[int, Stale] = {}
    for used, newer in superseded:
        # What was made of a later version, by who edits a file in place, is not made of this one.
        later = versions[used.run, used.path] - {used.id}
        reached, left = {used.id}, [used.id]
        while left:
            new = {*walked.followers[left.pop()]} - reached - later
            reached |= new
            left += new
        for made in reached - {used.id} - stale.keys():
            version = walked.versions[made]
            if version.end_snapshot is None:
                stale[made] = Stale(version, used, newer)
    found = sorted(stale.values(), key=lambda each: (each.version.run, each.version.path))
    return found, is_all


def find_sources(graph: Graph, noted: Sequence[Input]) -> tuple[FileVersion | None, ...]:
    """Return the version that each input was read from; see `Run.find_sources`."""
    names = [full_name(each) for each in noted]
    named = graph.find_named({*names})
    first = graph.find_first(
        {each.digest for each, name in zip(noted, names, strict=True) if name not in named}
    )
    versions = graph.find_by_id(set(first.values()))
    return tuple(
        named[name].version if name in named else versions.get(first.get(each.digest, 0))
        for each, name in zip(noted, names, strict=True)
    )
