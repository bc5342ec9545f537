"""Lookup of the versions that produced given bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cas.digest import DIGEST_SIZE, Digest
from index.db.queries import files, lineage
from index.domain.names import check_path, check_prefix
from index.errors import UnknownDigestError
from index.reading.digests import get_digest, is_prefix_of_digest

if TYPE_CHECKING:
    import os

    from index.db.database import Database
    from index.domain.snapshots import FileVersion

__all__ = ["find_producers"]

_DIGITS: Final = 2 * DIGEST_SIZE


def find_producers(
    database: Database,
    session: str | None,
    of: Digest | str | os.PathLike[str],
    *,
    limit: int | None = None,
) -> tuple[FileVersion, ...]:
    """Return the versions produced with a digest or at a path, in the order of their commits.

    Raises AmbiguousNameError if `of` is no path, and several digests begin so.

    Parameters
    ----------
    session
        The session to search; None for all sessions.
    limit
        The largest number of versions.
    """
    if isinstance(of, Digest):
        return _list(database, session, files.has_digest(of), limit)
    text = check_prefix(of)
    if len(text) < _DIGITS or not is_prefix_of_digest(text):
        found = _list(database, session, files.has_path(check_path(text)), limit)
        if found or not is_prefix_of_digest(text):
            return found
    try:
        digest = get_digest(database, session, text)
    except UnknownDigestError:
        return ()
    return _list(database, session, files.has_digest(digest), limit)


def _list(
    database: Database, session: str | None, condition: files.Condition, limit: int | None
) -> tuple[FileVersion, ...]:
    with database.reading() as connection:
        produced = lineage.was_produced()
        return tuple(files.list_in_sessions(connection, session, condition, produced, limit=limit))
