"""Who may see what: grants, tokens, and the checks of a request's Host and Origin."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Authorize", "Grant", "Tokens", "UnauthorizedError", "is_foreign", "is_known_host"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a reader may see. Without sessions it is everything, as the owner of a store may."""

    sessions: frozenset[str] | None = None

    @classmethod
    def of(cls, *sessions: str) -> Grant:
        """Return the grant of these sessions alone. Everything else does not exist for it."""
        return cls(frozenset(sessions))

    @property
    def is_owner(self) -> bool:
        """Whether it covers the whole store."""
        return self.sessions is None

    def covers(self, session: str) -> bool:
        """Whether the reader may see a session."""
        return self.sessions is None or session in self.sessions


Authorize: TypeAlias = Callable[[HTTPConnection], Grant | Awaitable[Grant | None] | None]
"""Returns what a request may see; None if it may see nothing. It may be a coroutine function."""

_CODES: Final = 16
"""One-time codes that are valid at once."""


class Tokens:
    """Authorizes requests that carry a token: as ``Authorization: Bearer``, or in a cookie.

    Parameters
    ----------
    grants
        What each token may see. A token is at least 16 characters long.
    cookie
        The name of the cookie. Browsers send the cookies of a host to all its ports, so servers on
        one host need several names.

    Raises
    ------
    ValueError
        When a token is shorter, or not ASCII.
    """

    def __init__(self, grants: Mapping[str, Grant], *, cookie: str = "cas-token") -> None:
        for token in grants:
            if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
                raise ValueError(
                    "a token is at least 16 printable ASCII characters without spaces; "
                    "leave it out to get a random one"
                )
        self._grants = dict(grants)
        self._codes: dict[str, str] = {}
        self.cookie = cookie

    def __call__(self, request: HTTPConnection) -> Grant | None:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = request.cookies.get(self.cookie, "")
        return self.grant_of(given.strip())

    def grant_of(self, token: str) -> Grant | None:
        """Return what a token may see; None for one that is not known.

        The time does not depend on how much of a token is right.
        """
        found = None
        for known, grant in self._grants.items():
            if hmac.compare_digest(known.encode(), token.encode(errors="replace")):
                found = grant
        return found

    def make_code(self, token: str) -> str:
        """Return a code that `redeem` takes once in place of a token.

        A link with it opens the page once. The same link in a history or a log opens nothing.
        """
        code = secrets.token_urlsafe(32)
        while len(self._codes) >= _CODES:
            del self._codes[next(iter(self._codes))]
        self._codes[code] = token
        return code

    def redeem(self, code: str) -> str | None:
        """Return the token of a one-time code, which is void from now on; None if it is not one."""
        found = None
        for known in list(self._codes):
            if hmac.compare_digest(known.encode(), code.encode(errors="replace")):
                found = self._codes.pop(known, None)
        return found


def is_known_host(header: str, hosts: Iterable[str]) -> bool:
    """Whether a Host header names one of the hosts; with or without a port, in any case.

    A page of another site whose name was made to resolve to this address sends its own name. So
    this check defeats DNS rebinding.
    """
    try:
        name = urlsplit(f"//{header}").hostname
    except ValueError:
        return False
    return name is not None and name in {host.strip("[]").lower() for host in hosts}


def is_foreign(origin: str | None, host: str, hosts: Iterable[str]) -> bool:
    """Whether a request comes from a page of another site, by its Origin header.

    Browsers send none with a link, and none of their own pages' plain requests.
    """
    if origin is None:
        return False
    try:
        place = urlsplit(origin)
        return place.netloc.lower() != host.lower() and place.hostname not in {*hosts}
    except ValueError:
        return True


class UnauthorizedError(Exception):
    """A request that may see nothing."""
