"""Results as pandas data frames. pandas is the caller's: nothing else here needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

__all__ = ["frame_of"]


def frame_of(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Return rows, in their JSON form, as a data frame; times become times with a zone."""
    import pandas as pd

    frame = pd.DataFrame.from_records([*rows])
    for name in ("created_at",):
        if name in frame:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame
