"""A session: the tenant scope of its runs and of all reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cas.digest import Digest
from index.api.run import Run
from index.context import Handle
from index.db.queries import runs
from index.db.queries.single import find_in_session
from index.domain.names import MAX_ROW_ID, RunKey, check_id, storable
from index.domain.reports import check_labels
from index.domain.snapshots import HTML_RUNS
from index.errors import UnknownDigestError, UnknownFileIdError, UnknownSessionError
from index.reading.streams import open_version, read_version

if TYPE_CHECKING:
    import os
    from typing import BinaryIO

    import pandas as pd

    from index.context import StoreContext
    from index.domain.names import Label
    from index.domain.reports import DeletionReceipt, GroupStats, StatsLabel
    from index.domain.snapshots import FileVersion, RunSummary

__all__ = ["Session"]


@dataclass(frozen=True, slots=True)
class Session(Handle):
    """A handle for one session. It is cheap to create, and valid as long as its store is open.

    It copies and pickles as its store does: see `ArtifactStore`.

    It gives no access to other sessions: their runs, files and bytes behave as if they did not
    exist.
    """

    id: str
    _context: StoreContext = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<Session {self.id!r} in {self._context.database.url}>"

    def _repr_html_(self) -> str:
        from index.domain.html import counted, paragraph, table  # only notebooks need it

        with self._context.database.reading() as connection:
            found = runs.list_runs(connection, self.id)
        about = paragraph(f"session {self.id}", counted(len(found), "run"))
        return about + table(HTML_RUNS, [each.html_row for each in reversed(found)])

    def to_frame(self) -> pd.DataFrame:
        """Return the session's runs, oldest first, as a pandas data frame."""
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

    def runs(self) -> list[RunSummary]:
        """Return the session's runs, oldest first.

        Raises
        ------
        UnknownSessionError
            When nothing was ever written to the session.
        """
        with self._context.database.reading() as connection:
            found = runs.list_runs(connection, self.id)
            if not found and not runs.session_exists(connection, self.id):
                raise UnknownSessionError(self.id)
        return found

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

        The session must refer to the digest. A digest may also be 64 hexadecimal characters. The
        stream is seekable, uses bounded memory, and verifies every byte before it returns it. The
        caller closes it. The work directory need not exist any more.

        Raises
        ------
        UnknownFileIdError, UnknownDigestError
            When nothing in this session has that id or those bytes.
        InvalidDigestError
            When the text is no digest.
        BytesNotKeptError, DanglingFileError
            When the bytes were never stored, or are missing.
        """
        return open_version(self._context.blobs, self._version(file))

    def read_bytes(self, file: int | Digest | str) -> bytes:
        """Return all bytes of a file version or blob. Takes and raises the same as `open`."""
        return read_version(self._context.blobs, self._version(file))

    def producers(self, of: Digest | str | os.PathLike[str]) -> tuple[FileVersion, ...]:
        """Return every file version of this session that produced some bytes, the first one first.

        Each version names its run, node, phase, agent, snapshot and time. Copies made by a fork or
        a rewind do not count as long as their originals exist.

        Parameters
        ----------
        of
            A digest, also as 64 hexadecimal characters. Or a path relative to a work directory, for
            everything that any run ever produced there.
        """
        from index.reading.producers import find_producers

        return find_producers(self._context.database, self.id, of)

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
        digest = Digest.parse(file) if isinstance(file, str) else file
        found = find_in_session(self._context.database, self.id, digest=digest)
        if found is None:
            raise UnknownDigestError(self.id, digest)
        return found
