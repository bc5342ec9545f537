"""Errors of names: what they name is unknown, or may be several things."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.errors.storage import ArtifactIndexError

if TYPE_CHECKING:
    from cas.digest import Digest

__all__ = [
    "AmbiguousNameError",
    "UnknownDigestError",
    "UnknownFileError",
    "UnknownFileIdError",
    "UnknownNameError",
    "UnknownRunError",
    "UnknownRunNameError",
    "UnknownSessionError",
    "UnknownSnapshotError",
    "UnknownTagError",
]


def _near(closest: tuple[str, ...]) -> str:
    return f"the closest {'is' if len(closest) == 1 else 'are'} {', '.join(map(repr, closest))}"


class UnknownSessionError(ArtifactIndexError, LookupError):
    """The store has no session with that id."""

    session: str
    closest: tuple[str, ...] = ()
    """Sessions that may be meant. Only the owner of a store is told: the command, and a sync."""

    def __str__(self) -> str:
        sentence = f"there is no session {self.session!r} in this store"
        return f"{sentence}; {_near(self.closest)}" if self.closest else sentence


class UnknownRunError(ArtifactIndexError, LookupError):
    """The session has no run with that id."""

    session: str
    run: str
    closest: tuple[str, ...] = ()
    """Runs of the session that may be meant."""

    def __str__(self) -> str:
        way_out = _near(self.closest) if self.closest else "`session.runs()` lists what there is"
        return f"there is no run {self.run!r} in session {self.session!r}; {way_out}"


class UnknownRunNameError(ArtifactIndexError, LookupError):
    """No session of the store has a run with that id."""

    run: str
    closest: tuple[str, ...] = ()
    """Runs that may be meant."""

    def __str__(self) -> str:
        way_out = _near(self.closest) if self.closest else "`store.runs()` lists what there is"
        return f"none of the sessions has a run {self.run!r}; {way_out}"


class UnknownSnapshotError(ArtifactIndexError, LookupError):
    """The run has no snapshot of that number."""

    run: str
    number: int
    newest: int

    def __str__(self) -> str:
        shown = f"its snapshots are 1 to {self.newest}" if self.newest else "it has none yet"
        return f"run {self.run!r} has no snapshot {self.number}; {shown}"


class UnknownTagError(ArtifactIndexError, LookupError):
    """The run has no such tag, or it names something else than what was asked for."""

    run: str
    tag: str
    hint: str = "`run.tags()` lists its tags"

    def __str__(self) -> str:
        return f"run {self.run!r} has no snapshot with the tag {self.tag!r}; {self.hint}"


class UnknownFileError(ArtifactIndexError, LookupError):
    """The run has no such path, or no such version of it."""

    run: str
    path: str
    version: int | None = None
    closest: tuple[str, ...] = ()
    """Paths of the run that may be meant."""
    newest: int = 0
    """Number of the newest version; 0 if there is none or a path was asked for."""

    def __str__(self) -> str:
        return self.advise("`run.files()` lists what it has")

    def advise(self, way_out: str) -> str:
        """Return the sentence with this way out, unless there is something close."""
        what = "" if self.version is None else f"version {self.version} of "
        if self.newest:
            way_out = f"version {self.newest} is the newest"
        elif self.closest:
            way_out = _near(self.closest)
        return f"run {self.run!r} has no {what}{self.path!r}; {way_out}"


class UnknownFileIdError(ArtifactIndexError, LookupError):
    """No run of the session has a file version of that id."""

    session: str
    file_id: int

    def __str__(self) -> str:
        return (
            f"session {self.session!r} has no file {self.file_id}; "
            "`run.files()` lists what a run has"
        )


class UnknownDigestError(ArtifactIndexError, LookupError):
    """No file of the session has those bytes."""

    session: str | None
    """None for all sessions of the store."""
    digest: Digest | str
    """Perhaps only its first digits."""

    def __str__(self) -> str:
        where = "no session has a" if self.session is None else f"session {self.session!r} has no"
        return f"{where} file with digest {self.digest}"


class UnknownNameError(ArtifactIndexError, LookupError):
    """A word that means nothing in the session: no run, snapshot, path or digest."""

    session: str
    name: str
    closest: tuple[str, ...] = ()
    """Runs and paths that may be meant."""

    def __str__(self) -> str:
        way_out = _near(self.closest) if self.closest else "`session.runs()` lists what there is"
        return f"{self.name!r} is nothing in session {self.session!r}; {way_out}"


class AmbiguousNameError(ArtifactIndexError, ValueError):
    """A word that may mean several things, such as the first digits of several digests."""

    name: str
    candidates: tuple[str, ...]
    """What it may mean, each written so that it means nothing else."""

    def __str__(self) -> str:
        return f"{self.name!r} may mean {' or '.join(self.candidates)}; write the one you mean"
