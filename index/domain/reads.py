"""What was read in a `provenance` scope, until a commit notes it as inputs."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from index.domain.results import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from index.domain.inputs import NewInput
    from index.domain.provenance import Provenance

    Note: TypeAlias = Callable[[Sequence[NewInput], Provenance], bool]
    """Commits inputs to a run, which is its own. Returns whether the run is there: it may have been
    deleted since, or never have been written."""

__all__ = ["Reads", "SessionPlace"]


class SessionPlace(NamedTuple):
    """A session of a store. Inputs never cross it."""

    database: str
    session: str


class _Reader(NamedTuple):
    """Who read: the inputs of one have the same provenance."""

    place: SessionPlace
    run: str
    provenance: Provenance


class Reads:
    """What was read in one scope. Safe for use by several threads.

    A commit in the scope takes what was read before it. What is left at the end is committed to the
    run that the scope committed to last, or else to the run that it was read from. Where both are
    deleted, it is noted nowhere: no run comes back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: defaultdict[_Reader, dict[NewInput, None]] = defaultdict(dict)
        self._notes: dict[tuple[SessionPlace, str], Note] = {}
        self._last: dict[SessionPlace, Note] = {}

    def add(
        self,
        place: SessionPlace,
        run: str,
        provenance: Provenance,
        read: Sequence[NewInput],
        note: Note,
    ) -> None:
        """Remember what was read from a run; `note` commits to that run."""
        with self._lock:
            self._pending[_Reader(place, run, provenance)].update(dict.fromkeys(read))
            self._notes[place, run] = note

    def take(
        self, place: SessionPlace, provenance: Provenance, note: Note
    ) -> list[tuple[_Reader, dict[NewInput, None]]]:
        """Return, and forget, what a commit of that provenance may note as its inputs.

        That is what was read in this session by the same phase, agent, node, step, event and code,
        or by one that did not say. `note` commits to the run of the commit.
        """
        with self._lock:
            self._last[place] = note
            readers = [
                reader
                for reader in self._pending
                if reader.place == place and _may_be(reader.provenance, provenance)
            ]
            return [(reader, self._pending.pop(reader)) for reader in readers]

    def put_back(self, taken: Sequence[tuple[_Reader, dict[NewInput, None]]]) -> None:
        """Remember again what a commit took that failed."""
        with self._lock:
            for reader, read in taken:
                self._pending[reader].update(read)

    def leave(self, error: BaseException | None) -> None:
        """Commit what is left. Where that fails, raise, or add a note to the error that there is.

        What was read is then named in the note.
        """
        if isinstance(error, GeneratorExit):  # which nobody sees
            error = None
        with self._lock:
            pending, self._pending = self._pending, defaultdict(dict)
        for reader, read in pending.items():
            notes = (self._last.get(reader.place), self._notes[reader.place, reader.run])
            try:
                for note in filter(None, notes):
                    if note(list(read), reader.provenance):
                        break
            except Exception as failure:
                what = f"what was read from run {reader.run!r}: {to_json(list(read))}"
                (error or failure).add_note(f"not noted as inputs is {what}")
                if error is None:
                    raise


def _may_be(reader: Provenance, committing: Provenance) -> bool:
    return all(
        getattr(reader, each.name) in (None, getattr(committing, each.name))
        for each in fields(reader)
    )
