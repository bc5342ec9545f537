"""Pages of a run: its files, its timeline, and one of its snapshots."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from index.web import api
from index.web.charts import bars
from index.web.pages.commands import restore_command
from index.web.pages.page import LABEL_FIELDS, Page, ask, field, position
from index.web.parameters import FLAG, ORDER, SNAPSHOT, TEXT, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from index.web.asked import Asked

__all__ = ["RUN", "SNAPSHOT_PAGE", "TIMELINE"]

_LISTED: Final = 200
_SNAPSHOTS: Final = 50
"""Items of a page."""

_SUGGESTED: Final = 100
"""Labels that a filter suggests."""

_LABELS: Final = ("phase", "agent", "node_id", "step_id")

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
    state = summary["snapshots"] if at is None else at
    return {
        "run": summary,
        "tags": ask(asked, api.tags)["items"],
        "folder": folder,
        "can_send_folder": not any("\ud800" <= each <= "\udfff" for each in folder),
        "at": at,
        "filters": filters,
        "is_flat": is_flat,
        "items": items,
        "after": position(listed, "path"),
        "suggested": {name: _values(groups, name) for name in _GROUPED},
        "charts": _charts(asked, groups) if at is None and not folder else [],
        "command": restore_command(folder or None, summary["session"], summary["run"], state),
    }


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

SNAPSHOT_PAGE: Final = Page(
    f"{_RUN}/snapshots/{{number:number}}", snapshot, (field("after", TEXT),), "snapshot.html"
)
