"""The page of a lineage, and what other pages show of one."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from index.web import api
from index.web.charts import layered
from index.web.pages.page import Page, ask, field
from index.web.parameters import choice, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from index.web.asked import Asked

__all__ = ["LINEAGE", "find_results", "find_sources"]

DIRECTIONS: Final = {
    "both": "Both directions",
    "up": "What it was made from",
    "down": "What was made from it",
}

_DEPTHS: Final = (1, 2, 5)
"""Steps that the page offers."""

_VERSIONS: Final = 500
"""The most versions to look at."""

_ROWS: Final = 200
"""Rows of the table."""


def find_sources(asked: Asked, version: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return what a version was made from, each a node; None if that is too much to list.

    A copy was made from what the first version with its bytes was made from.
    """
    found = _one_step(asked, version, "up")
    nodes, ends = _nodes(found), _by_start(found)
    made = [*found["of"], *(end for key in found["of"] for end in ends["same", key])]
    makers = [end for key in made for end in ends["made", key]]
    read = dict.fromkeys(end for key in makers for end in ends["used", key])
    return [nodes[key] for key in read] if read or found["complete"] else None


def find_results(asked: Asked, version: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return who read the bytes of a version and what they made; None if that is too much to list.

    Each result is an activity and a version, which is None if the activity made nothing yet.
    """
    found = _one_step(asked, version, "down")
    ends, made = _by_start(found), defaultdict(list)
    for each in found["versions"]:
        for end in ends["made", f"v{each['id']}"]:
            made[end].append(each)
    results = [
        {"activity": activity, "version": each}
        for activity in found["activities"]
        for each in made[activity["id"]] or [None]
    ]
    return results if results or found["complete"] else None


def _by_start(lineage: dict[str, Any]) -> defaultdict[tuple[str, str], list[str]]:
    """Return the ends of edges by their kind and start."""
    ends: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for edge in lineage["edges"]:
        ends[edge["kind"], edge["start"]].append(edge["end"])
    return ends


def _one_step(asked: Asked, version: dict[str, Any], direction: str) -> dict[str, Any]:
    path = {"file_id": version["id"]}
    return ask(asked, api.lineage, path, direction=direction, depth=1, limit=_VERSIONS)


def _nodes(lineage: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the nodes of a lineage by their keys: a kind, a label, a title, and what it is."""
    return dict(_iter_nodes(lineage))


def _iter_nodes(lineage: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in lineage["versions"]:
        key = f"v{each['id']}"
        title = f"{each['path']}, version {each['version']} of {each['run']}"
        kind = "content" if key in lineage["of"] else "version"
        label = f"{each['path']}@{each['version']}"
        yield key, {"kind": kind, "label": label, "title": title, "version": each}
    for each in lineage["activities"]:
        ids = [each[name] for name in ("node_id", "step_id", "event_id") if each[name] is not None]
        label = " · ".join([*ids[:1], *each["agents"]] or [each["run"]])
        title = " · ".join([each["run"], *ids, *each["agents"]])
        yield each["id"], {"kind": "maker", "label": label, "title": title, "activity": each}
    for number_, each in enumerate(lineage["others"]):
        title = _title_of(each)
        yield f"i{number_}", {"kind": "other", "label": title, "title": title, "input": each}


def _title_of(noted: dict[str, Any]) -> str:
    """Return the title of an input that is no version."""
    if noted["uri"] is not None:
        return str(noted["uri"])
    if noted["path"] is None:
        return str(noted["digest"])
    run = noted["source_run"] or noted["run"]
    return f"{noted['path']}, version {noted['version']} of {run}"


def lineage(asked: Asked) -> dict[str, Any]:
    """Return what a file version was made from and what was made from it, as a graph."""
    direction, depth = asked["direction"] or "both", asked["depth"] or _DEPTHS[1]
    found = ask(asked, api.lineage, direction=direction, depth=depth, limit=_VERSIONS)
    nodes, edges = _nodes(found), found["edges"]
    boxes = {key: (node["label"], node["title"], node["kind"]) for key, node in nodes.items()}
    links = [(edge["start"], edge["end"]) for edge in edges]
    rows = [
        {
            "start": nodes[edge["start"]],
            "kind": edge["kind"],
            "end": nodes[edge["end"]],
            "input": edge["input"],
        }
        for edge in edges[:_ROWS]
    ]
    return {
        "file": nodes[found["of"][0]]["version"],
        "direction": direction,
        "depth": depth,
        "directions": DIRECTIONS,
        "depths": _DEPTHS,
        "graph": layered(boxes, links, found["of"]),
        "rows": rows,
        "rows_left": len(edges) - len(rows),
        "is_complete": found["complete"],
    }


LINEAGE: Final = Page(
    "/sessions/{session}/files/{file_id:number}/lineage",
    lineage,
    (field("direction", choice(*DIRECTIONS)), field("depth", number(1, 50))),
    "lineage.html",
)
