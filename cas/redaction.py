"""Redaction of credentials from URLs, errors, logs and command lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

__all__ = ["Secrets", "shown_command", "shown_url", "without_secrets"]

_SECRET_KEY: Final = re.compile(
    r"key|secret|token|pass|pwd|credential|sas|signature|auth|connection_string|user|customer",
    re.IGNORECASE,
)
"""Names of options whose values are hidden. When in doubt, a value is hidden."""

_HIDDEN: Final = "***"


_PASSWORD: Final = re.compile(r"[^/:]*:(?![0-9]*(?:/|$)).*@", re.DOTALL)
"""User and password before a host. The user may be an e-mail address. The password may contain a
slash, as S3 secrets do. Only digits up to the slash are a port."""

_USER: Final = re.compile(rf"{_PASSWORD.pattern}|[^/?#]*@", re.DOTALL)

_OF_THE_WEB: Final = ("http", "https")

_NO_LOGIN: Final = ("github",)
"""Schemes of fsspec that write other names in its place: ``github://owner:repository@ref/path``."""


def shown_url(url: str) -> str:
    """Return a URL for display: without password, query and fragment.

    A user name without a password stays, because for some services it names a place; for those of
    the web it may be a token. A file of this machine has none of these, and so its whole name
    stays. fsspec chains several URLs, as in ``zip://a.csv::https://host/b.zip``.
    """
    return "::".join(map(_shown_link, _LINKS.split(url)))


_LINKS: Final = re.compile(r"::(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)


def _shown_link(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if scheme == "file":
        return url
    login = _USER if scheme.lower().endswith(_OF_THE_WEB) else _PASSWORD
    if scheme.lower() not in _NO_LOGIN and (found := login.match(rest)):
        rest = rest[found.end() :]
    return f"{scheme}{separator}{re.split(r'[?#]', rest, maxsplit=1)[0]}"


_QUERY_SECRET: Final = re.compile(
    rf"(?<=[?&])[^=&]*(?:{_SECRET_KEY.pattern})[^=&]*=[^&]*&?", re.IGNORECASE
)


def without_secrets(options: Mapping[str, object]) -> dict[str, object]:
    """Return options without credentials: those that name one, and passwords in URLs."""
    return {
        name: _stripped(value)
        for name, value in options.items()
        if _SECRET_KEY.search(str(name)) is None
    }


def _stripped(value: object) -> object:
    if isinstance(value, Mapping):
        return without_secrets(value)
    if isinstance(value, bytes):
        return _stripped(value.decode(errors="replace"))
    if isinstance(value, list | tuple):
        return [_stripped(each) for each in value]
    if not isinstance(value, str):
        return value
    if "://" not in value:
        # A string of connection, as storage of Azure has it, is all secret.
        return _HIDDEN if re.search(rf"(?:{_SECRET_KEY.pattern})[^=;]*=", value, re.I) else value
    scheme, separator, rest = value.partition("://")
    if found := _PASSWORD.match(rest):
        rest = f"{found[0].partition(':')[0]}@{rest[found.end() :]}"
    return f"{scheme}{separator}{_QUERY_SECRET.sub('', rest).rstrip('?&')}"


_NAMED: Final = (
    r"(?:[\w.-]*(?:password|passwd|passphrase|secret)|(?:[\w.-]*[_.-])?"
    r"(?:pwd|token|credentials?|apikey|(?:api|access|secret|private|auth|account)[_-]?key))"
)
"""Options, variables and headers whose values are hidden. That is narrower than `_SECRET_KEY`: a
command line is noted in order to be repeated, and ``--max-tokens`` and ``--token-file`` are none.
"""

_VALUE: Final = r"(?:'[^']*'|\"[^\"]*\"|[^\s'\";]+)"

_SECRET_OPTION: Final = re.compile(rf"--?{_NAMED}", re.IGNORECASE)

_SECRETS_IN_WORDS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), rf"\1{_HIDDEN}{after}")
    for pattern, after in (
        # A user alone is a token for many services of the web.
        (r"(https?://)[^\s/]+@", "@"),
        (r"(\w://[^\s/:]*:)(?![0-9]*(?:[/\s]|$))[^\s@]*@", "@"),
        (rf"([?&]{_NAMED}=)[^\s&#]*", ""),
        (rf"(^(?:--?)?{_NAMED}=)(?!['\"])[\s\S]+", ""),  # a whole word, with all spaces
        (rf"((?:^|(?<=[\s'\"])){_SECRET_OPTION.pattern}[=\s]\s*){_VALUE}", ""),
        (rf"((?:^|(?<=[\s'\";])){_NAMED}=){_VALUE}", ""),
        (
            rf"((?:^(?:-H)?|(?<=['\"]))(?:[\w-]*authorization|(?:set-)?cookie|{_NAMED})\s*:\s+)"
            r"[^'\"\n]+",
            "",
        ),
        (r"(^--(?:proxy-)?user=[^:]*:)(?![0-9]+$).+", ""),
    )
)
"""Where the words of a command have secrets, each with what is shown instead."""

_USER_OPTIONS: Final = frozenset(("-u", "--user", "--proxy-user"))

_USER_AND_PASSWORD: Final = re.compile(r"^([^:]*:)(?![0-9]+$).+", re.DOTALL)
"""A user and a password; but numbers are a user and a group."""


def shown_command(words: Iterable[str]) -> list[str]:
    """Return the words of a command for a record, with credentials blanked out.

    These are passwords in URLs, and the values of options, variables and headers that are named as
    secrets. A secret that nothing names as one is not found.
    """
    shown: list[str] = []
    before = ""
    for word in words:
        text = word
        if before in _USER_OPTIONS:
            text = _USER_AND_PASSWORD.sub(rf"\1{_HIDDEN}", text)
        if _SECRET_OPTION.fullmatch(before) and not word.startswith("-"):
            text = _HIDDEN
        for pattern, instead in _SECRETS_IN_WORDS:
            text = pattern.sub(instead, text)
        shown.append(text)
        before = word
    return shown


class Secrets:
    """The credentials passed to one backend. Finds and hides them in text.

    This library never sees the credentials that a service's client finds by itself.
    """

    def __init__(self, options: Mapping[str, object]) -> None:
        found = set(_in_options(options))
        # The longest first: one secret may be part of another.
        self._values: Final = sorted(filter(None, found), key=len, reverse=True)

    @property
    def are_any(self) -> bool:
        """Whether there are credentials."""
        return bool(self._values)

    def hide(self, text: str) -> str:
        """Return `text` with every secret blanked out."""
        for value in self._values:
            text = text.replace(value, _HIDDEN)
        return text

    def are_in(self, error: BaseException) -> bool:
        """Return whether the text of an error, or of one of its causes, contains a secret."""
        seen: BaseException | None = error
        while seen is not None:
            text = f"{seen} {seen!r}"
            if any(value in text for value in self._values):
                return True
            seen = seen.__cause__ or seen.__context__
        return False

    def __repr__(self) -> str:
        return f"<{len(self._values)} secrets>"


def _in_url(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    user, separator, password = parts.netloc.rpartition("@")[0].partition(":")
    if separator:
        yield from (user, unquote(user), password, unquote(password))


def _in_options(options: object, *, secret: bool = False) -> Iterator[str]:
    if isinstance(options, str):
        yield from _in_url(options)
        if secret:
            yield options
    elif isinstance(options, bytes):
        yield from _in_options(options.decode(errors="replace"), secret=secret)
    elif isinstance(options, Mapping):
        for name, value in options.items():
            named = secret or _SECRET_KEY.search(str(name)) is not None
            yield from _in_options(value, secret=named)
    elif isinstance(options, Iterable):
        for value in options:
            yield from _in_options(value, secret=secret)
