"""What runs read: how callers name it, and how reads in a scope become inputs."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from os import PathLike, fsdecode, fspath
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from cas.digest import DIGEST_SIZE, Digest, Hasher
from cas.errors import DigestMismatchError
from cas.temporary import using_temporary_files
from index.db.queries.single import find_file, find_in_session
from index.domain.drops import kept_no_bytes
from index.domain.inputs import InputSource, NewInput, PathInput, Reference, of_version
from index.domain.marks import Marks
from index.domain.names import RunKey, as_paths, check_path
from index.domain.reads import SessionPlace
from index.domain.scopes import current_provenance, current_reads
from index.domain.snapshots import FileVersion
from index.errors import UnknownDigestError, UnknownFileError, UnknownRunError, UnsafePathError
from index.reading.digests import is_prefix_of_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from index.context import StoreContext
    from index.domain.provenance import Provenance
    from index.domain.reads import Note
    from index.domain.snapshots import Snapshot

__all__ = [
    "commit_inputs",
    "fetch_reference",
    "known_source",
    "note_read",
    "outside",
    "planned_inputs",
    "reads_for",
    "scan_with",
]

_AT_ONCE: Final = 2_000
"""Inputs in one commit: even with the longest paths its journal record has a size that storage
takes."""


def known_source(
    context: StoreContext,
    key: RunKey,
    source: InputSource,
    find: Callable[[str], FileVersion],
) -> NewInput:
    """Return an input of a run as a caller gives it.

    Parameters
    ----------
    find
        Returns the present version of a path of the run.

    Raises
    ------
    UnknownDigestError
        When the session has no version with those bytes.
    BytesNotKeptError
        When the version has none.
    """
    reference = outside(source)
    if reference is not None:
        return _read_outside(reference)
    if isinstance(source, FileVersion):
        version = find_file(
            context.database, RunKey(key.session, source.run), source.path, source.version
        )
        if version is None or source.session != key.session or version.digest != source.digest:
            raise UnknownDigestError(key.session, source.digest or source.path)
        return of_version(version, key.run, _digest_of(version))
    digest = source if isinstance(source, Digest) else _as_digest(source)
    if digest is not None:
        held = find_in_session(context.database, key.session, digest=digest)
        if held is None:
            raise UnknownDigestError(key.session, digest)
        return NewInput(digest, held.size)
    version = find(check_path(fspath(source)))  # type: ignore[arg-type]  # no reference
    return of_version(version, key.run, _digest_of(version))


def planned_inputs(
    context: StoreContext, key: RunKey, sources: Sequence[InputSource]
) -> list[NewInput | PathInput]:
    """Return inputs of a scan as a caller gives them. The commit finds the versions of paths."""

    def find(path: str) -> FileVersion:
        raise AssertionError(path)

    planned: list[NewInput | PathInput] = []
    given: Sequence[InputSource] = as_paths("inputs", sources)
    for each in given:
        is_text = isinstance(each, str | PathLike)
        if is_text and outside(each) is None and _as_digest(each) is None:
            planned.append(PathInput(check_path(each)))  # type: ignore[arg-type]
        else:
            planned.append(known_source(context, key, each, find))
    return planned


def scan_with(
    scan: Callable[..., Snapshot],
    inputs: Sequence[InputSource],
    report: Callable[[UnknownFileError], None],
) -> Snapshot:
    """Return the result of a scan, without those inputs that it does not find; report each."""
    while True:
        try:
            return scan(inputs=inputs)
        except UnknownFileError as error:  # such as a hidden file, which it passes over
            found = [each for each in inputs if not _is_path(each, error.path)]
            if len(found) == len(inputs):
                raise
            report(error)
            inputs = found


def _is_path(source: InputSource, path: str) -> bool:
    with suppress(UnsafePathError):  # of a URI
        return isinstance(source, str | PathLike) and check_path(source) == path
    return False


def outside(source: InputSource) -> Reference | None:
    """Return what is not in the store as a reference: a URI, or an absolute path."""
    if isinstance(source, Reference):
        return source
    if isinstance(source, FileVersion | Digest):
        return None
    text = fsdecode(fspath(source))
    if Path(text).is_absolute():  # also with "://" in it
        return Reference(Path(text).as_uri())
    return Reference(text) if "://" in text else None


def _as_digest(source: object) -> Digest | None:
    text = str(source)
    is_digest = len(text) == 2 * DIGEST_SIZE and is_prefix_of_digest(text)
    return Digest.parse(text) if is_digest else None


def _digest_of(version: FileVersion) -> Digest:
    if version.digest is None:
        raise kept_no_bytes(version.path, version.version, version.dropped)
    return version.digest


def _read_outside(reference: Reference) -> NewInput:
    if isinstance(reference.digest, Digest):
        return NewInput(reference.digest, reference.size, uri=reference.shown)
    return fetch_reference(reference, None)


def fetch_reference(reference: Reference, target: IO[bytes] | None) -> NewInput:
    """Read what a reference names, once, and write it to a temporary file if there is one.

    Raises
    ------
    ReferenceUnreachableError
        When it can't be read.
    DigestMismatchError
        When it has another digest than the reference says.
    """
    from index.reading.references import iter_reference

    hasher = Hasher()
    for piece in iter_reference(reference.uri):
        hasher.update(piece)
        if target is not None:
            with using_temporary_files():
                target.write(piece)
    digest = hasher.digest()
    if isinstance(reference.digest, Digest) and reference.digest != digest:
        raise DigestMismatchError(reference.digest, digest, reference.shown)
    return NewInput(digest, hasher.size, uri=reference.shown)


def commit_inputs(
    context: StoreContext,
    key: RunKey,
    new: Sequence[NewInput],
    provenance: Provenance,
    *,
    creates_run: bool = True,
) -> None:
    """Commit inputs of a run by themselves; those that it has already are no commit.

    Raises UnknownRunError if there is no such run and it is not to be created.
    """
    from index.commit.marking import MarkedRun  # and much that no reader needs

    for at in range(0, len(new), _AT_ONCE):
        marks = Marks(inputs=new[at : at + _AT_ONCE])
        MarkedRun(context, key).mark(marks, provenance, creates_run=creates_run)


def note_read(context: StoreContext, key: RunKey, read: Callable[[], Iterable[NewInput]]) -> None:
    """Remember what is read from a run, if a `provenance` scope asks for it.

    Parameters
    ----------
    read
        Returns what is read; versions with the run that they are of.
    """
    reads = current_reads()
    if reads is not None:
        place = SessionPlace(context.database.url, key.session)
        new = [_from(each, key.run) for each in read()]
        reads.add(place, key.run, current_provenance(), new, _note(context, key))


def _from(read: NewInput, run: str) -> NewInput:
    return read if read.path is None else read._replace(source_run=read.source_run or run)


@contextmanager
def reads_for(
    context: StoreContext, key: RunKey, provenance: Provenance
) -> Iterator[tuple[NewInput, ...]]:
    """Yield the reads of the enclosing scope that a commit in the block notes as inputs.

    If there are too many for one record, the first ones are committed before the block.
    """
    reads = current_reads()
    if reads is None:
        yield ()
        return
    place = SessionPlace(context.database.url, key.session)
    taken = reads.take(place, provenance, _note(context, key))
    try:
        new = [_in_run(each, key.run) for _, read in taken for each in read]
        commit_inputs(context, key, new[_AT_ONCE:], provenance)
        yield tuple(new[:_AT_ONCE])
    except BaseException:
        reads.put_back(taken)
        raise


def _in_run(read: NewInput, run: str) -> NewInput:
    return read._replace(source_run=None) if read.source_run == run else read


def _note(context: StoreContext, key: RunKey) -> Note:
    def note(new: Sequence[NewInput], provenance: Provenance) -> bool:
        of_run = [_in_run(each, key.run) for each in new]
        try:
            commit_inputs(context, key, of_run, provenance, creates_run=False)
        except UnknownRunError:
            return False
        return True

    return note
