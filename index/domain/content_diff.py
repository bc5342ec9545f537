"""Differences in the content of two versions of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias

from index.domain.line_diff import split_lines, unified
from index.domain.results import Result
from index.domain.table_diff import compare_tables, is_table

if TYPE_CHECKING:
    from index.domain.snapshots import FileVersion
    from index.domain.table_diff import TableDiff

__all__ = ["MAX_TABLE", "MAX_TEXT", "ContentDiff", "ContentKind", "compare_contents"]

MAX_TEXT: Final = 1 << 20
"""Bytes of the largest text that is compared by lines."""

MAX_TABLE: Final = 8 << 20
"""Bytes of the largest table that is compared by columns. It is held in memory, cell by cell."""

_FEW_LINES: Final = 20
"""Changed lines up to which the lines of a table tell more than its columns do."""

ContentKind: TypeAlias = Literal["text", "table", "binary", "large", "link", "unknown"]


@dataclass(frozen=True, slots=True)
class ContentDiff(Result):
    """How the contents of two versions differ."""

    before: FileVersion | None
    """None for a file that was added."""
    after: FileVersion | None
    """None for a file that was removed."""
    kind: ContentKind
    """``"text"`` with lines, ``"table"`` with columns, or why there are neither: ``"binary"`` (no
    UTF-8), ``"large"``, ``"link"`` (one version is a link and the other a file) or ``"unknown"`` (a
    version without bytes)."""
    lines: tuple[str, ...] = ()
    """A unified diff without line ends, as git and patch have it, with the two lines of names."""
    table: TableDiff | None = None

    derived: ClassVar = ("path", "lines_added", "lines_removed")

    @property
    def path(self) -> str:
        """The path of the second version, or of the one that was removed."""
        version = self.before if self.after is None else self.after
        assert version is not None  # noqa: S101 - one of the two is there
        return version.path

    @property
    def text(self) -> str:
        """The unified diff as text, for ``patch -p1``; empty if there is none."""
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def lines_added(self) -> int | None:
        """Number of lines that are new; None if lines are not compared."""
        return self._count("+")

    @property
    def lines_removed(self) -> int | None:
        """Number of lines that are gone; None if lines are not compared."""
        return self._count("-")

    def _count(self, mark: str) -> int | None:
        if self.kind != "text":
            return None
        return sum(line.startswith(mark) for line in self.lines[2:])


def compare_contents(
    before: FileVersion | None, after: FileVersion | None, old: bytes, new: bytes
) -> ContentDiff:
    """Return how two contents differ; that of a version which is None is empty."""
    try:
        texts = _decoded(old), _decoded(new)
    except UnicodeDecodeError:
        return ContentDiff(before, after, "binary")
    lines: list[str] | None = None
    if max(len(old), len(new)) <= MAX_TEXT:
        lines = [*unified(*map(split_lines, texts))]
        names = _name("a", before), _name("b", after)
        lines[:0] = (f"--- {names[0]}", f"+++ {names[1]}") if lines else ()
        if sum(line[0] in "+-" for line in lines[2:]) <= _FEW_LINES:
            return ContentDiff(before, after, "text", tuple(lines))
    if before is not None and after is not None and is_table(before.path) and is_table(after.path):
        table = compare_tables(after.path, *texts)
        if table is not None:
            return ContentDiff(before, after, "table", table=table)
    if lines is None:
        return ContentDiff(before, after, "large")
    return ContentDiff(before, after, "text", tuple(lines))


def _decoded(data: bytes) -> str:
    """Return data as text. Raises UnicodeDecodeError if it is none."""
    if (at := data.find(b"\0")) >= 0:
        raise UnicodeDecodeError("utf-8", data[at : at + 1], 0, 1, "text has no NUL")
    return data.decode()


def _name(side: str, version: FileVersion | None) -> str:
    """Return the name of a version in a unified diff, quoted as git does where it must be."""
    if version is None:
        return "/dev/null"
    text = f"{side}/{version.path}"
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f"{text}\t" if " " in text else text  # or patch would end the name there
    quoted = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}"
        for byte in text.encode("utf-8", "surrogateescape")
    )
    return f'"{quoted}"'
