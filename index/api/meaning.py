"""The one rule of what a word means in a session: a run, a snapshot, a file version, or bytes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from index.domain.listing import closest
from index.domain.tags import check_tag
from index.errors import (
    AmbiguousNameError,
    InvalidNameError,
    UnknownFileError,
    UnknownNameError,
    UnknownRunError,
    UnknownSnapshotError,
    UnknownTagError,
    UnsafePathError,
)
from index.reading.digests import find_digests, is_prefix_of_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas.digest import Digest
    from index.api.run import Run
    from index.db.database import Database
    from index.domain.names import Label
    from index.domain.runs import RunSummary
    from index.domain.snapshots import FileVersion, Snapshot

__all__ = ["Meaning", "resolve"]

_NOT_THERE = (
    InvalidNameError,
    UnknownFileError,
    UnknownRunError,
    UnknownSnapshotError,
    UnknownTagError,
    UnsafePathError,
)


class Meaning(NamedTuple):
    """What a word means in a session."""

    value: Run | Snapshot | FileVersion | Digest
    run: Run | None
    """The run that it belongs to, or is; None for a digest."""


class _Session(Protocol):
    """What is needed of a `Session`, which imports this module."""

    @property
    def id(self) -> str: ...

    def run(self, run_id: Label) -> Run: ...

    def runs(self, *, limit: int | None = None) -> list[RunSummary]: ...


def resolve(session: _Session, database: Database, word: str, run: Run | None) -> Meaning:
    """Return what a word means; see `Session.resolve`."""
    if not isinstance(word, str):
        raise TypeError(f"a word is text, not {word!r}")
    if run is None:
        newest = session.runs(limit=2)
        run = session.run(newest[0].run) if len(newest) == 1 else None
    else:
        run.summary()  # which raises if there is no such run
    found = dict(_meanings(session, database, word, run))
    if not found:
        raise UnknownNameError(session.id, word, _closest(session, word, run))
    if len(found) > 1:
        raise AmbiguousNameError(word, tuple(found))
    return next(iter(found.values()))


def _meanings(
    session: _Session, database: Database, word: str, run: Run | None
) -> Iterator[tuple[str, Meaning]]:
    """Yield the meanings of a word, each after how it is written so that it means nothing else."""
    name, at, end = word.rpartition("@")
    selector = _selector(end)
    if run is not None and selector is not None and not name:
        with suppress(*_NOT_THERE):
            value = _selected(run, selector)
            kind = "snapshot" if isinstance(selector, int) else "tag"
            whose = run.id if at and kind == "tag" else ""  # @TAG alone may be a run by its tag
            yield f"{whose}@{selector} (a {kind})", Meaning(value, run)
    if not word.startswith("./"):
        if name and selector is not None:
            with suppress(*_NOT_THERE):
                other = session.run(name)
                kind = "snapshot" if isinstance(selector, int) else "tag"
                yield f"{kind} {selector} of {name!r}", Meaning(_selected(other, selector), other)
        with suppress(*_NOT_THERE):
            other = session.run(name if at and not end else word)
            other.summary()
            yield f"{other.id}@ (a run)", Meaning(other, other)
        for digest in find_digests(database, session.id, word) if is_prefix_of_digest(word) else ():
            yield str(digest), Meaning(digest, None)
    if run is not None and not (at and not (name and end)):
        with suppress(*_NOT_THERE):
            version, mark = _file(run, word, name, selector)
            yield f"./{version.path}{mark} (a file)", Meaning(version, run)


_DIGITS = 19
"""Numbers with fewer fit into the databases."""


def _selector(text: str) -> int | str | None:
    """Return the number or the tag that a text may be."""
    if text.isascii() and text.isdigit():
        return int(text) if len(text) < _DIGITS else None
    with suppress(InvalidNameError):
        return check_tag(text)
    return None


def _selected(run: Run, selector: int | str) -> Snapshot | FileVersion:
    """Return the snapshot of a number, or what a tag names."""
    for tag in run.tags() if isinstance(selector, str) else ():
        if tag.name == selector and tag.path is not None:
            return run.file(tag.path, version=tag.version)
    return run.snapshot(selector)


def _file(run: Run, path: str, name: str, selector: int | str | None) -> tuple[FileVersion, str]:
    """Return a file and what selects its version. A path may contain an ``@`` itself."""
    try:
        return run.get(path) or run.history(path)[-1], ""
    except UnknownFileError:
        if not name or selector is None:
            raise
        if isinstance(selector, int):
            return run.file(name, version=selector), f"@{selector}"
        return run.file(name, at=selector), f"@{selector}"


def _closest(session: _Session, word: str, run: Run | None) -> tuple[str, ...]:
    known = [each.run for each in session.runs()]
    if run is not None:
        try:
            run.file(word)
        except UnknownFileError as error:
            known += error.closest
        except UnsafePathError:
            pass
    return closest(word, known)
