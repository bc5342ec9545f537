"""What the JSON API answers, and so what the pages show: bounded reads, as JSON types.

Each function takes what a request asks for; `index.web.endpoints` has its path and parameters. No
answer names a place of the server: where a run was recorded and where the store lies stay out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from index import RunSummary, Snapshot, StoreStats
from index.errors import UnknownDigestError, UnknownSessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from index import DirectoryEntry, FileVersion, Input
    from index.web.asked import Asked

__all__ = [
    "changes",
    "compare",
    "diff",
    "entries",
    "file",
    "file_by_id",
    "files",
    "find",
    "groups",
    "inputs",
    "lineage",
    "preview",
    "producers",
    "run",
    "run_tags",
    "runs",
    "sessions",
    "snapshot",
    "snapshots",
    "stale",
    "stats",
    "storage",
    "tags",
    "versions",
]

PLACES: Final = {
    RunSummary: ("work_dir",),
    StoreStats: ("index", "blobs_at", "cache_at"),
}
"""Fields that name places of the server."""

T = TypeVar("T")

_PAGE_SIZE: Final = 8 << 20
"""Characters after which a page ends."""

_EDGES: Final = 5_000
"""Edges of a lineage. The attempts of a step share what they read, so that few versions may have
very many."""

CHANGES: Final = ("added", "changed", "removed")

LABELS: Final = ("phase", "agent", "node_id", "step_id", "event_id")
"""What selects snapshots."""

Pair: TypeAlias = "tuple[FileVersion | None, FileVersion | None]"

SELECTED: Final = (*LABELS, "file_type", "priority", "prefix")
"""What selects files, besides `final`."""


def without_places(result: RunSummary | StoreStats) -> dict[str, Any]:
    """Return a result as JSON types, without what names places of the server."""
    left_out = PLACES[type(result)]
    found = {name: value for name, value in result.to_dict().items() if name not in left_out}
    return found if "notes" not in found else {**found, "notes": _shown_notes(found["notes"])}


def _shown_notes(notes: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return notes without the directory where a command ran, which is a place of the server."""
    if isinstance(notes, dict):
        return {name: value for name, value in notes.items() if name != "directory"}
    return notes


def sessions(asked: Asked) -> dict[str, Any]:
    """Return the sessions that the reader may see, with what they hold."""
    if asked.grant.sessions is None:
        found = [*asked.store.stats_by("session")]
    else:
        found = []
        for name in sorted(asked.grant.sessions):
            try:
                found += asked.store.session(name).stats_by("session")
            except UnknownSessionError:
                continue
    return {"items": [each.to_dict() for each in found]}


def runs(asked: Asked) -> dict[str, Any]:
    """Return the runs that the reader may see, or those of one session, the newest first."""
    before = None
    if asked["before"] is not None:
        session, _, name = asked["before"].partition("/")
        if not asked.grant.covers(session):
            raise UnknownSessionError(session)
        before = asked.store.session(session).run(name).summary()
    how = {
        **asked.given("matching", "status", "agent", "parent"),
        "before": before,
        "limit": asked["limit"] + 1,
    }
    if "session" in asked.path:
        found = asked.session.runs(**how)
    elif asked.grant.sessions is None:
        found = asked.store.runs(**how)
    else:
        found = []
        for each in asked.grant.sessions:
            try:
                found += asked.store.session(each).runs(**how)
            except UnknownSessionError:
                continue
        found.sort(key=lambda each: (each.active_at, each.created_at, each.session, each.run))
    return _page(
        asked, found[::-1], without_places, before=lambda each: f"{each.session}/{each.run}"
    )


def run(asked: Asked) -> dict[str, Any]:
    """Return a run: its status, origin and size."""
    return without_places(asked.run.summary())


def tags(asked: Asked) -> dict[str, Any]:
    """Return the tags of a run."""
    return {"items": [each.to_dict() for each in asked.run.tags()]}


def run_tags(asked: Asked) -> dict[str, Any]:
    """Return the tags of a session's runs themselves."""
    return {"items": [each.to_dict() for each in asked.session.run_tags()]}


def stats(asked: Asked) -> dict[str, Any]:
    """Return a run in numbers."""
    return asked.run.stats().to_dict()


def groups(asked: Asked) -> dict[str, Any]:
    """Return the numbers of a run for each combination of labels."""
    return {"items": [each.to_dict() for each in asked.run.stats_by(*asked["by"])]}


def entries(asked: Asked) -> dict[str, Any]:
    """Return what is directly in a directory of a run."""
    found = asked.run.list_dir(asked["path"], at=asked["at"], **_paged(asked))
    return _page(asked, found, to_dict, after=path_of)


def files(asked: Asked) -> dict[str, Any]:
    """Return the files of a run that match, of any depth."""
    found = asked.run.files(
        **asked.given(*SELECTED, "glob", "at", "order_by"),
        **_paged(asked),
        is_final_output=asked["final"],
    )
    return _page(asked, found, to_dict, after=path_of)


def find(asked: Asked) -> dict[str, Any]:
    """Return the files of a session's runs that match."""
    most = asked["limit"]
    given = asked.given(
        *("pattern", *SELECTED, "since", "until", "larger", "smaller", "digest", "run"),
        *("where", "all_versions"),
    )
    found = [*asked.session.find(**given, is_final_output=asked["final"], limit=most + 1)]
    listed = [each.to_dict() for each in found[:most]]
    return {"items": listed, "is_complete": len(found) <= most}


def file(asked: Asked) -> dict[str, Any]:
    """Return a file of a run: as it is now, at a snapshot, or one of its versions."""
    return asked.run.file(**asked.given("path", "version", "at")).to_dict()


def versions(asked: Asked) -> dict[str, Any]:
    """Return the versions of a file of a run, the newest first."""
    found, before = asked.run.history(asked["path"])[::-1], asked["before"]
    left = [each for each in found if before is None or each.version < before]
    return _page(asked, left, to_dict, before=lambda each: each.version)


def file_by_id(asked: Asked) -> dict[str, Any]:
    """Return a file version by its id."""
    return version_of(asked).to_dict()


def version_of(asked: Asked) -> FileVersion:
    """Return the file version whose id is in the path."""
    return asked.session.file(asked.path["file_id"])


def preview(asked: Asked) -> dict[str, Any]:
    """Return what a file version looks like."""
    version = version_of(asked)
    shown = asked.previewer.preview(version, lambda: asked.session.open(version.id))
    return shown.to_dict()


def compare(asked: Asked) -> dict[str, Any]:
    """Return how the contents of two file versions differ."""
    pair = (asked["before"], asked["after"])
    one, other = (None if each is None else asked.session.file(each) for each in pair)
    return asked.session.compare(one, other).to_dict()


def producers(asked: Asked) -> dict[str, Any]:
    """Return the file versions that produced some bytes, the first one first."""
    digest = asked.session.digest(asked.path["digest"])
    found = asked.session.producers(digest, limit=asked["limit"] + 1)
    if not found:
        raise UnknownDigestError(asked.session.id, digest)
    listed = [each.to_dict() for each in found[: asked["limit"]]]
    return {"digest": str(digest), "items": listed, "is_complete": len(found) == len(listed)}


def lineage(asked: Asked) -> dict[str, Any]:
    """Return what a file version was made from, what was made from it, or both."""
    how = asked.given("direction", "depth", "limit")
    found = asked.session.lineage(version_of(asked), **how)
    is_whole = found.complete and len(found.edges) <= _EDGES
    return replace(found, edges=found.edges[:_EDGES], complete=is_whole).to_dict()


def inputs(asked: Asked) -> dict[str, Any]:
    """Return what a run has read, in the order in which it was noted."""
    run = asked.run
    found = run.inputs(**asked.given(*LABELS, "after"), limit=asked["limit"] + 1)
    pairs = zip(found, run.find_sources(found), strict=True)
    return _page(asked, pairs, _input, after=lambda pair: pair[0].position)


def stale(asked: Asked) -> dict[str, Any]:
    """Return the present files that were made from versions which have newer ones."""
    found = asked.session.stale(asked["path"], run=asked["run"], limit=asked["limit"])
    return {"items": [each.to_dict() for each in found]}


def snapshots(asked: Asked) -> dict[str, Any]:
    """Return the snapshots of a run, the newest first, with the number of their changes."""
    found = asked.run.snapshots(**asked.given(*LABELS, "before"), limit=asked["limit"] + 1)
    return _page(asked, found[::-1], _snapshot, before=lambda each: each.number)


def snapshot(asked: Asked) -> dict[str, Any]:
    """Return a snapshot of a run, with the number of its changes."""
    return _snapshot(asked.run.snapshot(asked.path["number"]))


def changes(asked: Asked) -> dict[str, Any]:
    """Return what a snapshot of a run changed, by path."""
    number = asked.path["number"]
    return _changed(asked, asked.run.iter_diff(number - 1, number, **_paged(asked)))


def diff(asked: Asked) -> dict[str, Any]:
    """Return the differences of two states of a run, or of two runs, by path."""
    before, after, other = asked["from"], asked["to"], asked["other"]
    if other is None:
        return _changed(asked, asked.run.iter_diff(before, after, **_paged(asked)))
    other = asked.session.run(other)
    return _changed(asked, asked.run.iter_diff(other, after, at=before, **_paged(asked)))


def storage(asked: Asked) -> dict[str, Any]:
    """Return the store in numbers. Only its owner may see them."""
    if not asked.grant.is_owner:
        raise LookupError("there is nothing here")
    return without_places(asked.store.stats())


def _page(
    asked: Asked,
    found: Iterable[T],
    show: Callable[[T], dict[str, Any]],
    **position: Callable[[T], object],
) -> dict[str, Any]:
    """Return a page, and the URL of the next one; None after the last.

    It ends after `limit` items, or earlier if their text is long: notes may have any length.

    Parameters
    ----------
    found
        What there is from the first item on, with one more than the limit if there are more.
    **position
        The parameter where the next page begins, by the last item of this one.
    """
    items: list[dict[str, Any]] = []
    size, last = 0, None
    for each in found:
        if last is not None and (len(items) == asked["limit"] or size > _PAGE_SIZE):
            following = {name: place(last) for name, place in position.items()}
            return {"items": items, "next": asked.next_page(**following)}
        items.append(show(each))
        size, last = size + len(str(items[-1])), each
    return {"items": items, "next": None}


def to_dict(result: FileVersion | DirectoryEntry) -> dict[str, Any]:
    """Return a result as JSON types."""
    return result.to_dict()


def path_of(result: FileVersion | DirectoryEntry) -> str:
    """Return the path of a result."""
    return result.path


def _paged(asked: Asked) -> dict[str, Any]:
    return {"limit": asked["limit"] + 1, "after": asked["after"]}


def _changed(asked: Asked, pairs: Iterable[Pair]) -> dict[str, Any]:
    return _page(asked, pairs, _change, after=lambda pair: path_of(_either(pair)))


def _either(pair: Pair) -> FileVersion:
    found = pair[1] or pair[0]
    assert found is not None  # noqa: S101 - one of the two is there
    return found


def _change(pair: Pair) -> dict[str, Any]:
    before, after = pair
    kind = "added" if before is None else "removed" if after is None else "changed"
    versions = {"before": before and before.to_dict(), "after": after and after.to_dict()}
    return {"change": kind, "path": _either(pair).path, **versions}


def _input(pair: tuple[Input, FileVersion | None]) -> dict[str, Any]:
    noted, source = pair
    return {**noted.to_dict(), "source": source and source.to_dict()}


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "snapshot": snapshot.number,
        "created_at": snapshot.created_at.isoformat(),
        **snapshot.provenance.to_dict(),
        **{name: len(getattr(snapshot, f"lazy_{name}")) for name in CHANGES},
        "unchanged": snapshot.unchanged,
        "skipped": [each._asdict() for each in snapshot.skipped],
        "torn": [*snapshot.torn],
        "notes": _shown_notes(snapshot.notes),
        "bytes_read": snapshot.bytes_read,
        "bytes_stored": snapshot.bytes_stored,
    }
