"""What a request asks for: the store, the grant of the reader, and the parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from index.errors import UnknownSessionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from index import ArtifactStore, Run, Session
    from index.web.access import Grant
    from index.web.previews import Previewer

__all__ = ["Asked", "url_of"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for. Functions of the API and of the pages take one."""

    store: ArtifactStore
    grant: Grant
    previewer: Previewer
    path: Mapping[str, Any]
    """The parameters in the path: session, run, file_id, digest, number."""
    values: Mapping[str, Any]
    """The parameters of the query, by name, each with its default if it was not given."""
    headers: Mapping[str, str]
    """Those of the request, by their names in lower case."""
    is_head: bool = False
    """Whether only the headers of the answer are asked for."""
    root: str = ""
    """The path that the application is mounted at."""
    place: str = ""
    """The path of the request, without `root`."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - as its parameter says
        """Return the value of a parameter of the query."""
        return self.values[name]

    def given(self, *names: str) -> dict[str, Any]:
        """Return the values of some parameters of the query, by name."""
        return {name: self.values[name] for name in names}

    @property
    def session(self) -> Session:
        """The session in the path.

        Raises UnknownSessionError if the grant does not cover it, as if it did not exist.
        """
        name = self.path["session"]
        if not self.grant.covers(name):
            raise UnknownSessionError(name)
        return self.store.session(name)

    @property
    def run(self) -> Run:
        """The run in the path, which may not exist."""
        return self.session.run(self.path["run"])

    def asking(self, values: Mapping[str, Any], **path: object) -> Asked:
        """Return the same with these parameters of the query, and others in the path."""
        return replace(self, values=values, path={**self.path, **path})

    def url(self, place: str, **query: object) -> str:
        """Return the URL of a place below the mount; parameters that are None are left out."""
        return self.root + url_of(place, **query)

    def next_page(self, **position: object) -> str:
        """Return the URL of this request with other values of some parameters."""
        return self.url(quote(self.place), **{**self.values, **position})


def url_of(place: str, **query: object) -> str:
    """Return a URL with a query; parameters that are None are left out.

    `place` is quoted already. Lone surrogates of a path become the bytes that they stand for.
    """
    given = {name: _as_text(value) for name, value in query.items() if value is not None}
    encoded = urlencode(given, errors="surrogateescape", quote_via=quote)
    return f"{place}?{encoded}" if encoded else place


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
