"""The OpenAPI document of the API, made from the table of endpoints and the types of results."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from inspect import getdoc
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from cas.digest import Digest
from index import (
    Activity,
    ContentDiff,
    DirectoryEntry,
    FileVersion,
    GroupStats,
    Input,
    Lineage,
    LineageEdge,
    RunChange,
    RunStats,
    RunSummary,
    RunTag,
    Stale,
    StoreStats,
    TableDiff,
    Tag,
    __version__,
)
from index.web.api import PLACES
from index.web.endpoints import ENDPOINTS, FEEDS, PREFIX, Endpoint

__all__ = ["document"]

_NAMES: Final = {
    "Digest": Digest,
    "FileVersion": FileVersion,
    "Input": Input,
    "TableDiff": TableDiff,
    "datetime": datetime,
}
"""Names in annotations that the modules of the results import for type checkers only."""

_PLAIN: Final[dict[Any, dict[str, Any]]] = {
    Any: {},
    NoneType: {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    datetime: {"type": "string", "format": "date-time"},
    Digest: {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}

_OPTIONAL: Final[dict[type, tuple[str, ...]]] = {FileVersion: ("dropped",)}
"""Fields that an answer has only if there is something to tell."""

_CHANGED: Final[dict[type, dict[str, Any]]] = {
    FileVersion: {"mode": {"type": "string"}, "refused": None, "torn": None},
    DirectoryEntry: {"name": _PLAIN[str], "is_directory": _PLAIN[bool]},
    GroupStats: {"labels": None},
    ContentDiff: {
        "path": _PLAIN[str],
        "lines_added": {"type": ["integer", "null"]},
        "lines_removed": {"type": ["integer", "null"]},
    },
    **{kind: dict.fromkeys(names) for kind, names in PLACES.items()},
}
"""Where the JSON form of a result is not that of its fields: other properties, and None for those
that it does not have."""

_PATH_PARAMETERS: Final = {
    "session": "The id of a session.",
    "run": "The id of a run, or the tag of one: @best.",
    "file_id": "The id of a file version.",
    "digest": "The digest of a content, or at least its first seven digits.",
    "number": "The number of a snapshot.",
}

_FAILURES: Final = {
    "400": "A parameter can't be used.",
    "401": "The request carries no valid token.",
    "404": "It does not exist, or the token may not see it.",
    "503": "The store can't be read now.",
}


def document(root: str) -> dict[str, Any]:
    """Return the OpenAPI document of an application that is mounted at a path."""
    return {**_document(), "servers": [{"url": root or "/"}]}


@cache
def _document() -> dict[str, Any]:
    paths = {
        PREFIX + re.sub(r":number}", "}", each.path): {"get": _operation(each)}
        for each in ENDPOINTS
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "runcas",
            "version": __version__,
            "description": "Read the runs of a store: files, versions, snapshots and their makers.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": {**paths, **{PREFIX + path: {"get": _feed(path)} for path in FEEDS}},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
            "responses": {
                status: {
                    "description": text,
                    "content": {"application/json": {"schema": _reference("Failure")}},
                }
                for status, text in _FAILURES.items()
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    query = [
        {
            "name": each.name,
            "in": "query",
            "description": each.description,
            "required": each.is_required,
            "style": "form",
            "explode": False,
            "schema": each.kind.schema
            | ({} if each.default is None else {"default": each.default}),
        }
        for each in endpoint.parameters
    ]
    return {
        "operationId": _operation_id(endpoint.path),
        "summary": str(getdoc(endpoint.answer)).partition("\n")[0],
        "parameters": [*_path_parameters(endpoint.path), *query],
        "responses": {**_answers(endpoint.returns), **_failures()},
    }


def _feed(path: str) -> dict[str, Any]:
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {
        "operationId": _operation_id(path),
        "summary": "Return a stream of changes: server-sent events `change`, each a RunChange.",
        "parameters": _path_parameters(path),
        "responses": {"200": {"description": "Events.", "content": stream}, **_failures()},
    }


def _operation_id(path: str) -> str:
    """Return the fixed parts of a path: ``runs_files`` for the files of a run."""
    parts = [part for part in path.split("/") if part and not part.startswith("{")]
    is_one = path.endswith("}")
    return "_".join(parts) + ("_one" if is_one else "")


def _path_parameters(path: str) -> list[dict[str, Any]]:
    found = re.findall(r"{(\w+)(:number)?}", path)
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "integer", "minimum": 0} if is_number else _PLAIN[str],
        }
        for name, is_number in found
    ]


def _failures() -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{status}"} for status in _FAILURES}


def _answers(returns: str) -> dict[str, Any]:
    if "/" not in returns:
        shown = {"application/json": {"schema": _returned(returns)}}
        return {"200": {"description": "The answer.", "content": shown}}
    shown = {returns: {"schema": {"type": "string", "format": "binary"}}}
    if returns != "*/*":
        shown["application/x-tar"] = shown[returns]
        return {"200": {"description": "The archive.", "content": shown}}
    whole = {
        "description": "The bytes, verified. Their ETag is the digest.",
        "headers": {
            "ETag": {"schema": _PLAIN[str]},
            "Content-Disposition": {"schema": _PLAIN[str]},
        },
        "content": shown,
    }
    return {
        "200": whole,
        "206": {**whole, "description": "The range that was asked for."},
        "304": {"description": "The reader has these bytes."},
        "410": {"$ref": "#/components/responses/404", "description": "There are none."},
        "412": {"description": "They are not those of If-Match."},
        "416": {"description": "They end before the range."},
    }


def _returned(returns: str) -> dict[str, Any]:
    """Return the schema of an answer: of one result, or of several."""
    several, _, name = returns.rpartition(" of ")
    if not several:
        return _reference(name)
    properties: dict[str, Any] = {"items": {"type": "array", "items": _reference(name)}}
    if several == "Page":
        properties["next"] = {
            "type": ["string", "null"],
            "description": "The URL of the next page; null after the last one.",
        }
    if several == "Found":
        properties["is_complete"] = _PLAIN[bool]
    return _object(properties)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, Any]:
    kinds = (
        Activity, ContentDiff, DirectoryEntry, FileVersion, GroupStats, Input, Lineage,
        LineageEdge, RunChange, RunStats, RunSummary, RunTag, Stale, StoreStats, TableDiff, Tag,
    )  # fmt: skip
    made = {kind.__name__: _of_result(kind) for kind in kinds}
    for column in get_args(get_type_hints(TableDiff, localns=_NAMES)["columns"])[:1]:
        made[column.__name__] = _of_result(column)
    version = _reference("FileVersion")
    version_or_none = {"anyOf": [version, _PLAIN[NoneType]]}
    count, label = {"type": "integer", "minimum": 0}, {"type": ["string", "null"]}
    return {
        **made,
        "Failure": _object({"status": count, "error": _PLAIN[str], "message": _PLAIN[str]}),
        "Change": _object(
            {
                "change": {"enum": ["added", "changed", "removed"]},
                "path": _PLAIN[str],
                "before": version_or_none,
                "after": version_or_none,
            }
        ),
        "Preview": {
            "type": "object",
            "properties": {"kind": _PLAIN[str], "truncated": _PLAIN[bool]},
            "required": ["kind", "truncated"],
        },
        "Producers": _object(
            {
                "digest": _PLAIN[Digest],
                "items": {"type": "array", "items": version},
                "is_complete": _PLAIN[bool],
            }
        ),
        "RunInput": _object({**made["Input"]["properties"], "source": version_or_none})
        | {"description": "An input, and the version it was read from; null if there is none."},
        "Snapshot": _object(
            {
                "snapshot": count,
                "created_at": _PLAIN[datetime],
                **dict.fromkeys(
                    ("phase", "agent", "node_id", "step_id", "event_id", "code_hash"), label
                ),
                **dict.fromkeys(("added", "changed", "removed", "unchanged"), count),
                "skipped": {
                    "type": "array",
                    "items": _object({"path": _PLAIN[str], "reason": _PLAIN[str]}),
                },
                "torn": {"type": "array", "items": _PLAIN[str]},
                "notes": {},
                **dict.fromkeys(("bytes_read", "bytes_stored"), count),
            }
        ),
    }


def _of_result(kind: type) -> dict[str, Any]:
    """Return the schema of a result's JSON form; its description is that of the class."""
    hints = get_type_hints(kind, localns=_NAMES)
    found = {each.name: _of_type(hints[each.name]) for each in fields(kind)}
    changed = _CHANGED.get(kind, {})
    properties = {**found, **{name: each for name, each in changed.items() if each is not None}}
    for name in changed.keys() - {name for name, each in changed.items() if each is not None}:
        del properties[name]
    made = _object(properties)
    made["required"] = [name for name in properties if name not in _OPTIONAL.get(kind, ())]
    return {**made, "description": str(getdoc(kind)).partition("\n")[0]}


def _of_type(hint: Any) -> dict[str, Any]:  # noqa: ANN401 - any annotation
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return {"anyOf": [_of_type(each) for each in inner]}
    if origin is Literal:
        return {"enum": [*inner]}
    if origin is tuple:
        return {"type": "array", "items": _of_type(inner[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_type(inner[1])}
    assert is_dataclass(hint), hint  # noqa: S101 - a test makes the whole document
    return _reference(hint.__name__)  # type: ignore[union-attr]  # a class
