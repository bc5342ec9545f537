"""Checks of a source's rows before a transfer. Inconsistent rows are refused, not copied.

The owner may have edited the source's database by hand, or a disk may have damaged it. Such rows
would make the run unreadable at the destination: a path that leads out of the work directory, or to
where another file is, an id that no command takes, a size that differs from the bytes, snapshots
that don't exist.
"""

from __future__ import annotations

import stat
from bisect import bisect_left
from datetime import datetime
from itertools import chain
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING

from cas.digest import Digest
from index.db.column_types import decode_path
from index.db.queries import inputs, transfer
from index.domain.inputs import Reference
from index.domain.names import check_id, check_path
from index.domain.runs import check_notes
from index.domain.tags import check_tag
from index.errors import InvalidMetaError, InvalidNameError, UnsafePathError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from sqlalchemy.engine import Connection

    from index.db.queries.transfer import RunColumns, VersionRow
    from index.domain.names import RunKey

__all__ = ["UnsoundError", "check_inputs", "check_run", "sound_versions"]


class UnsoundError(Exception):
    """An inconsistent row. The message names it and the reason."""


def check_run(
    connection: Connection,
    key: RunKey,
    run: RunColumns,
    snapshots: Sequence[tuple[Any, ...]],
    moves: Sequence[Mapping[str, Any]],
) -> None:
    """Check that the rows of a run are consistent.

    Raises
    ------
    UnsoundError
        When its ids or tags are invalid, a snapshot is missing, or a size differs from the bytes.
    """
    try:
        check_id("session", key.session)
        check_id("run", key.run)
        if run.parent:
            check_id("run", run.parent)
        if run.notes is not None:
            check_notes(run.notes)
        for move in moves:
            check_tag(move["name"])
    except (InvalidNameError, InvalidMetaError) as error:
        raise UnsoundError(str(error)) from error
    _check_snapshots(snapshots)
    if not (run.forked_snapshot is None or _is_number(run.forked_snapshot, len(snapshots))):
        raise UnsoundError(f"it can't have been forked at snapshot {run.forked_snapshot!r}")
    for move in moves:
        if not 0 <= (move.get("snapshot") or 0) <= len(snapshots):
            raise UnsoundError(f"its tag {move['name']!r} names a snapshot that is missing")
    found = transfer.find_other_size(connection, run.id)
    if found is not None:
        path, recorded, actual = found
        has = "has no row of its blob" if actual is None else f"has {actual} bytes"
        raise UnsoundError(f"{path!r} is recorded with {recorded} bytes, and {has}")


def _check_snapshots(snapshots: Sequence[tuple[Any, ...]]) -> None:
    for number, snapshot in enumerate(snapshots, 1):
        if snapshot[0] != number:
            raise UnsoundError(f"its snapshot {number} is missing from the index")
        columns = dict(zip(transfer.SNAPSHOT_COLUMNS, snapshot, strict=True))
        counts = (columns[name] for name in ("unchanged", "bytes_read", "bytes_stored"))
        skipped = columns["skipped"] or []
        lists = [columns["scope"] or [], columns["torn"] or [], *skipped]
        is_sound = all(map(_is_number, counts)) and all(map(_are_texts, lists))
        if not (is_sound and all(len(pair) == 2 for pair in skipped)):
            raise UnsoundError(f"what its snapshot {number} says of its scan can't be so")


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(each, str) for each in values)


def _is_number(value: object, largest: float = inf) -> bool:
    """Whether a value is a count. A database may hold any text in a column of numbers."""
    return isinstance(value, int) and 0 <= value <= largest


def check_inputs(pages: Iterable[Sequence[Sequence[Any]]], newest: int) -> None:
    """Check rows of inputs.

    Raises UnsoundError at one with an invalid source, or with a snapshot beyond `newest`.
    """
    for row in chain.from_iterable(pages):
        each = dict(zip(inputs.COLUMNS, row, strict=True))
        try:
            if each["path"] is not None:
                check_path(decode_path(each["path"]))
            if each["source_run"] is not None:
                check_id("run", each["source_run"])
            if each["uri"] is not None:
                Reference(each["uri"])
        except (InvalidNameError, UnsafePathError) as error:
            raise UnsoundError(str(error)) from error
        if not 0 <= each["snapshot"] <= newest:
            raise UnsoundError(f"its input {each['position']} names a snapshot that is missing")


def sound_versions(versions: Iterable[VersionRow], newest: int) -> Iterator[VersionRow]:
    """Yield versions unchanged, after checking each.

    Raises
    ------
    UnsoundError
        At a version with an invalid path or mode, with snapshots that are out of order or beyond
        `newest`, with an invalid record of dropped bytes, or at a place that another version has.
    """
    places = _Places()
    for row in versions:
        path = decode_path(row.path)
        try:
            plain = check_path(path)
        except UnsafePathError as error:
            raise UnsoundError(str(error)) from error
        if plain != path:
            raise UnsoundError(f"{path!r} is not in its plain spelling")
        end = newest + 1 if row.end_snapshot is None else row.end_snapshot
        if not (1 <= row.appeared_in <= row.first_snapshot < end <= newest + 1):
            raise UnsoundError(f"the snapshots of {path!r}, version {row.version}, can't be so")
        if not (isinstance(row.mtime_ns, int) and _is_number(row.seen_by)):
            raise UnsoundError(f"the times of {path!r}, version {row.version}, can't be so")
        if row.mode & ~0o7777 not in (stat.S_IFREG, stat.S_IFLNK):
            raise UnsoundError(f"{path!r} has no mode of a file or link")
        places.take(path, row.first_snapshot, end)
        if row.dropped is not None:
            _check_dropped(path, row)
        yield row


class _Places:
    """Finds two versions that no snapshot can have both: see ADR 0018. They come in byte order."""

    def __init__(self) -> None:
        self._begun: list[tuple[str, list[tuple[int, int]]]] = []
        """Paths that the next one may begin with, each with when it was there: snapshots from and
        until."""

    def take(self, path: str, first: int, end: int) -> None:
        """Add a version. Raises UnsoundError if another one has its place."""
        begun = self._begun
        while begun and not path.startswith(begun[-1][0]):
            begun.pop()
        if not begun or begun[-1][0] != path:
            begun.append((path, []))
        *_, (_, mine) = begun
        if mine and first < mine[-1][1]:
            raise UnsoundError(f"{path!r} has two versions in snapshot {first}")
        for other, spans in begun[:-1]:
            before = bisect_left(spans, end, key=itemgetter(0))
            if before and first < spans[before - 1][1] and path.startswith(f"{other}/"):
                raise UnsoundError(f"{other!r} is a file in a snapshot that also has {path!r}")
        mine.append((first, end))


def _check_dropped(path: str, row: VersionRow) -> None:
    what = row.dropped
    try:
        Digest.parse(what["digest"])
        datetime.fromisoformat(what["at"])
        str.strip(what["reason"])
    except (ValueError, TypeError, KeyError) as error:
        raise UnsoundError(f"version {row.version} of {path!r} can't be dropped so") from error
