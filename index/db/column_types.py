"""Column types that SQLAlchemy does not have: paths, digests, UTC times and exact JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import JSON, BigInteger, DateTime, Integer, LargeBinary, Text, cast, type_coerce
from sqlalchemy.types import TypeDecorator

from cas.digest import DIGEST_SIZE, Digest
from index.domain.units import in_utc

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Dialect

__all__ = [
    "BigId",
    "DigestColumn",
    "JsonColumn",
    "PathColumn",
    "UtcDateTime",
    "decode_path",
    "encode_path",
    "utc_or_none",
]

BigId: Final = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit key. In SQLite only INTEGER is an alias of the rowid."""

_NEEDS_ESCAPE: Final = re.compile("[\\\\\udc80-\udcff]")

_ESCAPED: Final = re.compile(r"\\(\\|x[0-9a-f]{2})")


def encode_path(path: str) -> str:
    r"""Return the text that the index stores for a path.

    In a path, bytes that are not UTF-8 are lone surrogates, which databases refuse as text. Such a
    byte is stored as ``\xff``, and a backslash as two. All other paths are stored unchanged, and
    are readable in any SQL console.
    """
    if "\\" not in path and path.isascii():
        return path
    return _NEEDS_ESCAPE.sub(
        lambda m: r"\\" if m[0] == "\\" else f"\\x{ord(m[0]) - 0xDC00:02x}", path
    )


def decode_path(text: str) -> str:
    """Return the path from which `encode_path` made `text`."""
    if "\\" not in text:
        return text
    return _ESCAPED.sub(lambda m: "\\" if m[1] == "\\" else chr(0xDC00 + int(m[1][1:], 16)), text)


class PathColumn(TypeDecorator[str]):
    """A POSIX path relative to a work directory. Sorts in byte order."""

    impl = Text().with_variant(Text(collation="C"), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else encode_path(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], str | None]:
        return _path_or_none


class DigestColumn(TypeDecorator[Digest]):
    """A digest, stored as its 32 bytes."""

    impl = LargeBinary(DIGEST_SIZE)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> None:
        """Bind digests as they are: every driver takes bytes."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Digest | None]:
        return _digest_or_none


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. A naive one raises ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        value = in_utc(value)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """Bind with a cache: rows of a scan share their times."""
        process = super().bind_processor(dialect)
        return None if process is None else lru_cache(maxsize=256)(process)

    def result_processor(
        self, dialect: Dialect, coltype: object
    ) -> Callable[[Any], datetime | None]:
        return utc_or_none


class _JsonText(TypeDecorator[Any]):
    """JSON in a column of text, for SQLite.

    SQLite gives a column of type JSON numeric affinity: it stores the text of a number as a number
    of 64 bits. (Source: SQLite documentation, "Datatypes In SQLite", section 3.1.)
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return _json_or_none


class _JsonAsText(TypeDecorator[Any]):
    """JSON that the client writes and reads as text, for PostgreSQL.

    An application that registers files has an engine of its own, whose JSON functions may know no
    integer of more than 64 bits, or make decimals of numbers.
    """

    impl = JSON
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:
        return lambda value: None if value is None else json.dumps(value)

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return type_coerce(cast(column, Text), self)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return _json_or_none


JsonColumn: Final = (
    JSON(none_as_null=True)
    .with_variant(_JsonText(), "sqlite")
    .with_variant(_JsonAsText(), "postgresql")
)
"""A JSON value, which is read as it was written; None is null."""


def _path_or_none(value: str | None) -> str | None:
    return None if value is None else decode_path(value)


_as_digest: Final[Callable[[bytes], Digest]] = partial(bytes.__new__, Digest)


def _digest_or_none(value: bytes | None) -> Digest | None:
    # The table's CHECK ensures the length.
    return None if value is None else _as_digest(value)


def _json_or_none(value: str | None) -> Any:  # noqa: ANN401 - any JSON value
    return None if value is None else json.loads(value)


@lru_cache(maxsize=256)
def utc_or_none(value: str | datetime | None) -> datetime | None:
    """Return a time from SQLite's text or a driver's datetime. Cached: rows of a scan share it."""
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
