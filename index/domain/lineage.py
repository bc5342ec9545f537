"""The lineage of file versions: what was made from what, by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from index.domain.results import Result

if TYPE_CHECKING:
    from index.domain.inputs import Input
    from index.domain.snapshots import FileVersion

__all__ = ["Activity", "Direction", "EdgeKind", "Lineage", "LineageEdge", "Stale"]

Direction: TypeAlias = Literal["up", "down", "both"]
EdgeKind: TypeAlias = Literal["used", "made", "same"]


@dataclass(frozen=True, slots=True)
class Activity(Result):
    """One attempt of a node and step of a run to make something: what a node, step and event did.

    Each may be None: then nobody said, and all that nobody said it of counts as one.
    """

    id: str
    """Unique in its lineage."""
    run: str
    node_id: str | None
    step_id: str | None
    event_id: str | None
    """What tells one attempt from another."""
    phases: tuple[str, ...]
    """Those that its versions and inputs have, sorted; so it is with the next two."""
    agents: tuple[str, ...]
    code_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LineageEdge(Result):
    """A step from something to what it comes from: against the flow of data."""

    kind: EdgeKind
    """``"made"``: a version was made by an activity. ``"used"``: an activity read a version, or
    something that is no version here. ``"same"``: a version has the bytes of an earlier one, which
    was produced first, or from which a fork or rewind copied it."""
    start: str
    """The key of a node: see `Lineage`."""
    end: str
    input: Input | None
    """How it was noted, of an edge that is ``"used"``."""


@dataclass(frozen=True, slots=True)
class Lineage(Result):
    """A part of the graph of a session, as far as it was asked for.

    A node is a version, with the key ``v`` and its id; an activity, with its own id; or an input
    that is no version of the session, with the key ``i`` and its place in `others`.
    """

    session: str
    of: tuple[str, ...]
    """The keys of the versions that were asked for."""
    direction: Direction
    versions: tuple[FileVersion, ...]
    """In the order in which they were reached."""
    activities: tuple[Activity, ...]
    others: tuple[Input, ...]
    """References to bytes outside of the store, and inputs whose version is deleted."""
    edges: tuple[LineageEdge, ...]
    complete: bool
    """Whether this is all. Otherwise the depth or the limit ended it."""


@dataclass(frozen=True, slots=True)
class Stale(Result):
    """A present file that was made from a version which has a newer one."""

    version: FileVersion
    used: FileVersion
    """The version that it was made from, perhaps through others."""
    newer: FileVersion
    """What is at that path now."""
