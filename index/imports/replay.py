"""Replay: record the revisions of another history as snapshots, and compare what was recorded.

Each revision becomes one snapshot, in one transaction. Its notes name the revision, so a later
import finds where the last one ended. Only the files that a revision changes are ever on disk, in a
temporary directory that is empty again before the next one.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas.temporary import using_temporary_files
from index import Skipped
from index.errors import ImportSourceError, UnknownFileError
from index.imports.scratch import temporary_folder
from index.imports.sources import UnreadableFileError, shown, why_unsafe
from index.imports.tally import Tally, is_imported, note_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cas.digest import Digest
    from index import FileVersion, ImportReport, Snapshot
    from index.imports.sources import Revision, SourceFile

__all__ = ["replay"]

_PIECE: Final = 1 << 20
_NO_PLACE: Final = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EEXIST, errno.ENOTDIR}
"""What this machine says of a name that it can't have, or not beside the other names."""


def _find_start(tally: Tally, ids: Sequence[str]) -> int:
    """Return how many of these revisions the run has already.

    Raises
    ------
    ImportSourceError
        When the run holds something else.
    """
    imported = tally.begin()
    if not imported:
        return 0
    tally.lacking.update(path for _, note in imported for path, _ in note.get("skipped", ()))
    newest = imported[-1][1]["revision"]
    try:
        return ids.index(newest) + 1
    except ValueError:
        raise ImportSourceError(
            tally.source,
            f"run {tally.run.id!r} goes on from {newest}, which this history does not have; "
            "import into another run",
        ) from None


def replay(
    tally: Tally,
    ids: Sequence[str],
    revisions: Callable[[int], Iterable[Revision]],
    listed: Callable[[], Mapping[str, SourceFile]],
    *,
    work_dir: Path | None = None,
) -> ImportReport:
    """Record the revisions that the run does not have yet; return the report.

    Parameters
    ----------
    ids
        All revisions, oldest first.
    revisions
        Returns them from a number on.
    listed
        Returns the files of the last revision, as the source itself lists them.
    work_dir
        The directory that holds these files. The run remembers it.

    Raises
    ------
    ImportSourceError
        When the run holds something else, or when others write to it during the import.
    ImportMismatchError
        When what was recorded is not what the source lists.
    """
    begin = _find_start(tally, ids)
    tally.expected = len(ids) - begin
    checks = _Checks(tally)
    with temporary_folder() as scratch:
        for revision in revisions(begin):
            inputs = list(checks.find_inputs(revision))
            checks.compare(*_record(tally, revision, scratch, inputs))
    if tally.snapshots:
        checks.compare_all(listed())
    if work_dir is not None and not Path(tally.run.summary().work_dir or "").is_dir():
        tally.run.track(work_dir, scope=[])  # looks at nothing; the run remembers the directory
    return tally.report()


def _record(
    tally: Tally, revision: Revision, scratch: Path, inputs: Sequence[FileVersion]
) -> tuple[Snapshot, dict[str, SourceFile | None]]:
    """Record a revision; return its snapshot, and what it should have changed."""
    failed = dict(_check_out(revision, scratch))
    remarks = [(path, file.remark) for path, file in revision.files.items() if file]
    found = [*failed.items(), *((path, remark) for path, remark in remarks if remark)]
    skipped = [*revision.skipped, *(Skipped(*each) for each in found)]
    tally.skipped += skipped
    tally.lacking.update(map(shown, failed))
    wanted = {
        path: None if path in failed else file
        for path, file in revision.files.items()
        if why_unsafe(path) is None
    }
    above = {above for path, file in wanted.items() if file for above in _ancestors(path)}
    snapshot = tally.run.track(
        scratch,
        # A file in the place of which there is a directory now goes by itself.
        scope=[path for path, file in wanted.items() if file or path not in above],
        hidden=True,
        default_ignores=False,
        agent=revision.agent,
        event_id=revision.event_id,
        node_id=revision.node_id,
        inputs=inputs,
        notes={
            "imported": note_of(tally.source_format, revision.id, skipped),
            **revision.notes,
        },
    )
    for each in list(scratch.iterdir()):
        _delete(each)
    tally.count(snapshot)
    return snapshot, wanted


def _ancestors(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for each in list(path.iterdir()):
            _delete(each)
        path.rmdir()
    else:
        path.unlink()


def _check_out(revision: Revision, scratch: Path) -> Iterator[tuple[str, str]]:
    """Write what a revision has into an empty directory; yield what could not be, and why.

    Links come last: nothing is ever written through one.
    """
    there = [(path, file) for path, file in revision.files.items() if file is not None]
    for path, file in sorted(there, key=lambda each: stat.S_ISLNK(each[1].mode)):
        reason = why_unsafe(path)
        if reason is None:
            try:
                _write(scratch / path, file, revision.time_ns)
            except UnreadableFileError as error:
                reason = str(error)
            except OSError as error:
                if error.errno not in _NO_PLACE:
                    with using_temporary_files():
                        raise
                reason = f"this machine can't have it: {error.strerror}"
        if reason is not None:
            yield path, reason


def _write(target: Path, file: SourceFile, time_ns: int) -> None:
    if stat.S_ISLNK(file.mode):
        to = b"".join(file.pieces())
        if not to or b"\0" in to:
            raise UnreadableFileError("it is a link to a name that nothing can have")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.fsdecode(to))
        os.utime(target, ns=(time_ns, time_ns), follow_symlinks=False)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("xb") as opened:
            for piece in file.pieces():
                opened.write(piece)
    except UnreadableFileError:
        target.unlink()
        raise
    target.chmod(stat.S_IMODE(file.mode))
    os.utime(target, ns=(time_ns, time_ns))


class _Checks:
    """Compares what was recorded with what the source lists, by paths, counts and digests."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._digests: dict[str, Digest | None] = {}
        """By the digest of the source: of content that was read back and compared."""
        self._last: Snapshot | None = None

    def compare(self, snapshot: Snapshot, wanted: Mapping[str, SourceFile | None]) -> None:
        """Compare a snapshot with what the revision changed."""
        self._last = snapshot
        recorded = {each.path: each for each in (*snapshot.added, *snapshot.changed)}
        removed = {each.path for each in snapshot.removed}
        for path, file in wanted.items():
            version = recorded.pop(path, None)
            if version is None and path not in removed:
                version = self._at(path, snapshot)
            self._judge(path, version, file, snapshot)
        for path in recorded:
            self._tally.differ(path, snapshot, "the source does not have it")

    def find_inputs(self, revision: Revision) -> Iterator[FileVersion]:
        """Yield the present versions that a revision was made from, where they have its bytes."""
        for root, files in revision.inputs:
            for version in self._tally.run.files(prefix=root):
                if files is None:
                    if version.path.startswith(f"{root}/"):
                        yield version
                elif version.path in files and self._holds(version, files[version.path]):
                    yield version

    def _holds(self, version: FileVersion, file: SourceFile) -> bool:
        """Whether a version has the bytes of a file. Those that are not known are read back."""
        if file.key not in self._digests:
            with self._tally.run.open(version.path, version=version.version) as stream:
                if not file.agrees(iter(lambda: stream.read(_PIECE), b""), version.size):
                    return False
            self._digests[file.key] = version.digest
        return self._digests[file.key] == version.digest

    def compare_all(self, listed: Mapping[str, SourceFile]) -> None:
        """Compare the state after the last revision with the files that the source lists."""
        assert self._last is not None  # noqa: S101 - something was recorded
        run, last = self._tally.run, self._last
        own = {each.number for each in run.snapshots() if is_imported(each)}
        held = {each.path: each for each in run.files(at=last) if each.first_snapshot in own}
        for path, file in listed.items():
            if why_unsafe(path):
                continue
            version = held.pop(path, None) or self._at(path, last)
            if version is None:
                if shown(path) not in self._tally.lacking:
                    self._tally.differ(path, last, "it is missing")
            elif self._digests.get(file.key, version.digest) != version.digest:
                self._tally.differ(path, last, "it has other bytes")
        for path in held:
            self._tally.differ(path, last, "the source does not have it")

    def _judge(
        self,
        path: str,
        version: FileVersion | None,
        file: SourceFile | None,
        snapshot: Snapshot,
    ) -> None:
        if file is None:
            if version is not None:
                self._tally.differ(path, snapshot, "it is still there")
        elif version is None or version.digest is None:
            self._tally.differ(path, snapshot, "it is missing")
        elif stat.S_IFMT(version.mode) != stat.S_IFMT(file.mode):
            self._tally.differ(path, snapshot, "it is a link in one and a file in the other")
        elif not self._holds(version, file):
            self._tally.differ(path, snapshot, "it has other bytes")

    def _at(self, path: str, snapshot: Snapshot) -> FileVersion | None:
        try:
            return self._tally.run.file(path, at=snapshot)
        except UnknownFileError:
            return None
