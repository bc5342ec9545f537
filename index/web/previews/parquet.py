"""Tables of Parquet."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from index.web.previews.content import UnreadableError
from index.web.previews.preview import Preview
from index.web.previews.tables import MOST_COLUMNS, MOST_ROWS, short_cell

if TYPE_CHECKING:
    from index.web.previews.content import Content

__all__ = ["show"]

_LARGEST_FOOTER: Final = 8 << 20
_BUFFER: Final = 64 << 10

_NO_VALUE: Final = (ValueError, OverflowError, LookupError, NotImplementedError)
"""What pyarrow raises for a time that Python's times do not have, or of an unknown time zone."""

_SAFE: Final = 15
"""Releases of pyarrow before 14.0.1 unpickle types of extensions: CVE-2023-47248."""


def show(content: Content, _head: bytes) -> Preview:
    """Return the first rows of the first row group. Only its first pages are read."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UnreadableError("To show Parquet here, install pyarrow.") from error
    if int(pa.__version__.partition(".")[0]) < _SAFE:
        raise UnreadableError(f"To show Parquet here, install pyarrow {_SAFE} or newer.")
    tail = content.read(max(content.size - 8, 0), 8)
    if tail[4:] != b"PAR1":
        raise UnreadableError("This file of Parquet has no end, or its end is encrypted.")
    if int.from_bytes(tail[:4], "little") > _LARGEST_FOOTER:
        raise UnreadableError("The footer of this file of Parquet is too large to read.")
    with content.open() as file:
        table = parquet.ParquetFile(
            pa.PythonFile(file, mode="r"),
            buffer_size=_BUFFER,
            pre_buffer=False,  # which reads all of a row group
        )
        schema = table.schema_arrow
        names = _first_columns(schema)
        cells = _cells(content, table, names) if table.num_row_groups else {}
    total = max(table.metadata.num_rows, 0)
    shown = [name for name in names if name in cells] or names
    columns = [{"name": name, "type": str(schema.field(name).type)} for name in shown]
    rows = [[*row] for row in zip_longest(*cells.values())]
    note = None
    if len(shown) < len(schema.names):
        note = f"The first {len(shown)} of {len(schema.names):,} columns."
    if names and not cells and total:
        note = "A preview would read too many bytes of this file to show rows."
    is_cut = len(rows) < total or note is not None
    fields = {"columns": columns, "rows": rows, "rows_total": total}
    return Preview("table", is_cut, note, fields)


def _first_columns(schema: Any) -> list[str]:  # noqa: ANN401 - pyarrow has no types
    """Return the names of the first columns. Names that are there twice can't be read by name."""
    names = [name for name in schema.names if len(schema.get_all_field_indices(name)) == 1]
    return names[:MOST_COLUMNS]


def _cells(content: Content, table: Any, names: list[str]) -> dict[str, list[str | None]]:  # noqa: ANN401
    """Return the first cells of each column, as far as bytes may be read.

    The columns are read one by one: the first pages of them all may be too many bytes.
    """
    found: dict[str, list[str | None]] = {}
    for name in names:
        try:
            batches = table.iter_batches(
                batch_size=MOST_ROWS, row_groups=[0], columns=[name], use_threads=False
            )
            batch = next(batches, None)
        except OSError:
            if content.is_spent:
                break
            raise
        if batch is None or name not in batch.schema.names:
            found[name] = []
        else:
            found[name] = [_cell(value) for value in batch.column(name)]
    return found


def _cell(value: Any) -> str | None:  # noqa: ANN401
    if not value.is_valid:
        return None
    try:
        return short_cell(str(value.as_py()))
    except _NO_VALUE:
        pass
    try:
        return short_cell(str(value.cast("int64")))
    except _NO_VALUE:
        return "(can't be shown)"
