"""The page that compares two snapshots of a run, or two runs."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from index.web import api
from index.web.pages.page import Page, ask, field, position
from index.web.parameters import SNAPSHOT, TEXT, choice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from index.web.asked import Asked

__all__ = ["COMPARE"]

_CHANGES: Final = 200
"""Items of a page."""

_SUGGESTED: Final = 50
"""Runs of the session that the form suggests: those that were active last."""


def compare(asked: Asked) -> dict[str, Any]:
    """Return what differs between two states, in groups."""
    states = asked.given("from", "to", "other")
    is_asked = any(value is not None for value in states.values())
    label, changes, after = asked["by"] or "agent", [], None
    if is_asked:
        found = ask(asked, api.diff, **states, after=asked["after"], limit=_CHANGES)
        changes, after = _with_moves(found["items"]), position(found, "path")
    return {
        "run": ask(asked, api.run),
        "others": [each["run"] for each in ask(asked, api.runs, limit=_SUGGESTED)["items"]],
        "states": states,
        "is_asked": is_asked,
        "by": label,
        "groups": _grouped(changes, label),
        "after": after,
    }


def _with_moves(changes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return changes, where a removed and an added file with the same bytes are one that moved."""
    changes = [*changes]
    removed: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in changes:
        if each["change"] == "removed" and each["before"]["digest"] is not None:
            removed[each["before"]["digest"]].append(each)
    moved, gone = {}, set()
    for each in changes:
        if each["change"] == "added" and removed[each["after"]["digest"]]:
            source = removed[each["after"]["digest"]].pop(0)
            moved[each["path"]] = source["before"]
            gone.add(source["path"])
    return [
        {**each, "change": "moved", "before": moved[each["path"]]}
        if each["path"] in moved
        else each
        for each in changes
        if each["path"] not in gone
    ]


def _grouped(changes: Iterable[dict[str, Any]], label: str) -> list[dict[str, Any]]:
    groups: defaultdict[str | None, list[dict[str, Any]]] = defaultdict(list)
    for each in changes:
        groups[(each["after"] or each["before"])[label]].append(each)
    ordered = sorted(groups.items(), key=lambda item: (item[0] is None, item[0] or ""))
    return [{"label": name, "changes": listed} for name, listed in ordered]


COMPARE: Final = Page(
    "/sessions/{session}/runs/{run}/compare",
    compare,
    (
        field("from", SNAPSHOT),
        field("to", SNAPSHOT),
        field("other", TEXT),
        field("by", choice("agent", "phase")),
        field("after", TEXT),
    ),
    "compare.html",
)
