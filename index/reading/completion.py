"""Names that exist and begin with a text, for shells that complete them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from index.db.queries import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from index.db.database import Database

__all__ = ["list_names"]

_MOST: Final = 50
"""Names that are offered. A shell shows no more at once."""


def list_names(
    database: Database, kinds: Sequence[str], begin: str, *, session: str, run: str | None
) -> list[str]:
    """Return at most 50 names of each kind that begin with a text.

    Parameters
    ----------
    kinds
        ``"session"``, ``"run"``, ``"snapshot"`` with tags, ``"tag"``, ``"path"``, or a label of
        file versions.
    run
        The run that has the snapshots, tags, paths and labels; by default the session's only one,
        and labels of all.
    """
    with database.reading() as connection:
        found = [
            name
            for kind in kinds
            for name in names.list_names(connection, kind, begin, session, run, limit=_MOST)
        ]
    return [name for name in dict.fromkeys(found) if name.startswith(begin)]
