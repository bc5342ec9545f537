"""Inputs: what a node, step or agent of a run has read, by digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from cas.digest import Digest
from cas.redaction import shown_url
from index.domain.names import is_count, storable
from index.domain.results import Result
from index.errors import InvalidNameError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from datetime import datetime

    from index.domain.snapshots import FileVersion

__all__ = [
    "Input",
    "InputSource",
    "NewInput",
    "PathInput",
    "Reference",
    "inputs_of",
    "name_of",
    "of_version",
]

_MAX_URI: Final = 4096
"""Characters; some services sign URLs of two thousand."""


class NewInput(NamedTuple):
    """What a commit notes of an input, besides its own provenance, time and snapshot."""

    digest: Digest
    size: int | None
    source_run: str | None = None
    """The run of the version; None for the run itself, so that a fork names its own."""
    path: str | None = None
    version: int | None = None
    uri: str | None = None

    @classmethod
    def of(cls, noted: Input) -> NewInput:
        """Return an input that is noted as a new one, so that the two can be compared."""
        return cls(*(getattr(noted, name) for name in cls._fields))


class PathInput(NamedTuple):
    """A path of a work directory, whose version the commit of a scan finds."""

    path: str


@dataclass(frozen=True, slots=True)
class Reference(Result):
    """Bytes outside of the store, by where they are: an input of which no copy is kept.

    `cas verify --references` reads them again where they can be reached.
    """

    uri: str
    """As `fsspec` opens it, such as ``s3://bucket/raw.csv``; but in ``file:///my%20data.csv`` the
    ``%20`` is a space. Passwords and queries are left out of what is recorded."""
    digest: Digest | str | None = None
    """None to read the bytes now and compute it."""
    size: int | None = None
    """Bytes, if known."""

    def __post_init__(self) -> None:
        given: object = self.uri  # callers without a type checker give anything
        if not isinstance(given, str) or "://" not in given:
            raise InvalidNameError("URI", str(given), "it has no scheme, such as s3://")
        if len(given) > _MAX_URI or not given.isprintable():
            reason = f"it has up to {_MAX_URI} characters, and no control characters"
            raise InvalidNameError("URI", self.shown, reason)
        if self.digest is not None:
            object.__setattr__(self, "digest", Digest.parse(str(self.digest)))
        if self.size is not None:
            if not is_count(self.size):
                raise ValueError(f"size is a number of bytes, not {self.size!r}")
            object.__setattr__(self, "size", storable(self.size))

    @property
    def shown(self) -> str:
        """The URI as it is recorded."""
        return shown_url(self.uri)


InputSource: TypeAlias = "str | os.PathLike[str] | FileVersion | Digest | Reference"
"""An input as callers give it; see `Run.use`."""


@dataclass(frozen=True, slots=True)
class Input(Result):
    """That a run consumed some bytes."""

    session: str
    run: str
    """The run that read them."""
    position: int
    """1, 2, … in the order in which the inputs of the run were noted."""
    digest: Digest
    size: int | None
    """Bytes; None for a reference whose size nobody gave."""
    source_run: str | None
    """The run of the version that was read; None if only the bytes are known."""
    path: str | None
    version: int | None
    uri: str | None
    """Where bytes outside of the store were read."""
    snapshot: int
    """The newest snapshot of the run at that time; only later ones can hold what was made from the
    input."""
    phase: str | None
    """Who read it: this and the next five."""
    agent: str | None
    code_hash: str | None
    node_id: str | None
    step_id: str | None
    event_id: str | None
    created_at: datetime
    """When it was noted, UTC."""


def inputs_of(version: FileVersion, noted: Iterable[Input]) -> list[Input]:
    """Return what a version was made from, among the inputs of its run.

    These are the inputs of its node and step that were noted before it was recorded, in their
    order; where the version or the input has no event, any event will do. Of several versions of
    one path or URI it is the last: those that were noted after an earlier snapshot belong to an
    earlier attempt.
    """
    path, first, event = version.path, version.first_snapshot, version.event_id
    node, step = version.node_id, version.step_id
    own = (version.run, path, version.version)
    before = [
        each
        for each in noted
        if each.snapshot < first
        and each.node_id == node
        and each.step_id == step
        and (event is None or each.event_id is None or each.event_id == event)
        and (each.path != path or name_of(each) != own)
    ]
    newest: dict[object, int] = {}
    for each in before:
        source = _source(each)
        if each.snapshot >= newest.get(source, 0):
            newest[source] = each.snapshot
    if len(newest) == len(before):
        return before
    return [
        each for each in before if _source(each) is None or each.snapshot == newest[_source(each)]
    ]


def name_of(noted: Input) -> tuple[str, str, int] | None:
    """Return the run, path and number of the version that was read; None if it is not known."""
    if noted.path is None or noted.version is None:
        return None
    return noted.source_run or noted.run, noted.path, noted.version


def _source(noted: Input) -> object:
    """Return what an input is a version of; None if nothing is known of it but its bytes."""
    if noted.path is not None:
        return noted.source_run, noted.path
    return noted.uri


def of_version(version: FileVersion, run: str, digest: Digest) -> NewInput:
    """Return a version as an input of a run."""
    source = None if version.run == run else version.run
    return NewInput(digest, version.size, source, version.path, version.version)
