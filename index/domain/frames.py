"""Results as pandas data frames. pandas is the caller's: nothing else here needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

__all__ = ["frame_of"]


def frame_of(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    r"""Return rows, in their JSON form, as a data frame; times become times with a zone.

    Bytes of names that are not UTF-8 become ``\\xe9`` and the like: Arrow's text can't hold them.
    """
    import pandas as pd

    shown = [{name: _text(value) for name, value in row.items()} for row in rows]
    frame = pd.DataFrame.from_records(shown)
    for name in ("created_at",):
        if name in frame:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame


def _text(value: object) -> object:
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
