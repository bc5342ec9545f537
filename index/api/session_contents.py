"""What a session holds by digest and id: bytes, their makers, and what was made from them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, get_args

from cas.digest import Digest
from cas.errors import InvalidDigestError
from index.api.inputs import note_read
from index.db.queries.graph import Graph
from index.db.queries.runs import session_exists
from index.db.queries.single import find_in_session
from index.decorators import relaxed_gc
from index.domain.drops import kept_no_bytes
from index.domain.inputs import NewInput, of_version
from index.domain.lineage import Direction
from index.domain.listing import check_limit
from index.domain.names import MAX_ROW_ID, RunKey, check_id, check_path, storable
from index.domain.snapshots import FileVersion
from index.errors import (
    UnknownDigestError,
    UnknownFileError,
    UnknownFileIdError,
    UnknownNameError,
    UnknownSessionError,
)
from index.reading.streams import open_version, read_version

if TYPE_CHECKING:
    import os
    from typing import BinaryIO

    from index.api.run import Run
    from index.context import StoreContext
    from index.domain.content_diff import ContentDiff
    from index.domain.lineage import Lineage, Stale
    from index.domain.names import Label

__all__ = ["SessionContents"]


class SessionContents:
    """The part of `Session` that reads what its runs hold."""

    __slots__ = ()

    id: str
    _context: StoreContext

    @abstractmethod
    def run(self, run_id: Label) -> Run:
        """Return a run of this session."""

    def file(self, file_id: int) -> FileVersion:
        """Return a file version by its id, current or past.

        Raises
        ------
        UnknownFileIdError
            When no run of this session has that version.
        """
        if isinstance(file_id, bool) or not isinstance(file_id, int):
            raise TypeError(f"a file id is a number, not {file_id!r}")
        if not 0 < file_id <= MAX_ROW_ID:
            raise UnknownFileIdError(self.id, storable(file_id))
        found = find_in_session(self._context.database, self.id, file_id=file_id)
        if found is None:
            raise UnknownFileIdError(self.id, file_id)
        return found

    def open(self, file: int | Digest | str) -> BinaryIO:
        """Open the bytes of a file version by its id, or the blob of a digest.

        The session must refer to the digest. A digest may also be text, as `digest` takes it. The
        stream is seekable, uses bounded memory, and verifies every byte before it returns it. The
        caller closes it. The work directory need not exist any more.

        Raises
        ------
        UnknownFileIdError, UnknownDigestError
            When nothing in this session has that id or those bytes.
        InvalidDigestError, AmbiguousNameError
            When the text is no digest, or several digests begin so.
        BytesNotKeptError, DanglingFileError
            When the bytes were never stored, or are missing.
        """
        return open_version(self._context.blobs, self._read_one(file))

    def read_bytes(self, file: int | Digest | str) -> bytes:
        """Return all bytes of a file version or blob. Takes and raises the same as `open`."""
        return read_version(self._context.blobs, self._read_one(file))

    def digest(self, text: Digest | str) -> Digest:
        """Return the digest of a file that a text means: 64 digits, or at least the first seven.

        Raises
        ------
        InvalidDigestError
            When the text is neither.
        UnknownDigestError, AmbiguousNameError
            When no file of this session has such a digest, or several have.
        """
        from index.reading.digests import get_digest

        return get_digest(self._context.database, self.id, text)

    def compare(self, before: FileVersion | None, after: FileVersion | None) -> ContentDiff:
        """Compare the contents of two file versions of this session, also of different runs.

        Text (UTF-8) of up to 1 MiB is compared by lines, and a table (CSV, TSV) of up to 8 MiB by
        columns if more than 20 lines of it differ. Larger files and other content are not compared.
        The time is bounded: the lines of very different texts may be matched poorly.

        ``[session.compare(*pair) for pair in run.diff(1, 2).pairs]``

        Parameters
        ----------
        before, after
            One may be None: the other one is then compared with nothing.

        Raises
        ------
        UnknownDigestError
            When nothing in this session has the bytes of a version.
        DanglingFileError, DamagedFileError
            When bytes are missing or damaged in storage.
        """
        from index.reading.comparing import compare_versions

        for version in (before, after):
            if version is not None and version.digest is not None:
                self._version(version.digest)
        return compare_versions(self._context.blobs, before, after)

    def producers(
        self, of: Digest | str | os.PathLike[str], *, limit: int | None = None
    ) -> tuple[FileVersion, ...]:
        """Return every file version of this session that produced some bytes, the first one first.

        Each version names its run, node, phase, agent, snapshot and time. Copies made by a fork or
        a rewind do not count as long as their originals exist.

        Parameters
        ----------
        of
            A digest, also as text (see `digest`). Or a path relative to a work directory, for
            everything that any run ever produced there. Text that can be both is the path, if
            anything was produced there, unless it has 64 digits.
        limit
            The largest number of versions.

        Raises
        ------
        AmbiguousNameError
            When `of` has the first digits of several digests.
        """
        from index.reading.producers import find_producers

        most = check_limit(limit, "versions")
        return find_producers(self._context.database, self.id, of, limit=most)

    @relaxed_gc()
    def lineage(
        self,
        of: FileVersion | Digest | str | os.PathLike[str],
        *,
        run: Label | None = None,
        direction: Direction = "up",
        depth: int | None = None,
        limit: int = 10_000,
    ) -> Lineage:
        """Return what a file was made from, or what was made from it, over all runs.

        Runs note what they read: `Run.use`, ``inputs=`` of a scan, or a `provenance` scope with
        ``record_reads=True``. Versions and inputs meet by digest: an input is joined to the version
        that was read, and that one to the first version with the same bytes. Empty files are equal
        to nothing. An index finds each step.

        Parameters
        ----------
        of
            A version; a digest, for the first version with it; or a path, for its present version,
            or its last one if it is gone.
        run
            The run of the path; by default the one that recorded the path last.
        direction
            ``"up"`` to the sources, ``"down"`` to everything that was made from its bytes, or
            ``"both"``.
        depth
            Steps from version to version; None for all.
        limit
            The largest number of versions. `Lineage.complete` tells whether there are more.

        Raises
        ------
        UnknownNameError, UnknownFileError, UnknownRunError, UnknownDigestError
            When the session has no such file.
        AmbiguousNameError
            When `of` has the first digits of several digests.
        """
        from index.reading.lineage import walk

        if direction not in get_args(Direction):
            raise ValueError(f"direction is one of {get_args(Direction)}, not {direction!r}")
        steps, most = check_limit(depth, "steps"), check_limit(limit, "versions") or 0
        start = self._one(of, run)
        name = (start.run, start.path, start.version, start.content)
        if start.content is None:
            raise kept_no_bytes(start.path, start.version, start.dropped)
        with self._context.database.reading() as connection:
            graph = Graph(connection, self.id)
            found = graph.find_named({name}).get(name)
            if found is None:
                raise UnknownFileError(*name[:3])
            return walk(graph, [found], direction, depth=steps, limit=most)

    @relaxed_gc()
    def stale(
        self,
        of: str | os.PathLike[str] | None = None,
        *,
        run: Label | None = None,
        limit: int = 10_000,
    ) -> tuple[Stale, ...]:
        """Return the present files that were made from versions which have newer ones, by run.

        That is what to make again: directly or through others, it was made from a version whose
        path holds other bytes now. See `lineage`.

        Parameters
        ----------
        of
            The path whose newer version counts; None for all.
        run
            The run of that path; None for any.
        limit
            The largest number of versions to look at. More raise ValueError: ask for one path.

        Raises
        ------
        UnknownSessionError, UnknownRunError, UnknownFileError, UnknownNameError
            When nothing was ever written to the session, the run or the path.
        """
        from index.reading.lineage import find_stale

        path = None if of is None else check_path(of)
        name = None if run is None else check_id("run", run)
        most = check_limit(limit, "versions") or 0
        self._check_written(name, path)
        with self._context.database.reading() as connection:
            found, is_all = find_stale(Graph(connection, self.id), name, path, most)
        if not is_all:
            raise ValueError(f"more than {most} versions are concerned; name a path, or a run")
        return tuple(found)

    def _check_written(self, run: str | None, path: str | None) -> None:
        """Raise an error for a session, run or path that was never written, such as a typo."""
        if run is not None:
            there = self.run(run)
            there.summary() if path is None else there.history(path)
            return
        with self._context.database.reading() as connection:
            if not session_exists(connection, self.id):
                raise UnknownSessionError(self.id)
        if path is not None and not self.producers(path, limit=1):
            raise UnknownNameError(self.id, path, ())

    def _one(
        self, of: FileVersion | Digest | str | os.PathLike[str], run: Label | None
    ) -> FileVersion:
        """Return the version that a caller means."""
        if isinstance(of, FileVersion):
            return of
        if run is not None and not isinstance(of, Digest):
            there = self.run(run)
            return there.get(of) or there.history(of)[-1]
        found = self.producers(of)
        if not found:
            raise UnknownNameError(self.id, str(of), ())
        if isinstance(of, Digest) or found[0].path != check_path(of):
            return found[0]
        return max(found, key=lambda each: (each.end_snapshot is None, each.created_at, each.id))

    def _read_one(self, file: int | Digest | str) -> FileVersion:
        found = self._version(file)
        if found.digest is not None:
            # By its digest alone, any version may have been meant.
            is_version = not isinstance(file, str | Digest)
            read = of_version(found, found.run, found.digest)
            new = read if is_version else NewInput(found.digest, found.size)
            note_read(self._context, RunKey(self.id, found.run), lambda: [new])
        return found

    def _version(self, file: int | Digest | str) -> FileVersion:
        if not isinstance(file, str | Digest):
            return self.file(file)
        digest = self._whole(file) if isinstance(file, str) else file
        found = find_in_session(self._context.database, self.id, digest=digest)
        if found is None:
            raise UnknownDigestError(self.id, digest)
        return found

    def _whole(self, text: str) -> Digest:
        try:
            return Digest.parse(text)  # which needs no statement
        except InvalidDigestError:
            return self.digest(text)
