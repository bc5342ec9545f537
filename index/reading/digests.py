"""Digests by their first digits, among the files that a session may see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cas.digest import DIGEST_SIZE, Digest
from cas.errors import InvalidDigestError
from index.db.queries import files
from index.errors import AmbiguousNameError, UnknownDigestError

if TYPE_CHECKING:
    from index.db.database import Database

__all__ = ["check_prefix_of_digest", "find_digests", "get_digest", "is_prefix_of_digest"]

_PREFIX: Final = re.compile(rf"[0-9a-f]{{7,{2 * DIGEST_SIZE}}}", re.ASCII)
"""Seven digits, as git prints them: of a thousand files, two share as many in one of 500 runs."""

_TOLD: Final = 5
"""Digests that an error names."""


def is_prefix_of_digest(text: str) -> bool:
    """Whether a text is a digest, or at least seven of its first digits."""
    return _PREFIX.fullmatch(text) is not None


def check_prefix_of_digest(text: Digest | str) -> str:
    """Return the digits of a digest, or its first ones. Raises InvalidDigestError."""
    given: object = text  # callers without a type checker give anything
    if isinstance(given, Digest):
        return str(given)
    if not isinstance(given, str) or not is_prefix_of_digest(given):
        raise InvalidDigestError(given)
    return given


def find_digests(database: Database, session: str | None, prefix: str) -> list[Digest]:
    """Return a few digests of files that begin with these digits, in a session or in all."""
    with database.reading() as connection:
        return files.list_digests(connection, session, prefix, at_most=_TOLD)


def get_digest(database: Database, session: str | None, text: Digest | str) -> Digest:
    """Return the digest of a file that a text means: all its digits, or at least the first seven.

    Parameters
    ----------
    session
        The session whose files it may be; None for all sessions.

    Raises
    ------
    InvalidDigestError
        When the text is neither.
    UnknownDigestError, AmbiguousNameError
        When no file has such a digest, or several have.
    """
    prefix = check_prefix_of_digest(text)
    found = find_digests(database, session, prefix)
    if len(found) > 1:
        raise AmbiguousNameError(prefix, tuple(map(str, found)))
    if not found:
        raise UnknownDigestError(session, text)
    return found[0]
