"""Pages of contents: a file, the difference of two versions, and who made and read some bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from index.errors import UnknownFileError
from index.web import api
from index.web.charts import graph
from index.web.downloads import media_type
from index.web.pages.commands import restore_command
from index.web.pages.lineage import find_results, find_sources
from index.web.pages.page import Page, ask, field, position
from index.web.parameters import SNAPSHOT, TEXT, Parameter, number

if TYPE_CHECKING:
    from index.web.asked import Asked

__all__ = ["BLOB", "DIFFERENCE", "FILE"]

_VERSIONS: Final = 50
_PRODUCERS: Final = 50
"""Items of a page."""

_READERS: Final = 50
"""Lines about who read some bytes."""

_SAME: Final = 10
"""Versions with the same bytes that the page of a file shows, and lines about its lineage."""

_LINES: Final = 2_000
"""Lines of a difference."""


def file(asked: Asked) -> dict[str, Any]:
    """Return a file as it is, at a snapshot, or in one of its versions.

    A file that was removed is shown in its last version, unless the page asks for a snapshot.
    """
    path = asked["path"]
    versions = ask(asked, api.versions, path=path, before=asked["before"], limit=_VERSIONS)
    try:
        shown = ask(asked, api.file, path=path, version=asked["version"], at=asked["at"])
    except UnknownFileError:
        if not versions["items"] or (asked["version"], asked["at"]) != (None, None):
            raise
        shown = versions["items"][0]
    digest, same = shown["digest"] or shown.get("dropped", {}).get("digest"), []
    sources: list[dict[str, Any]] | None = []
    results = sources
    if digest is not None:
        found = ask(asked, api.producers, {"digest": digest}, limit=_SAME + 1)["items"]
        same = [each for each in found if each["id"] != shown["id"]]
        sources, results = find_sources(asked, shown), find_results(asked, shown)
    return {
        "file": shown,
        "digest": digest,
        "versions": versions["items"],
        "before": position(versions, "version"),
        "preview": ask(asked, api.preview, {"file_id": shown["id"]}),
        "same": same[:_SAME],
        "sources": sources,
        "results": results,
        "lines": _SAME,
        "command": restore_command(
            shown["path"], shown["session"], shown["run"], shown["first_snapshot"]
        ),
    }


def difference(asked: Asked) -> dict[str, Any]:
    """Return how the contents of two versions differ."""
    found = ask(asked, api.compare, before=asked["before"], after=asked["after"])
    pair = [each for each in (found["before"], found["after"]) if each is not None]
    return {
        "session": asked.path["session"],
        "difference": found,
        "lines": found["lines"][2 : _LINES + 2],
        "lines_left": max(len(found["lines"]) - 2 - _LINES, 0),
        "are_images": all(
            media_type(each["path"]).media_type.startswith("image/") for each in pair
        ),
    }


def blob(asked: Asked) -> dict[str, Any]:
    """Return the versions that hold some bytes, who made them, and who read them."""
    found = ask(asked, api.producers, limit=_PRODUCERS)
    readers = find_results(asked, found["items"][0])
    return {
        "session": asked.path["session"],
        "digest": found["digest"],
        "producers": found["items"],
        "is_complete": found["is_complete"],
        "graph": graph(found["items"]),
        "readers": readers and readers[:_READERS],
        "readers_left": len(readers or ()) - len((readers or ())[:_READERS]),
    }


FILE: Final = Page(
    "/sessions/{session}/runs/{run}/file",
    file,
    (
        Parameter("path", TEXT, "The path of a file.", is_required=True),
        field("version", number(1)),
        field("at", SNAPSHOT),
        field("before", number(1)),
    ),
    "file.html",
)

DIFFERENCE: Final = Page(
    "/sessions/{session}/difference",
    difference,
    (field("before", number(1)), field("after", number(1))),
    "difference.html",
)

BLOB: Final = Page("/sessions/{session}/blobs/{digest}", blob, (), "blob.html")
