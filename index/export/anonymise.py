"""Anonymous exports: ids, agents and hosts replaced by pseudonyms."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from blake3 import blake3

from index.export.names import file_iri, iri

if TYPE_CHECKING:
    from index import FileVersion
    from index.export.activities import Activity, RecordedRun, Used

__all__ = ["Pseudonyms", "anonymised"]

_LETTERS: Final = 10
"""Hexadecimal digits of a pseudonym: two of a million names meet once in a million documents."""

_CAS: Final = re.compile(r"cas://([^/]+)/*(@?[^/@]*)(@[^/]*)?(/.*)?", re.IGNORECASE | re.DOTALL)
"""The session, run, selector and path of a URL of a store."""

_BYTES: Final = re.compile(r"cas://sha/[0-9a-f]{64}", re.IGNORECASE)
_NUMBERED: Final = re.compile(r"@v?\d+", re.ASCII)
"""What names a snapshot or version by its number; anything else is a tag."""


class Pseudonyms:
    """Replace ids of sessions, runs, nodes, steps, events, agents and hosts, each by one other.

    One name of one kind has one pseudonym in a document. With a `key`, it has the same in each
    document that is exported with that key. Without it, nobody can link two documents. A pseudonym
    does not show its name, unless somebody has the key and guesses the name.
    """

    def __init__(self, key: bytes | None = None) -> None:
        """Use a key; None for a new one. Raises ValueError for an empty key."""
        if key == b"":
            raise ValueError("the key of pseudonyms is empty; give some random bytes, or none")
        self._key: Final = blake3(secrets.token_bytes() if key is None else key).digest()

    def of(self, kind: str, name: str) -> str:
        """Return the pseudonym of a name; `kind` is what it begins with."""
        text = f"{kind}\0{name}".encode("utf-8", "surrogateescape")
        return f"{kind}-{blake3(text, key=self._key).hexdigest()[:_LETTERS]}"

    def of_uri(self, uri: str) -> str:
        """Return an address with another host, and without user, port, query and fragment.

        One without a host, such as the path of a file on a machine, is replaced as a whole, and so
        is one with another address in it, as in ``zip://a::https://host/b.zip``. A `cas://` URL
        keeps its path, and gets the pseudonyms of its session and run.
        """
        if _BYTES.fullmatch(uri) is not None:
            return uri
        if (found := _CAS.fullmatch(uri)) is not None:
            return self._of_address(*found.groups(default=""))
        try:
            parts = urlsplit(uri)
            is_one = unquote(uri).count("://") == 1
            host = parts.hostname if is_one and parts.scheme != "file" else None
        except ValueError:  # such as "http://[x"
            return f"urn:runcas:{self.of('input', uri)}"
        if not host:
            return f"urn:runcas:{self.of('input', uri)}"
        return urlunsplit((parts.scheme, self.of("host", host), parts.path, "", ""))

    def _of_address(self, session: str, run: str, selector: str, path: str) -> str:
        replaced = f"cas://{self.of('session', _plain(session))}"
        if run:
            replaced += f"/{self.of('run', _plain(run))}"
        if selector and _NUMBERED.fullmatch(selector) is None:
            selector = f"@{self.of('tag', selector[1:])}"
        return replaced + selector + path


def _plain(name: str) -> str:
    return unquote(name, errors="surrogateescape")


def anonymised(recorded: RecordedRun, pseudonyms: Pseudonyms | None) -> RecordedRun:
    """Return a run with pseudonyms, if there are any.

    Commands and the reasons of its status and of drops, which may hold any name, are left out.
    Phases, hashes of code, times, paths, sizes and digests stay.
    """
    return recorded if pseudonyms is None else _Anonymiser(pseudonyms, recorded).run()


class _Anonymiser:
    def __init__(self, pseudonyms: Pseudonyms, recorded: RecordedRun) -> None:
        self._of = pseudonyms.of
        self._of_uri = pseudonyms.of_uri
        self._recorded = recorded
        self._session = pseudonyms.of("session", recorded.session)

    def run(self) -> RecordedRun:
        return replace(
            self._recorded,
            session=self._session,
            run=self._of("run", self._recorded.run),
            status_reason=None,
            versions=tuple(map(self._version, self._recorded.versions)),
            copies=tuple(
                (self._version(copy), self._version(original))
                for copy, original in self._recorded.copies
            ),
            activities=tuple(map(self._activity, self._recorded.activities)),
        )

    def _name(self, kind: str, name: str | None) -> str | None:
        return None if name is None else self._of(kind, name)

    def _version(self, given: FileVersion) -> FileVersion:
        return replace(
            given,
            session=self._session,
            run=self._of("run", given.run),
            agent=self._name("agent", given.agent),
            node_id=self._name("node", given.node_id),
            step_id=self._name("step", given.step_id),
            event_id=self._name("event", given.event_id),
            # Who dropped its bytes, and why, may hold any name.
            dropped=given.dropped and {**given.dropped, "agent": None, "reason": None},
        )

    def _used(self, given: Used) -> Used:
        uri = None if given.uri is None else self._of_uri(given.uri)
        run = self._name("run", given.run)
        address = given.iri if uri is None else iri(uri)
        if run is not None and given.path is not None:
            address = file_iri(self._session, run, given.path, given.version)
        return replace(given, iri=address, run=run, uri=uri)

    def _activity(self, given: Activity) -> Activity:
        used = {id(each): self._used(each) for each in given.used}
        return replace(
            given,
            node_id=self._name("node", given.node_id),
            step_id=self._name("step", given.step_id),
            event_id=self._name("event", given.event_id),
            agents=[self._of("agent", each) for each in given.agents],
            commands=[replace(each, words=()) for each in given.commands],
            used=list(used.values()),
            made=[self._version(each) for each in given.made],
            sources=[[used[id(each)] for each in sources] for sources in given.sources],
        )
