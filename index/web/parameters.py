"""Parameters of queries: how their text is read, and how the OpenAPI document describes them."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args
from urllib.parse import parse_qsl

from starlette.convertors import IntegerConvertor, register_url_convertor

from index import FileOrder, RunStatus, StatsLabel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "AT",
    "FILTERS",
    "SEARCH",
    "BadParameterError",
    "Kind",
    "Parameter",
    "choice",
    "number",
    "read_query",
]

MAX_PAGE: Final = 1_000
"""The most items of a page of the API."""

_MAX_NUMBER: Final = 2**63 - 1
_MAX_TEXT: Final = 16_384
"""Characters. A path has at most 4,096 bytes, and each byte may take three characters in a URL."""


class _NumberInPath(IntegerConvertor):
    """A number in a path: no more digits than 64 bits have, and Python reads."""

    regex = "[0-9]{1,19}"


register_url_convertor("number", _NumberInPath())


class BadParameterError(ValueError):
    """A parameter that can't be used. Its text is a sentence for who sent the request."""


class Kind(NamedTuple):
    """What values a parameter has."""

    schema: dict[str, Any]
    """In the words of JSON Schema."""
    read: Callable[[str], Any]
    """Returns the value of a text; raises ValueError with what the value would have to be."""


class Parameter(NamedTuple):
    """A parameter of a query."""

    name: str
    kind: Kind
    description: str
    default: Any = None
    is_required: bool = False


def _text(text: str) -> str:
    if len(text) > _MAX_TEXT:
        raise ValueError(f"at most {_MAX_TEXT:,} characters long")
    return text


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise ValueError(f"a whole number from {least} to {most}")
    return int(text)


def number(least: int = 0, most: int = _MAX_NUMBER) -> Kind:
    """Return the kind of a whole number."""
    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Kind(schema, lambda text: _whole(text, least, most))


def choice(*names: str) -> Kind:
    """Return the kind of one of some names."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return text

    return Kind({"type": "string", "enum": [*names]}, read)


def _choices(*names: str) -> Kind:
    one = choice(*names)

    def read(text: str) -> tuple[str, ...]:
        return tuple(map(one.read, text.split(",")))

    listed = {"type": "array", "items": one.schema, "minItems": 1}
    return Kind(listed, read)


def _read_flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


def _read_time(text: str) -> datetime:
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
    raise ValueError("a time with its zone, such as 2026-05-31T18:00:00Z")


def _read_at(text: str) -> int | str:
    if text.isascii() and text.isdigit():
        return _whole(text, 0, _MAX_NUMBER)
    if not text:
        raise ValueError("the number or the tag of a snapshot")
    return _text(text)


TEXT: Final = Kind({"type": "string", "maxLength": _MAX_TEXT}, _text)
FLAG: Final = Kind({"type": "boolean"}, _read_flag)
TIME: Final = Kind({"type": "string", "format": "date-time"}, _read_time)
SNAPSHOT: Final = Kind({"type": "string", "minLength": 1, "maxLength": _MAX_TEXT}, _read_at)
LABELS: Final = _choices(*get_args(StatsLabel))
STATUS: Final = choice(*get_args(RunStatus))
ORDER: Final = choice(*get_args(FileOrder))

AT: Final = Parameter("at", SNAPSHOT, "The state at this snapshot: its number or a tag of it.")

LABELLED: Final = tuple(
    Parameter(name, TEXT, f"Only what has this {what}.")
    for name, what in {
        "phase": "workflow phase",
        "agent": "generating agent",
        "node_id": "DAG node",
        "step_id": "step",
        "event_id": "event",
    }.items()
)

FILTERS: Final = (
    *LABELLED,
    Parameter("file_type", TEXT, "Only files of this type, such as plot or data."),
    Parameter(
        "priority", choice("primary", "secondary", "internal"), "Only files of this priority."
    ),
    Parameter("final", FLAG, "Only final outputs, or only other files."),
    Parameter("prefix", TEXT, "Only paths that begin with this text."),
)

SEARCH: Final = (
    Parameter("pattern", TEXT, "Text of the name, or a pattern such as *.csv or data/**/*.csv."),
    *FILTERS,
    Parameter("since", TIME, "Only versions that were recorded at this time or later."),
    Parameter("until", TIME, "Only versions that were recorded before this time."),
    Parameter("larger", number(), "Only files of more bytes."),
    Parameter("smaller", number(), "Only files of fewer bytes."),
    Parameter("digest", TEXT, "At least the first seven digits of a digest."),
    Parameter("run", TEXT, "The id of a run, or a pattern for ids."),
    Parameter("where", TEXT, "An expression over columns and notes, such as meta.rmse < 0.1."),
    Parameter("all_versions", FLAG, "Past versions, too.", default=False),
)


def limit(default: int = 100) -> Parameter:
    """Return the parameter for the size of a page."""
    return Parameter("limit", number(1, MAX_PAGE), "The most items to return.", default)


def read_query(query: bytes, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the values of parameters, by name. Those that are not given have their defaults.

    Bytes of a path that are not UTF-8 are percent-encoded, and become lone surrogates.

    Raises
    ------
    BadParameterError
        When one is unknown, given twice, missing or wrong.
    """
    known = {each.name: each for each in parameters}
    values = {each.name: each.default for each in parameters}
    given = set()
    pairs = parse_qsl(
        query.decode("latin-1"), keep_blank_values=True, errors="surrogateescape", separator="&"
    )
    for name, text in pairs:
        if name not in known:
            shown = ", ".join(known) or "none"
            raise BadParameterError(f"{name!r} is no parameter of this; it takes {shown}")
        if name in given:
            raise BadParameterError(f"{name} is given twice; give it once")
        given.add(name)
        try:
            values[name] = known[name].kind.read(text)
        except ValueError as error:
            raise BadParameterError(f"{name} is {error}, not {text[:100]!r}") from None
    missing = [each.name for each in parameters if each.is_required and each.name not in given]
    if missing:
        raise BadParameterError(f"{' and '.join(missing)} must be given")
    return values
