"""Recording of files by name: put, remove and annotate.

The cost depends on the files that a call names, and not on the size of the run. If another commit
comes first, the call is decided again on the new state: it is an explicit claim, and the last word.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from index.commit.committer import Committer
from index.commit.plan import CommitRequest
from index.commit.prepare import limit, write_records
from index.commit.write import CommitConflict, retry_on_conflict
from index.db.queries.single import find_in_session
from index.domain.annotations import Annotations
from index.domain.changes import ScanChanges, compare_scan, refused
from index.domain.drops import kept_no_bytes
from index.domain.marks import NO_MARKS
from index.domain.names import ancestors, check_path, storable
from index.domain.progress import Progress
from index.domain.run_state import Observed, ObservedFiles
from index.domain.snapshots import FileVersion
from index.errors import (
    UnknownDigestError,
    UnknownFileError,
    UnknownRunError,
    UnsafePathError,
    VersionConflictError,
)
from index.scan.content import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from cas.digest import Digest
    from cas.writer import BatchWriter
    from index.context import StoreContext
    from index.domain.marks import Marks
    from index.domain.names import RunKey
    from index.domain.provenance import Provenance
    from index.domain.run_state import KnownFile, RunState
    from index.domain.snapshots import Snapshot
    from index.scan.content import NewFile, Source

__all__ = ["ATTEMPTS", "NamedFiles", "as_result", "check_new", "find_removed"]

T = TypeVar("T")

ATTEMPTS: Final = 20
"""Each failure needs another commit, or a garbage collection that finishes, during the call."""


class NamedFiles:
    """Records files of one run by name. Safe for use by several threads."""

    def __init__(self, context: StoreContext, key: RunKey) -> None:
        self._context = context
        self._committer = Committer(context)
        self._key = key

    def put(
        self,
        files: Iterable[NewFile],
        provenance: Provenance,
        progress: Callable[[Progress], None] | None = None,
        marks: Marks = NO_MARKS,
    ) -> tuple[FileVersion, ...]:
        """Commit new files in one snapshot; return their versions in the order given.

        Raises
        ------
        WorkDirectoryError
            When the content is a path that can't be read.
        UnsafePathError, ValueError
            When a path is not valid, named twice, or a directory of another one.
        VersionConflictError
            When another version is current than a file expects.
        """
        wanted = check_new(files)
        if not wanted:
            return ()
        kept = {
            path: self._observe_again(path, file.content)
            for path, file in wanted.items()
            if isinstance(file.content, FileVersion)
        }
        annotations = {
            path: Annotations(file.file_type, file.is_final_output, file.meta)
            for path, file in wanted.items()
        }
        with ExitStack() as stack:
            streams = {
                path: stack.enter_context(opened(file.content))
                for path, file in wanted.items()
                if hasattr(file.content, "read")  # the others can be opened again
            }

            def attempt(records: Sequence[Digest] | None) -> tuple[FileVersion, ...]:
                state = self._load(records, wanted)
                self._check_expected(wanted, state)
                with self._context.blobs.batch() as batch:
                    limit(batch, state.usage)
                    if progress is not None:
                        batch.on_read = Progress.of_one(progress, None)
                    found = [
                        _store(batch, path, file, streams.get(path))
                        for path, file in wanted.items()
                        if path not in kept
                    ]
                    seen = [*kept.values(), *(observed for observed, _ in found)]

                    def find(state: RunState) -> ScanChanges:
                        self._check_expected(wanted, state)
                        return compare_scan(seen, (), (), state)

                    request = self._request(
                        wanted,
                        find,
                        state,
                        provenance,
                        annotations=annotations,
                        marks=marks,
                        bytes_read=sum(each.size for each, _ in found),
                        torn=tuple(sorted(each.path for each, is_whole in found if not is_whole)),
                    )
                    snapshot, after = self._commit(request, state, records, batch)
                return self._versions(after, wanted, provenance, snapshot.torn)

            return retry_on_conflict(attempt, attempts=ATTEMPTS, name=self._key.run)

    def remove(self, paths: Collection[str], provenance: Provenance) -> tuple[FileVersion, ...]:
        """End the current versions of paths in one snapshot; return them in the order given.

        Raises
        ------
        UnknownRunError, UnknownFileError
            When there is no such run, or no file at one of the paths.
        """
        if not paths:
            return ()

        def attempt(records: Sequence[Digest] | None) -> tuple[FileVersion, ...]:
            state = self._load(records, paths)

            def find(state: RunState) -> ScanChanges:
                return find_removed(self._key, paths, state)

            with self._context.blobs.batch() as batch:
                request = self._request(paths, find, state, provenance)
                snapshot, _ = self._commit(request, state, records, batch)
            removed = {version.path: version for version in snapshot.removed}
            return tuple(removed[path] for path in paths)

        return self._naming_similar(attempt)

    def annotate(self, path: str, annotations: Annotations, provenance: Provenance) -> FileVersion:
        """Set annotations of a current version, and claim it; return the version.

        Raises
        ------
        UnknownRunError, UnknownFileError
            When there is no such run or file.
        """

        def attempt(records: Sequence[Digest] | None) -> FileVersion:
            state = self._load(records, [path])

            def find(state: RunState) -> ScanChanges:
                return ScanChanges(ObservedFiles(), (), (), [_get(self._key, path, state)])

            with self._context.blobs.batch() as batch:
                request = self._request(
                    [path], find, state, provenance, annotations={path: annotations}
                )
                _, after = self._commit(request, state, records, batch)
            return self._versions(after, [path], provenance)[0]

        return self._naming_similar(attempt)

    def _load(self, records: Sequence[Digest] | None, paths: Collection[str]) -> RunState:
        key = self._key
        cached = self._context.states.get(key.session, key.run) if records is None else None
        return self._committer.load_state(key, cached, paths)

    def _request(
        self,
        paths: Collection[str],
        find: Callable[[RunState], ScanChanges],
        state: RunState,
        provenance: Provenance,
        *,
        annotations: Mapping[str, Annotations] | None = None,
        marks: Marks = NO_MARKS,
        bytes_read: int = 0,
        torn: tuple[str, ...] = (),
    ) -> CommitRequest:
        return CommitRequest(
            self._key,
            find(state),
            provenance,
            rebased=lambda _found, newer: find(newer),
            paths=paths,
            is_claim=True,
            torn=torn,
            bytes_read=bytes_read,
            annotations=annotations or {},
            marks=marks,
            classifier=self._context.classifier,
        )

    def _commit(
        self,
        request: CommitRequest,
        state: RunState,
        records: Sequence[Digest] | None,
        batch: BatchWriter,
    ) -> tuple[Snapshot, RunState]:
        plan = self._committer.plan_commit(request, state, records or ())
        plan = write_records(batch, plan)
        snapshot, after = self._committer.commit(plan, batch.finish())
        self._context.states.keep(self._key.session, self._key.run, after)
        return snapshot, after

    def _versions(
        self,
        state: RunState,
        paths: Collection[str],
        provenance: Provenance,
        torn: Collection[str] = (),
    ) -> tuple[FileVersion, ...]:
        ids = [known.id for path in paths if (known := state.find(path)) is not None]
        found = self._committer.list_versions(self._key, ids)
        if len(found) < len(paths):
            raise CommitConflict  # the run was deleted meanwhile
        return tuple(as_result(found[path], provenance, torn) for path in paths)

    def _check_expected(self, files: Mapping[str, NewFile], state: RunState) -> None:
        for path, file in files.items():
            known = state.find(path)
            current = 0 if known is None else known.version
            expected = file.expected_version
            if expected is not None and expected != current:
                raise VersionConflictError(self._key.run, path, storable(expected), current)

    def _observe_again(self, path: str, version: FileVersion) -> Observed:
        """Return the content of a version as if it were found at a path. Its bytes are not read.

        Raises UnknownDigestError if the session does not refer to them.
        """
        if version.digest is None:
            raise kept_no_bytes(version.path, version.version, version.dropped)
        session = self._key.session
        kept = find_in_session(self._context.database, session, digest=version.digest)
        if kept is None:
            raise UnknownDigestError(session, version.digest)
        mode, mtime_ns = version.mode, storable(version.mtime_ns)
        return Observed(
            path,
            version.digest,
            kept.size,
            mode,
            mtime_ns,
            signature=None,
            trusted=False,
            seen_by=0,
        )

    def _naming_similar(self, attempt: Callable[[Sequence[Digest] | None], T]) -> T:
        """Return the result of an attempt; errors of what is unknown name the closest."""
        try:
            return retry_on_conflict(attempt, attempts=ATTEMPTS, name=self._key.run)
        except UnknownFileError as error:
            closest = self._committer.list_similar(self._key, error.path)
            raise UnknownFileError(error.run, error.path, closest=closest) from None
        except UnknownRunError:
            raise self._committer.unknown_run(self._key) from None


def check_new(files: Iterable[NewFile]) -> dict[str, NewFile]:
    """Return files by path, in the order given.

    Raises
    ------
    UnsafePathError, ValueError
        When a path is not valid, named twice, or a directory of another one.
    """
    wanted: dict[str, NewFile] = {}
    for file in files:
        path = check_path(file.path)
        if path in wanted:
            raise ValueError(f"{path!r} is named twice; give each path once")
        wanted[path] = file
    for path in wanted:
        for ancestor in ancestors(path):
            if ancestor in wanted:
                raise UnsafePathError(path, f"{ancestor!r} is to be a file as well")
    return wanted


def find_removed(key: RunKey, paths: Collection[str], state: RunState) -> ScanChanges:
    """Return the removal of paths from a state of the run.

    Raises
    ------
    UnknownRunError, UnknownFileError
        When there is no such run, or no file at one of the paths.
    """
    removed = [_get(key, path, state) for path in sorted(set(paths))]
    return ScanChanges(ObservedFiles(), removed, (), ())


def as_result(version: FileVersion, given: Provenance, torn: Collection[str]) -> FileVersion:
    """Return the version as the result of a call, with what the call has to tell of it.

    Parameters
    ----------
    given
        The provenance that the call gave. The result has what the version did not take of it.
    torn
        The paths that changed each time they were read.
    """
    differing = refused(version, given)
    is_torn = version.path in torn
    if differing is None and not is_torn:
        return version
    return replace(version, refused=differing, torn=is_torn)


def _get(key: RunKey, path: str, state: RunState) -> KnownFile:
    if state.run_id is None:
        raise UnknownRunError(key.session, key.run)
    known = state.find(path)
    if known is None:
        raise UnknownFileError(key.run, path)
    return known


def _store(
    batch: BatchWriter, path: str, file: NewFile, stream: Source | None
) -> tuple[Observed, bool]:
    """Store the content of a file; return also whether it was the same all the while."""
    with nullcontext(stream) if stream else opened(file.content) as source:
        return source.read_into(batch, path)
