"""The rows of one old run, sorted by path. The only I/O is resolving links."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from index.domain.names import check_label, check_local, check_path
from index.domain.snapshots import Skipped
from index.errors import InvalidNameError, UnsafePathError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from index.transfer.legacy_table import LegacyRow

__all__ = [
    "Moves",
    "RowsByPath",
    "as_label",
    "check_moves",
    "common_directory",
    "place_now",
    "root_of",
]

Moves: TypeAlias = "Sequence[tuple[str, str]]"
"""Pairs of the directory that paths began with and the one where their files are now."""

_LABELS: Final = (
    "workflow_phase",
    "generating_agent",
    "generating_code_hash",
    "node_id",
    "step_id",
    "event_id",
)


@dataclass(slots=True)
class RowsByPath:
    """One row for each path of a run, the number of duplicates, and the skipped rows."""

    root: str
    """The work directory with its links resolved. Paths are relative to it."""
    rows: dict[str, LegacyRow] = field(default_factory=dict)
    duplicates: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[LegacyRow], root: str, moved: Moves = ()) -> RowsByPath:
        """Group rows, given oldest first, by path.

        If a path has several rows, the last one with different content counts. A content keeps its
        first producer (ADR 0005).
        """
        found = cls(root)
        for row in rows:
            try:
                path = _relative(row.file_path, root, moved)
                _check_labels(row)
            except (UnsafePathError, InvalidNameError, TypeError, ValueError) as error:
                found.skipped.append(Skipped(str(row.file_path), str(error)))
                continue
            earlier = found.rows.get(path)
            found.duplicates += earlier is not None
            found.rows[path] = row if earlier is None else _of_two(earlier, row)
        return found


def check_moves(moved: Mapping[str, str | os.PathLike[str]] | None) -> Moves:
    """Return moves, the deepest directory first. Raises TypeError or ValueError."""
    if moved is not None and not isinstance(moved, Mapping):
        raise TypeError(f"moved maps directories to where they are now, not {moved!r}")
    pairs = []
    given: Iterable[tuple[object, str | os.PathLike[str]]] = (moved or {}).items()
    for old, new in given:
        if not isinstance(old, str) or not os.path.isabs(old):
            raise ValueError(f"moved maps absolute directories as text, not {old!r}")
        clean = "/" + os.path.normpath(old).lstrip("/")
        pairs.append((clean, os.path.abspath(check_local(new))))
    return sorted(pairs, key=lambda pair: len(pair[0]), reverse=True)


def place_now(file_path: str, moved: Moves) -> str:
    """Return where the file of an old path is now."""
    for old, new in moved:
        folder = old.rstrip("/")
        if file_path.startswith(f"{folder}/"):
            return f"{new.rstrip('/')}/{file_path[len(folder) + 1 :]}"
    return file_path


def common_directory(rows: Sequence[LegacyRow], moved: Moves = ()) -> str:
    """Return the deepest common directory of all absolute paths, or the current directory."""
    paths = (place_now(row.file_path, moved) for row in rows if isinstance(row.file_path, str))
    folders = {os.path.dirname(path) for path in paths}
    absolute = [folder for folder in folders if os.path.isabs(folder) and "\0" not in folder]
    return os.path.commonpath(absolute) if absolute else os.curdir


def root_of(file_path: str, path: str) -> str | None:
    """Return the directory that `file_path` was relative to when it became `path`."""
    root = file_path.removesuffix(f"/{path}")
    return root or "/" if root != file_path else None


def as_label(value: object) -> str | None:
    """Return an id as text. Old tables also have numbers and UUIDs."""
    return None if value in (None, "") else str(value)


def _relative(file_path: object, root: str, moved: Moves) -> str:
    if not isinstance(file_path, str):
        raise TypeError("its path is not text")
    file_path = place_now(file_path, moved)
    if not os.path.isabs(file_path) or "\0" in file_path:
        return check_path(file_path)
    folder, name = os.path.split(file_path)
    text = os.path.join(os.path.realpath(folder), name)
    prefix = root if root.endswith("/") else f"{root}/"
    if not text.startswith(prefix):
        raise UnsafePathError(file_path, f"it is outside the work directory {root!r}")
    return check_path(text[len(prefix) :])


def _check_labels(row: LegacyRow) -> None:
    """Raise `InvalidNameError` if the provenance of a row can't be stored."""
    for name in _LABELS:
        if (value := as_label(getattr(row, name))) is not None:
            check_label(name, value)


def _of_two(earlier: LegacyRow, later: LegacyRow) -> LegacyRow:
    hashes = earlier.content_hash, later.content_hash
    if all(hashes) and hashes[0] != hashes[1]:
        return later  # rewritten in between
    if earlier.node_id is None or earlier.node_id != later.node_id:
        return earlier
    missing = {
        name: getattr(later, name) for name in _LABELS if as_label(getattr(earlier, name)) is None
    }
    return earlier._replace(**missing)
