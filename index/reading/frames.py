"""Tables as pandas data frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    import pandas as pd

__all__ = ["read_frame"]

_READERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    ".csv": ("read_csv", {}),
    ".tsv": ("read_csv", {"sep": "\t"}),
    ".parquet": ("read_parquet", {}),
    ".pq": ("read_parquet", {}),
    ".feather": ("read_feather", {}),
    ".arrow": ("read_feather", {}),
    ".json": ("read_json", {}),
    ".jsonl": ("read_json", {"lines": True}),
    ".ndjson": ("read_json", {"lines": True}),
    ".xlsx": ("read_excel", {}),
}
"""Functions of pandas and their options, by the ending of the name."""

_COMPRESSED: Final = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}


def read_frame(stream: BinaryIO, path: str, options: Mapping[str, Any]) -> pd.DataFrame:
    """Return the table in a stream. Raises ValueError for a name that says no format."""
    import pandas as pd

    name = path.rpartition("/")[2].lower()
    given: dict[str, Any] = {}
    for ending, codec in _COMPRESSED.items():
        if name.endswith(ending):
            name, given = name.removesuffix(ending), {"compression": codec}
    found = next((how for ending, how in _READERS.items() if name.endswith(ending)), None)
    if found is None or (given and found[0] not in ("read_csv", "read_json")):
        raise ValueError(
            f"{path!r} does not say the format of a table; open it and read it with pandas itself"
        )
    function, defaults = found
    table: pd.DataFrame = getattr(pd, function)(stream, **{**defaults, **given, **options})
    return table
