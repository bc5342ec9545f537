"""The endpoints of the JSON API: path, parameters and answer of each.

The routes of the application and the OpenAPI document are both made from this table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from index.web import api
from index.web.archives import archive
from index.web.downloads import content
from index.web.parameters import (
    AT,
    FILTERS,
    FLAG,
    LABELLED,
    LABELS,
    MAX_PAGE,
    ORDER,
    SEARCH,
    SNAPSHOT,
    STATUS,
    TEXT,
    Parameter,
    choice,
    limit,
    number,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from index.web.asked import Asked

__all__ = ["ENDPOINTS", "FEEDS", "PREFIX", "Endpoint"]

PREFIX: Final = "/api/v1"

SESSION: Final = "/sessions/{session}"

RUN: Final = f"{SESSION}/runs/{{run}}"

FILE: Final = f"{SESSION}/files/{{file_id:number}}"

BLOB: Final = f"{SESSION}/blobs/{{digest}}"


class Endpoint(NamedTuple):
    """An endpoint of the API. All of them take GET and HEAD only."""

    path: str
    """Below `PREFIX`."""
    answer: Callable[[Asked], Any]
    """Returns JSON types, or a response."""
    returns: str
    """The schema of the answer in the OpenAPI document: a name, or ``"Page of"`` a name. What is
    neither is a media type."""
    parameters: tuple[Parameter, ...] = ()

    @property
    def name(self) -> str:
        """The name of the operation."""
        return self.answer.__name__


_PATH: Final = Parameter("path", TEXT, "The path of a file.", is_required=True)

_FOLDER: Final = Parameter("path", TEXT, "A directory; by default the work directory.", "")

_AFTER: Final = Parameter("after", TEXT, "The path of the last item of the page before.")

_BEFORE: Final = "The {} of the last item of the page before."

_POSITION: Final = _BEFORE.format("position")

_RUNS: Final = (
    Parameter("matching", TEXT, "Text of the run's id, or a pattern such as run-*."),
    Parameter("status", STATUS, "Only runs of this status."),
    Parameter("agent", TEXT, "Only runs in which this agent made a file."),
    Parameter("parent", TEXT, "Only runs that are a part of the run with this id."),
    Parameter("before", TEXT, "The session and run of the last item, with a slash between."),
    limit(50),
)

_LINEAGE: Final = (
    Parameter(
        "direction",
        choice("up", "down", "both"),
        "Up to what it was made from, or down to what was made from it.",
        "up",
    ),
    Parameter("depth", number(1, 50), "The most steps from version to version.", 5),
    Parameter("limit", number(1, 500), "The most versions to return.", 200),
)

_STALE: Final = (
    Parameter("path", TEXT, "Only what was made from a version of this path."),
    Parameter("run", TEXT, "The run of that path; by default any."),
    Parameter("limit", number(1, MAX_PAGE), "The most versions to look at.", MAX_PAGE),
)

_ATTACHED: Final = Parameter("download", FLAG, "Whether to save it, not to show it.", default=False)

ENDPOINTS: Final = (
    Endpoint("/sessions", api.sessions, "Items of SessionStats"),
    Endpoint("/runs", api.runs, "Page of RunSummary", _RUNS),
    Endpoint(f"{SESSION}/runs", api.runs, "Page of RunSummary", _RUNS),
    Endpoint(f"{SESSION}/run-tags", api.run_tags, "Items of RunTag"),
    Endpoint(RUN, api.run, "RunSummary"),
    Endpoint(f"{RUN}/tags", api.tags, "Items of Tag"),
    Endpoint(f"{RUN}/stats", api.stats, "RunStats"),
    Endpoint(
        f"{RUN}/groups",
        api.groups,
        "Items of GroupStats",
        (Parameter("by", LABELS, "What to group by, with commas between.", is_required=True),),
    ),
    Endpoint(
        f"{RUN}/entries",
        api.entries,
        "Page of DirectoryEntry",
        (_FOLDER, AT, _AFTER, limit()),
    ),
    Endpoint(
        f"{RUN}/files",
        api.files,
        "Page of FileVersion",
        (
            *FILTERS,
            Parameter("glob", TEXT, "A pattern for the whole path, such as data/**/*.csv."),
            AT,
            Parameter("order_by", ORDER, "The order; with a minus, from last to first.", "path"),
            _AFTER,
            limit(),
        ),
    ),
    Endpoint(
        f"{RUN}/file",
        api.file,
        "FileVersion",
        (_PATH, Parameter("version", number(1), "The number of a version."), AT),
    ),
    Endpoint(
        f"{RUN}/versions",
        api.versions,
        "Page of FileVersion",
        (_PATH, Parameter("before", number(1), _BEFORE.format("number")), limit()),
    ),
    Endpoint(
        f"{RUN}/snapshots",
        api.snapshots,
        "Page of Snapshot",
        (*LABELLED, Parameter("before", number(1), _BEFORE.format("number")), limit(50)),
    ),
    Endpoint(f"{RUN}/snapshots/{{number:number}}", api.snapshot, "Snapshot"),
    Endpoint(
        f"{RUN}/snapshots/{{number:number}}/changes",
        api.changes,
        "Page of Change",
        (_AFTER, limit()),
    ),
    Endpoint(
        f"{RUN}/inputs",
        api.inputs,
        "Page of RunInput",
        (*LABELLED, Parameter("after", number(1), _POSITION), limit()),
    ),
    Endpoint(
        f"{RUN}/diff",
        api.diff,
        "Page of Change",
        (
            Parameter("from", SNAPSHOT, "A snapshot of this run; by default its present state."),
            Parameter("to", SNAPSHOT, "A snapshot, of the other run if one is given."),
            Parameter("other", TEXT, "Another run of the session."),
            _AFTER,
            limit(),
        ),
    ),
    Endpoint(
        f"{RUN}/archive",
        archive,
        "application/zip",
        (_FOLDER, AT, Parameter("format", choice("zip", "tar"), "The format.", "zip")),
    ),
    Endpoint(f"{SESSION}/find", api.find, "Found of FileVersion", (*SEARCH, limit())),
    Endpoint(f"{SESSION}/stale", api.stale, "Items of Stale", _STALE),
    Endpoint(
        f"{SESSION}/compare",
        api.compare,
        "ContentDiff",
        (
            Parameter("before", number(1), "The id of a file version; none for a new file."),
            Parameter("after", number(1), "The id of a file version; none for a removed file."),
        ),
    ),
    Endpoint(FILE, api.file_by_id, "FileVersion"),
    Endpoint(f"{FILE}/preview", api.preview, "Preview"),
    Endpoint(f"{FILE}/lineage", api.lineage, "Lineage", _LINEAGE),
    Endpoint(f"{FILE}/content", content, "*/*", (_ATTACHED,)),
    Endpoint(f"{BLOB}/producers", api.producers, "Producers", (limit(),)),
    Endpoint(f"{BLOB}/content", content, "*/*", (_ATTACHED,)),
    Endpoint("/storage", api.storage, "StoreStats"),
)

FEEDS: Final = ("/events", f"{SESSION}/events", f"{RUN}/events")
"""Paths of the streams of changes, below `PREFIX`: of all runs, of a session, of a run."""
