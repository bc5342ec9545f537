"""A session: the tenant scope of its runs and of all reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cas.digest import Digest
from cas.errors import InvalidDigestError
from index.api.finding import Finding
from index.api.run import Run
from index.context import Handle
from index.db.queries import runs, tags
from index.db.queries.single import find_in_session
from index.db.queries.summaries import list_runs
from index.domain.listing import check_limit
from index.domain.names import MAX_ROW_ID, RunKey, check_id, storable
from index.domain.reports import check_labels
from index.domain.runs import HTML_RUNS
from index.errors import UnknownDigestError, UnknownFileIdError, UnknownSessionError
from index.reading.streams import open_version, read_version

if TYPE_CHECKING:
    import os
    from typing import BinaryIO

    import pandas as pd

    from index.api.meaning import Meaning
    from index.context import StoreContext
    from index.domain.content_diff import ContentDiff
    from index.domain.names import Label
    from index.domain.reports import DeletionReceipt, GroupStats, StatsLabel
    from index.domain.snapshots import FileVersion
    from index.domain.tags import Tag

__all__ = ["Session"]


@dataclass(frozen=True, slots=True)
class Session(Finding, Handle):
    """A handle for one session. It is cheap to create, and valid as long as its store is open.

    It copies and pickles as its store does: see `ArtifactStore`.

    It gives no access to other sessions: their runs, files and bytes behave as if they did not
    exist.
    """

    id: str
    _context: StoreContext = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<Session {self.id!r} in {self._context.database.url}>"

    @property
    def _searched(self) -> str:
        return self.id

    def _repr_html_(self) -> str:
        from index.domain.html import counted, paragraph, table  # only notebooks need it

        with self._context.database.reading() as connection:
            found = list_runs(connection, self.id)
        about = paragraph(f"session {self.id}", counted(len(found), "run"))
        return about + table(HTML_RUNS, [each.html_row for each in reversed(found)])

    def to_frame(self) -> pd.DataFrame:
        """Return the session's runs, in the order of `runs`, as a pandas data frame."""
        from index.domain.frames import frame_of

        return frame_of(each.to_dict() for each in self.runs())

    def run(self, run_id: Label) -> Run:
        """Return a run of this session. The first write to it creates it.

        Raises
        ------
        InvalidNameError
            When `run_id` is no valid id.
        """
        return Run(RunKey(self.id, check_id("run", run_id)), self._context)

    def tags(self) -> tuple[Tag, ...]:
        """Return the tags of all runs of the session, by run and name."""
        with self._context.database.reading() as connection:
            return tuple(tags.list_tags(connection, self.id))

    def stats_by(self, *labels: StatsLabel) -> tuple[GroupStats, ...]:
        """Return counts and sizes of the session's files for each combination of labels.

        ``session.stats_by("run", "file_type")``; see `Run.stats_by`. Raises UnknownSessionError if
        nothing was ever written to the session.
        """
        from index.db.queries import stats

        checked = check_labels(labels)
        with self._context.database.reading() as connection:
            found = stats.group_stats(connection, checked, session=self.id)
            if not found and not runs.session_exists(connection, self.id):
                raise UnknownSessionError(self.id)
        return found

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
        return open_version(self._context.blobs, self._version(file))

    def read_bytes(self, file: int | Digest | str) -> bytes:
        """Return all bytes of a file version or blob. Takes and raises the same as `open`."""
        return read_version(self._context.blobs, self._version(file))

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

    def resolve(self, word: str, *, run: Label | None = None) -> Meaning:
        """Return what a word means in this session: one rule for all that takes such words.

        It may be

        * ``RUN`` or ``RUN@``: a run,
        * ``N``, ``@N`` or ``RUN@N``: a snapshot by its number,
        * ``TAG``, ``@TAG`` or ``RUN@TAG``: what a tag names,
        * ``PATH`` or ``./PATH``: a file as it is now, or as it was last if it is gone,
        * ``PATH@N`` or ``PATH@TAG``: a version of a file,
        * a digest, or at least its first seven digits.

        Parameters
        ----------
        run
            The run that has the snapshot or path, if the word does not say; by default the only
            one of the session.

        Raises
        ------
        UnknownNameError
            When it means nothing. The error names the closest runs and paths.
        AmbiguousNameError
            When it means several things. The error has for each a word that means nothing else.
        UnknownSessionError, UnknownRunError
            When there is no such session or run.
        """
        from index.api.meaning import resolve

        given = None if run is None else self.run(run)
        return resolve(self, self._context.database, word, given)

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

    def delete(self) -> DeletionReceipt:
        """Delete the rows of the session, including forks. Garbage collection removes the bytes.

        See `ArtifactStore.plan_gc`. Raises UnknownSessionError if nothing was ever written to the
        session.
        """
        from index.commit.delete import delete_session

        return delete_session(self._context, self.id)

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
