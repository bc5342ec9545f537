"""Pages over several runs: their list, the search for files, and the storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from index import RunStatus
from index.errors import UnknownSessionError
from index.web import api
from index.web.charts import bars
from index.web.pages.page import LABEL_FIELDS, Page, ask, field
from index.web.parameters import FLAG, STATUS, TEXT

if TYPE_CHECKING:
    from index.web.asked import Asked

__all__ = ["FIND", "RUNS", "STORAGE"]

_RUNS: Final = 50
_FOUND: Final = 200
"""Items of a page."""

_SEARCHED: Final = (
    *("pattern", "run", "phase", "agent", "node_id", "step_id", "file_type", "final"),
    *("digest", "where", "all_versions"),
)

_SUGGESTED: Final = 100
"""Sessions that the filter suggests."""


def runs(asked: Asked) -> dict[str, Any]:
    """Return the runs that match, the newest first."""
    sessions, session = asked.grant.sessions, asked["session"]
    within: dict[str, object] = {} if session is None else {"session": session}
    filters = asked.given("matching", "status", "agent", "parent")
    try:
        found = ask(asked, api.runs, within, **filters, before=asked["before"], limit=_RUNS)
    except UnknownSessionError:
        if session is None or asked["before"] is not None:
            raise
        found = {"items": [], "next": None}
    items = found["items"]
    last = f"{items[-1]['session']}/{items[-1]['run']}" if found["next"] is not None else None
    return {
        "runs": items,
        "before": last,
        "filters": {**filters, "session": session},
        "status_options": [("", "any"), *((each, each) for each in get_args(RunStatus))],
        "has_sessions": sessions is None or len(sessions) > 1,
        "sessions": sorted(sessions)[:_SUGGESTED] if sessions is not None else [],
        "has": {
            name: any(each[name] for each in items)
            for name in ("agents", "tags", "parent", "forked_from")
        },
    }


def find(asked: Asked) -> dict[str, Any]:
    """Return the files of a session's runs that match."""
    filters = asked.given(*_SEARCHED)
    found = ask(asked, api.find, **filters, limit=_FOUND)
    return {"session": asked.path["session"], "filters": filters, "found": found}


def storage(asked: Asked) -> dict[str, Any]:
    """Return the store in numbers."""
    stats = ask(asked, api.storage)
    steps = {
        "All versions of all files": stats["version_bytes"],
        "Distinct contents": stats["distinct_bytes"],
        "Stored, compressed": stats["stored_bytes"],
    }
    return {"stats": stats, "steps": bars(steps, is_size=True, in_order=True)}


RUNS: Final = Page(
    "/",
    runs,
    (
        field("matching", TEXT),
        field("status", STATUS),
        field("agent", TEXT),
        field("parent", TEXT),
        field("session", TEXT),
        field("before", TEXT),
    ),
    "runs.html",
)

FIND: Final = Page(
    "/sessions/{session}/find",
    find,
    (
        field("pattern", TEXT),
        field("run", TEXT),
        *LABEL_FIELDS,
        field("file_type", TEXT),
        field("final", FLAG),
        field("digest", TEXT),
        field("where", TEXT),
        field("all_versions", FLAG),
    ),
    "find.html",
)

STORAGE: Final = Page("/storage", storage, (), "storage.html")
