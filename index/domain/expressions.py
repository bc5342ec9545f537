"""Expressions that select file versions: ``meta.rmse < 0.1 and agent = "engineer"``. No I/O.

A comparison has a column on its left, and one value or several on its right. It is true, false or
unknown: unknown where the version has no such value, or one of another kind. `not` of what is
unknown is unknown, and only what is true is found. `index.db.queries.expressions` makes SQL of it.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, get_args

from index.domain.listing import WILDCARDS, compile_glob
from index.domain.names import storable
from index.domain.runs import RunStatus
from index.domain.units import parse_size, parse_time
from index.errors import InvalidExpressionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

__all__ = [
    "COLUMNS", "Column", "Comparison", "Either", "Every", "Expression", "Kind", "Operator", "Value",
    "needs_meta", "read_expression",
]  # fmt: skip

Kind: TypeAlias = Literal["text", "path", "name", "number", "size", "time", "flag", "tag", "meta"]

Operator: TypeAlias = Literal["=", "<", "<=", ">", ">=", "~", "null"]

Value: TypeAlias = "str | int | float | bool | datetime"

_LONGEST: Final = 4_096
"""Characters of an expression: with its parameters, far from what a database takes."""

_DEEPEST: Final = 32
"""Parentheses and `not` inside each other."""

_LARGEST: Final = 2**31 - 1
"""PostgreSQL takes positions in a list of 32 bits, as numbers of versions are."""


class Column(NamedTuple):
    """What an expression can ask for."""

    kind: Kind
    description: str
    choices: tuple[str, ...] = ()
    """All values that it can have; none if they are not known."""


COLUMNS: Final = {
    "path": Column("path", "path in the run"),
    "name": Column("name", "last part of the path"),
    "type": Column("text", "file type: plot, data, code, …"),
    "priority": Column(
        "text", "primary, secondary or internal", ("primary", "secondary", "internal")
    ),
    "final": Column("flag", "whether it is a final output"),
    "size": Column("size", "bytes"),
    "version": Column("number", "number of the version, from 1"),
    "created": Column("time", "when the version was recorded"),
    "agent": Column("text", "generating agent"),
    "phase": Column("text", "workflow phase"),
    "node": Column("text", "DAG node"),
    "step": Column("text", "step"),
    "event": Column("text", "event that led to the file"),
    "code": Column("text", "hash of the generating code"),
    "run": Column("text", "id of the run"),
    "status": Column("text", "status of the run", get_args(RunStatus)),
    "tag": Column("tag", "a tag of the version, or of a snapshot that holds it"),
    "meta": Column("meta", 'what was noted: meta.rmse, meta.layers[0].name, meta."a b"'),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A column and what it is compared with; true for one of several values."""

    column: str
    keys: tuple[str | int, ...]
    """Where in `meta`: keys of objects and positions in lists."""
    operator: Operator
    values: tuple[Value, ...]
    """Of one type."""
    is_negated: bool = False

    @property
    def kind(self) -> Kind:
        """The kind of the column."""
        return COLUMNS[self.column].kind


@dataclass(frozen=True, slots=True)
class Every:
    """True where all parts are."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """True where a part is."""

    parts: tuple[Expression, ...]


Expression: TypeAlias = Comparison | Every | Either


def read_expression(text: str, now: datetime) -> Expression:
    """Return what an expression says.

    Parameters
    ----------
    now
        What ``2d`` (two days ago) counts from.

    Raises
    ------
    InvalidExpressionError
        When it can't be read, with the place.
    """
    given: object = text  # callers without a type checker give anything
    if not isinstance(given, str):
        raise TypeError(f"where is an expression such as 'size > 10 MB', not {given!r}")
    return _Reader(text, now).read()


def needs_meta(expression: Expression) -> bool:
    """Whether it is true only for versions with notes."""
    match expression:
        case Every(parts):
            return any(map(needs_meta, parts))
        case Either(parts):
            return all(map(needs_meta, parts))
    return expression.column == "meta" and (expression.operator != "null" or expression.is_negated)


def _negated(expression: Expression) -> Expression:
    match expression:
        case Every(parts):
            return Either(tuple(map(_negated, parts)))
        case Either(parts):
            return Every(tuple(map(_negated, parts)))
    return replace(expression, is_negated=not expression.is_negated)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


_TOKEN: Final = re.compile(
    r"""[ \t\n\r\f\v]*(?:
      (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<time>[0-9]{4}-[0-9]{2}-[0-9tz:.+-]*)
    | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?(?:\s*(?:[kmgtp]?i?b|[kmgtpsdhw]))?)(?![\w.])
    | (?P<word>[a-z_]\w*)
    | (?P<sign><=|>=|!=|!~|==|[=<>~().,\[\]])
    | (?P<end>$)
    )""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)

_SPACES: Final = " \t\n\r\f\v"

_SIGNS: Final[dict[str, tuple[Operator, bool]]] = {
    "=": ("=", False),
    "==": ("=", False),
    "!=": ("=", True),
    "~": ("~", False),
    "!~": ("~", True),
    "<": ("<", False),
    "<=": ("<=", False),
    ">": (">", False),
    ">=": (">=", False),
}

_ODD: Final = re.compile("[\udc80-\udcff]")
"""What stands for a byte that is not UTF-8. Paths may have it, and no other text in a store."""

_NO_TEXT: Final = "there is a character that no text in a store has"

_WORDS: Final = ("and", "or", "not", "in", "is", "null", "true", "false")


class _Reader:
    """Reads one expression, token by token."""

    def __init__(self, text: str, now: datetime) -> None:
        self._text = text
        self._now = now
        self._at = 0
        self._depth = 0

    def read(self) -> Expression:
        if len(self._text) > _LONGEST:
            raise self._wrong(_LONGEST, f"it is longer than {_LONGEST:,} characters; split it")
        if unusable := re.search("[\0\ud800-\udc7f\udd00-\udfff]", self._text):
            raise self._wrong(unusable.start(), _NO_TEXT)
        found = self._either()
        if (left := self._next()).kind != "end":
            raise self._wrong(left.at, f"{left.text!r} is too much; join comparisons by and, or")
        return found

    def _wrong(self, at: int, reason: str) -> InvalidExpressionError:
        return InvalidExpressionError(self._text, at + 1, reason)

    def _next(self) -> _Token:
        """Return the next token, without taking it."""
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            at = len(self._text) - len(self._text[self._at :].lstrip(_SPACES))
            if self._text[at] in "'\"":
                raise self._wrong(at, "a text begins that does not end; close its quote")
            raise self._wrong(
                at, f"{self._text[at]!r} means nothing here; put text, and keys with it, in quotes"
            )
        kind = str(found.lastgroup)
        return _Token(kind, found[kind], found.start(kind))

    def _take(self, *texts: str, kind: str = "") -> _Token | None:
        """Take the next token if it is one of these words or signs, or of this kind."""
        token = self._next()
        if token.kind != kind and not (
            token.kind in ("word", "sign") and token.text.lower() in texts
        ):
            return None
        self._at = token.at + len(token.text)
        return token

    def _expect(self, text: str) -> None:
        if self._take(text) is None:
            raise self._wrong(self._next().at, f"{text!r} is missing")

    def _either(self) -> Expression:
        return self._joined("or", lambda: self._joined("and", self._term, Every), Either)

    def _joined(
        self, word: str, part: Callable[[], Expression], join: type[Every | Either]
    ) -> Expression:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return join(tuple(parts)) if len(parts) > 1 else parts[0]

    def _term(self) -> Expression:
        begin = self._take("not", "(")
        if begin is None:
            return self._comparison()
        if self._depth == _DEEPEST:
            raise self._wrong(begin.at, f"it is nested more than {_DEEPEST} deep; make it flatter")
        self._depth += 1
        if begin.text == "(":
            found = self._either()
            self._expect(")")
        else:
            found = _negated(self._term())
        self._depth -= 1
        return found

    def _comparison(self) -> Comparison:
        token = self._take(kind="word")
        if token is None or token.text.lower() in _WORDS:
            raise self._wrong((token or self._next()).at, "a column is missing, as in size > 10 MB")
        name = token.text
        if name not in COLUMNS:
            raise self._wrong(token.at, f"{name!r} is no column{_closest(name, COLUMNS)}")
        keys = self._keys() if name == "meta" else ()
        if self._take("is"):
            is_negated = self._take("not") is not None
            self._expect("null")
            return Comparison(name, keys, "null", (), is_negated)
        is_negated = self._take("not") is not None
        if is_negated or self._next().text.lower() == "in":
            self._expect("in")
            return Comparison(name, keys, "=", self._values(name), is_negated)
        sign = self._take(*_SIGNS)
        if sign is not None:
            operator, is_negated = _SIGNS[sign.text]
            return Comparison(name, keys, operator, (self._value(name, operator),), is_negated)
        if COLUMNS[name].kind in ("flag", "meta"):
            return Comparison(name, keys, "=", (True,))
        raise self._wrong(self._next().at, f"a comparison of {name} is missing, as = or is null")

    def _keys(self) -> tuple[str | int, ...]:
        keys: list[str | int] = []
        while sign := self._take(".", "["):
            token = self._next()
            self._at = token.at + len(token.text)
            if sign.text == "." and token.kind in ("word", "text"):
                if _ODD.search(token.text):
                    raise self._wrong(token.at, _NO_TEXT)
                keys.append(_unquoted(token.text) if token.kind == "text" else token.text)
            elif sign.text == "[" and token.kind == "number" and token.text.isdigit():
                keys.append(min(int(token.text), _LARGEST))
                self._expect("]")
            else:
                raise self._wrong(
                    token.at, 'a key is missing; write meta.loss, meta."a b" or meta.layers[0]'
                )
        return tuple(keys)

    def _values(self, column: str) -> tuple[Value, ...]:
        self._expect("(")
        values = []
        while True:
            at = self._next().at
            values.append(self._value(column, "="))
            if type(values[-1]) is not type(values[0]):
                raise self._wrong(at, "values of several kinds; join two comparisons by or")
            if not self._take(","):
                break
        self._expect(")")
        return tuple(values)

    def _value(self, column: str, operator: Operator) -> Value:
        token = self._next()
        self._at = token.at + len(token.text)
        kind, _, choices = COLUMNS[column]
        if token.kind in ("end", "sign"):
            raise self._wrong(token.at, f"a value of {column} is missing")
        if kind not in ("path", "name") and _ODD.search(token.text):
            raise self._wrong(token.at, _NO_TEXT)
        if token.text.lower() == "null":
            raise self._wrong(token.at, "nothing equals null; write is null or is not null")
        try:
            value = self._converted(token, kind)
            _check(column, kind, operator, value)
        except ValueError as error:
            raise self._wrong(token.at, f"{error}") from None
        if choices and operator != "~" and value not in choices:
            raise self._wrong(token.at, f"no {column} is {value!r}{_closest(str(value), choices)}")
        return value

    def _converted(self, token: _Token, kind: Kind) -> Value:
        text = _unquoted(token.text) if token.kind == "text" else token.text
        match kind, token.kind:
            case (("text" | "path" | "name" | "tag" | "meta"), "text"):
                return text
            case "time", ("text" | "time" | "number"):
                return parse_time(text, self._now)
            case "number", "number" if text.lstrip("-").isdigit():
                return max(min(int(text), _LARGEST), ~_LARGEST)
            case "size", "number" if text.lstrip("-").isdigit():
                return storable(int(text))
            case "size", "number":
                return storable(parse_size(text))
            case "meta", "number":
                return float(parse_size(text)) if text[-1].isalpha() else _finite(text)
            case (("flag" | "meta"), "word") if text.lower() in ("true", "false"):
                return text.lower() == "true"
        raise ValueError(f"{token.text!r} is not {_EXPECTED[kind]}")


_EXPECTED: Final[dict[Kind, str]] = {
    **dict.fromkeys(("text", "path", "name", "tag"), "text; put text in quotes"),
    "number": "a whole number",
    "size": "a size; write it as 10 MB, 4 KiB or a number of bytes",
    "time": "a time; write it as 2d (two days ago), 2026-05-31 or 2026-05-31T18:00",
    "flag": "true or false",
    "meta": "text in quotes, a number, true or false",
}


def _finite(text: str) -> float:
    number = float(text)
    if abs(number) > sys.float_info.max:
        raise ValueError(f"{text} is too large for a number")
    return number


def _check(column: str, kind: Kind, operator: Operator, value: Value) -> None:
    """Raise ValueError if a value can't be compared so."""
    if operator == "~":
        if not isinstance(value, str):
            raise ValueError("~ compares with a pattern: text in quotes, such as '*.csv'")
        if kind == "name" and "/" in value:
            raise ValueError("a name has no slash; compare the path with this pattern")
        if kind in ("path", "name") and WILDCARDS.search(value):
            compile_glob(value)
    elif operator != "=" and (kind in ("flag", "tag") or isinstance(value, bool)):
        raise ValueError(f"{column} has no order here; compare it by = or !=")


def _unquoted(text: str) -> str:
    return text[1:-1].replace(text[0] * 2, text[0])


def _closest(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name.lower(), known, 1)
    return f"; the closest is {near[0]!r}" if near else f"; there are {', '.join(known)}"
