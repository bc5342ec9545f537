"""Lookup of the versions that produced given bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cas.digest import Digest
from cas.errors import InvalidDigestError
from index.db.queries import files
from index.domain.names import check_path, check_prefix

if TYPE_CHECKING:
    import os

    from index.db.database import Database
    from index.domain.snapshots import FileVersion

__all__ = ["find_digests", "find_producers"]


def find_producers(
    database: Database, session: str | None, of: Digest | str | os.PathLike[str]
) -> tuple[FileVersion, ...]:
    """Return the versions produced with a digest or at a path, in the order of their commits.

    Parameters
    ----------
    session
        The session to search; None for all sessions.
    """
    condition = files.has_digest(of) if isinstance(of, Digest) else _condition(check_prefix(of))
    with database.reading() as connection:
        return tuple(files.list_in_sessions(connection, session, condition, files.was_produced()))


def find_digests(database: Database, session: str | None, prefix: str) -> list[Digest]:
    """Return at most two digests of files with a hexadecimal prefix; two show it is ambiguous."""
    with database.reading() as connection:
        return files.list_digests(connection, session, prefix, at_most=2)


def _condition(text: str) -> files.Condition:
    try:
        return files.has_digest(Digest.parse(text))
    except InvalidDigestError:
        return files.has_path(check_path(text))
