"""Pages of a run: its files, its timeline, its inputs, and one of its snapshots."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from index.errors import UnknownRunError
from index.web import api
from index.web.charts import bars
from index.web.pages.commands import restore_command
from index.web.pages.page import LABEL_FIELDS, Page, ask, field, position
from index.web.parameters import FLAG, ORDER, SNAPSHOT, TEXT, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from index.web.asked import Asked

__all__ = ["INPUTS", "RUN", "SNAPSHOT_PAGE", "TIMELINE"]

_LISTED: Final = 200
_SNAPSHOTS: Final = 50
_INPUTS: Final = 100
"""Items of a page."""

_FEW: Final = 5
"""Inputs on the page of the run."""

_STALE: Final = 20
"""Files that are out of date."""

_SUGGESTED: Final = 100
"""Labels that a filter suggests."""

_LABELS: Final = ("phase", "agent", "node_id", "step_id")

_CHILDREN: Final = 20
"""Children of a run that its page names."""

_SELECTED: Final = (*_LABELS, "file_type", "final", "glob", "order_by")
"""What turns the listing of a directory into a list of all files below it."""

_GROUPED: Final = ("file_type", "agent", "phase")


def run(asked: Asked) -> dict[str, Any]:
    """Return a directory of a run; with filters, the files below it that match."""
    folder, at = (asked["path"] or "").strip("/"), asked["at"]
    filters = asked.given(*_SELECTED)
    shared = {"at": at, "after": asked["after"], "limit": _LISTED}
    is_flat = any(value is not None for value in filters.values())
    if is_flat:
        prefix = f"{folder}/" if folder else None
        listed = ask(asked, api.files, **filters, prefix=prefix, **shared)
        items = [{"path": each["path"], "version": each} for each in listed["items"]]
    else:
        listed = ask(asked, api.entries, path=folder, **shared)
        items = listed["items"]
    groups = ask(asked, api.groups, by=_GROUPED)["items"]
    summary = ask(asked, api.run)
    children = ask(asked, api.runs, parent=summary["run"], limit=_CHILDREN)
    state = summary["snapshots"] if at is None else at
    is_overview = at is None and not folder and not is_flat
    read = ask(asked, api.inputs, limit=_FEW)["items"] if is_overview else []
    return {
        "run": summary,
        "tags": ask(asked, api.tags)["items"],
        "has_parent": _exists(asked, summary["parent"]),
        "children": {"shown": children["items"], "are_more": children["next"] is not None},
        "folder": folder,
        "can_send_folder": not any("\ud800" <= each <= "\udfff" for each in folder),
        "at": at,
        "filters": filters,
        "is_flat": is_flat,
        "items": items,
        "after": position(listed, "path"),
        "suggested": {name: _values(groups, name) for name in _GROUPED},
        "charts": _charts(asked, groups) if at is None and not folder else [],
        "inputs": read,
        "command": restore_command(folder or None, summary["session"], summary["run"], state),
    }


def _exists(asked: Asked, run: str | None) -> bool:
    """Whether a run exists: a parent may be named before it is recorded."""
    try:
        return run is not None and bool(ask(asked, api.run, {"run": run}))
    except UnknownRunError:
        return False


def _values(groups: Iterable[dict[str, Any]], name: str) -> list[str]:
    return sorted({each[name] for each in groups if each[name] is not None})[:_SUGGESTED]


def _charts(asked: Asked, groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the numbers of a run as charts. Each bar leads to the files that it counts."""
    made = []
    for title, label, amount in (
        ("Size by type", "file_type", "bytes"),
        ("Files by agent", "agent", "files"),
        ("Files by phase", "phase", "files"),
    ):
        amounts: Counter[str | None] = Counter()
        for each in groups:
            amounts[each[label]] += each[amount]
        lead = partial(_filtered, asked, label)
        made.append({"title": title, "bars": bars(amounts, lead, is_size=amount == "bytes")})
    return made


def _filtered(asked: Asked, label: str, value: str) -> str:
    nothing = dict.fromkeys((*_SELECTED, "after"))
    return asked.next_page(**{**nothing, label: value})


def timeline(asked: Asked) -> dict[str, Any]:
    """Return the snapshots of a run, the newest first."""
    filters = asked.given(*_LABELS)
    found = ask(asked, api.snapshots, **filters, before=asked["before"], limit=_SNAPSHOTS)
    return {
        "run": ask(asked, api.run),
        "filters": filters,
        "snapshots": found["items"],
        "before": position(found, "snapshot"),
    }


def inputs(asked: Asked) -> dict[str, Any]:
    """Return what a run has read, and which of its files are out of date."""
    filters, after = asked.given(*_LABELS), asked["after"]
    found = ask(asked, api.inputs, **filters, after=after, limit=_INPUTS)
    is_first = after is None and not any(filters.values())
    return {
        "run": ask(asked, api.run),
        "filters": filters,
        "inputs": found["items"],
        "after": position(found, "position"),
        "stale": _stale(asked) if found["items"] and is_first else None,
    }


def _stale(asked: Asked) -> dict[str, Any]:
    """Return which files of the run are out of date, as far as that is not too much to ask.

    That reads all past versions of the session, so the page of the run asks for it later. Nothing
    is out of date in a run that has read nothing.
    """
    try:
        found = ask(asked, api.stale)["items"]
    except ValueError:
        return {"is_known": False}
    here = [each for each in found if each["version"]["run"] == asked.path["run"]]
    return {"is_known": True, "files": here[:_STALE], "left": len(here[_STALE:])}


def snapshot(asked: Asked) -> dict[str, Any]:
    """Return a snapshot of a run, and what it changed."""
    changes = ask(asked, api.changes, after=asked["after"], limit=_LISTED)
    return {
        "run": ask(asked, api.run),
        "snapshot": ask(asked, api.snapshot),
        "changes": changes["items"],
        "after": position(changes, "path"),
    }


_RUN: Final = "/sessions/{session}/runs/{run}"

RUN: Final = Page(
    _RUN,
    run,
    (
        field("path", TEXT),
        field("at", SNAPSHOT),
        *LABEL_FIELDS,
        field("file_type", TEXT),
        field("final", FLAG),
        field("glob", TEXT),
        field("order_by", ORDER),
        field("after", TEXT),
    ),
    "run.html",
)

TIMELINE: Final = Page(
    f"{_RUN}/timeline", timeline, (*LABEL_FIELDS, field("before", number(1))), "timeline.html"
)

INPUTS: Final = Page(
    f"{_RUN}/inputs", inputs, (*LABEL_FIELDS, field("after", number(1))), "inputs.html"
)

SNAPSHOT_PAGE: Final = Page(
    f"{_RUN}/snapshots/{{number:number}}", snapshot, (field("after", TEXT),), "snapshot.html"
)
