"""Restore: write the files of a run to disk, below one directory and nowhere else.

Each file is written under a temporary name, either beside its final path or in a staging directory
(`index.reading.staging`). Its bytes are verified while they are written. It then gets its mode and
time, and moves into place in one step: a reader sees the old content, the new content, or none.
"""

from __future__ import annotations

import itertools
import os
import threading
import uuid
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cas.catalog import Location
from cas.errors import BlobNotFoundError, DigestMismatchError
from index.domain.names import check_path
from index.domain.snapshots import Progress
from index.errors import (
    DamagedFileError,
    DanglingFileError,
    RestoreConflictError,
    UnsafePathError,
)
from index.reading.destination import OPEN_EXISTING, Destination, Walker, failed, failing, split
from index.reading.staging import discard, move_unless_taken
from index.reading.streams import explaining

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from cas.catalog import Placement
    from cas.digest import Buffer, Digest
    from cas.store import BlobStore
    from index.db.queries.restorable import RestorableFile

__all__ = ["RestoreResult", "restore", "select"]

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS: Final = 0o777
"""Mode bits that are restored. Others are not: a run must not plant set-user-id programs."""

_THREADS: Final = 2
"""One thread writes all small files, the others write large ones. Small files need many short
system calls, and two threads lose more time waiting for the interpreter than they gain: 20,000
files of benchmarks/bench_track.py took 1.5 s with two threads and 0.9 s with one."""

_REPORT_S: Final = 0.1
"""Seconds between two reports of progress."""

_STAGED_BYTES: Final = 1 << 30
"""Restores up to this many bytes are staged as a whole. A killed restore loses all staged files,
which matters more for larger restores. For these a temporary name costs little beside the bytes."""


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """The result of a restore."""

    written: int
    """Number of files and links created or replaced."""
    unchanged: int
    """Number of files that already had the right content."""
    bytes_written: int
    without_bytes: tuple[str, ...] = ()
    """Paths of adopted versions without bytes to restore."""


def restore(
    versions: Sequence[RestorableFile],
    places: Mapping[Digest, Placement],
    blobs: BlobStore,
    destination: str,
    *,
    overwrite: bool,
    progress: Callable[[Progress], None] | None = None,
) -> RestoreResult:
    """Write file versions below `destination`, which is made if it is missing.

    On return every file is complete and verified, but not yet synced to disk. On raise each file is
    complete or absent. Files that already have the right content are not written again.

    Raises
    ------
    UnsafePathError
        When a path leads out of the destination, also through an existing link.
    RestoreConflictError
        When different content is in the way and `overwrite` is False. Existing files are checked
        before anything is written.
    RestoreFailedError
        When the destination can't be written.
    DamagedFileError
        When stored bytes are damaged. The file is not written.
    """
    with Destination(destination, threads=_THREADS) as target:
        wanted, same = _compare(versions, target, overwrite=overwrite)
        writer = _Writer(target, blobs, overwrite=overwrite, progress=progress)
        is_staged = target.is_empty and sum(v.size for v in wanted) <= _STAGED_BYTES
        with target.staged(overwrite=overwrite) if is_staged else nullcontext():
            files, size = writer.write_all(wanted, places)
        for version in same:
            writer.settle(version)
    lost = tuple(sorted(version.path for version in versions if version.digest is None))
    return RestoreResult(files, len(same), size, lost)


def select(
    versions: Iterable[RestorableFile], wanted: Sequence[str]
) -> tuple[list[RestorableFile], str | None]:
    """Return the versions at or below the wanted paths, and one path without any."""
    below = tuple(f"{path}/" for path in wanted)
    exact = set(wanted)
    chosen = [v for v in versions if v.path in exact or v.path.startswith(below)]
    for path in wanted:
        if not any(v.path == path or v.path.startswith(f"{path}/") for v in chosen):
            return chosen, path
    return chosen, None


def _compare(
    versions: Iterable[RestorableFile], target: Destination, *, overwrite: bool
) -> tuple[list[RestorableFile], list[RestorableFile]]:
    """Return the versions to write and those that are there. Writes nothing."""
    wanted, same, conflicts = [], [], []
    with target.walker() as walker:
        for version in versions:
            if check_path(version.path) != version.path:
                raise UnsafePathError(version.path, "it is not in its plain spelling")
            if version.digest is None:
                continue
            there = None if target.is_empty else walker.find(version)
            if there is None:
                wanted.append(version)
            elif there:
                same.append(version)
            else:
                conflicts.append(version)
    if conflicts and not overwrite:
        raise RestoreConflictError(min(conflicts).path, len(conflicts))
    return wanted + conflicts, same


class _Writer:
    """Writes versions to a destination, reading several spans of storage at a time."""

    def __init__(
        self,
        target: Destination,
        blobs: BlobStore,
        *,
        overwrite: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._target = target
        self._blobs = blobs
        self._overwrite = overwrite
        self._progress = progress
        self._staged_prefix = f".cas-{uuid.uuid4().hex[:16]}-"
        self._numbers = itertools.count()  # next() of it is atomic
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._files = self._bytes = 0
        self._total = Progress(0, 0)

    def write_all(
        self, versions: Sequence[RestorableFile], places: Mapping[Digest, Placement]
    ) -> tuple[int, int]:
        """Write all versions; return the numbers of files and bytes written."""
        self._total = Progress(0, 0, len(versions), sum(version.size for version in versions))
        wanted: dict[Digest, list[RestorableFile]] = {}
        for version in versions:
            if version.digest is not None:
                wanted.setdefault(version.digest, []).append(version)
        small: list[tuple[Digest, Location]] = []
        large: list[Digest] = []
        for digest, named in wanted.items():
            place = places.get(digest)
            if place is None:
                raise DanglingFileError(named[0].path, digest)
            if isinstance(place, Location):
                small.append((digest, place))
            else:
                large.append(digest)
        with _explaining(versions), ThreadPoolExecutor(_THREADS, "cas-restore") as pool:
            tasks = {pool.submit(self._write_small, small, wanted)}
            tasks |= {
                pool.submit(self._write_large, version, digest)
                for digest in large
                for version in wanted[digest]
            }
            try:
                self._await(tasks)
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return self._files, self._bytes

    def _await(self, tasks: set[Future[None]]) -> None:
        while tasks:
            done, tasks = wait(tasks, _REPORT_S, FIRST_COMPLETED)
            for task in done:
                task.result()
            if self._progress is not None:
                self._progress(replace(self._total, files=self._files, bytes=self._bytes))

    def settle(self, version: RestorableFile) -> None:
        """Set mode and time of a file that already has the right content."""
        if version.is_link:
            return
        directory, name = split(version.path)
        with failing(version.path), self._target.walker() as walker:
            fd = os.open(name, OPEN_EXISTING, dir_fd=walker.enter(directory))
            try:
                if os.fstat(fd).st_nlink == 1:  # else it has another hard link, perhaps elsewhere
                    _give_mode_and_time(fd, version)
            finally:
                os.close(fd)

    def _write_small(
        self,
        blobs: Sequence[tuple[Digest, Location]],
        wanted: Mapping[Digest, Sequence[RestorableFile]],
    ) -> None:
        # Closed at once, also after an error, so that no prefetching thread is left over.
        with (
            self._target.walker() as walker,
            closing(self._blobs.read_located(blobs)) as found,
        ):
            for digest, data in found:
                for version in wanted[digest]:
                    if self._stopped.is_set():
                        return
                    self._write(walker, version, (data,))
                    self._count(version)

    def _write_large(self, version: RestorableFile, digest: Digest) -> None:
        with (
            explaining(version.path, digest),
            self._target.walker() as walker,
            closing(self._blobs.iter_pieces(digest)) as pieces,
        ):
            self._write(walker, version, self._until_stopped(pieces))
        self._count(version)

    def _until_stopped(self, pieces: Iterable[Buffer]) -> Iterator[Buffer]:
        for piece in pieces:
            if self._stopped.is_set():
                raise CancelledError
            yield piece

    def _write(self, walker: Walker, version: RestorableFile, pieces: Iterable[Buffer]) -> None:
        directory, _, name = version.path.rpartition("/")
        try:
            fd = walker.enter(directory, make=True)
            if self._target.is_staged:
                _create(name, fd, version, pieces)
                return
            staged = f"{self._staged_prefix}{next(self._numbers)}"
            _create(staged, fd, version, pieces)
            try:
                if self._overwrite or walker.is_ours(directory):
                    os.rename(staged, name, src_dir_fd=fd, dst_dir_fd=fd)
                elif not move_unless_taken(staged, name, fd, fd):
                    discard(staged, fd)
            except BaseException:
                discard(staged, fd)
                raise
        except FileExistsError:
            raise RestoreConflictError(version.path, 1) from None
        except UnsafePathError:
            raise
        except (OSError, ValueError) as error:
            raise failed(version.path, error) from error

    def _count(self, version: RestorableFile) -> None:
        with self._lock:
            self._files += 1
            self._bytes += version.size


def _create(name: str, fd: int, version: RestorableFile, pieces: Iterable[Buffer]) -> None:
    """Make a complete file or link, or none. Raises FileExistsError if the name is taken."""
    try:
        if version.is_link:
            _write_link(name, fd, version, b"".join(pieces))
        else:
            _write_file(name, fd, version, pieces)
    except FileExistsError:
        raise
    except BaseException:  # Ctrl-C leaves no half-written file either
        discard(name, fd)
        raise


def _write_file(name: str, fd: int, version: RestorableFile, pieces: Iterable[Buffer]) -> None:
    file = os.open(name, _CREATE, 0o600, dir_fd=fd)
    try:
        for piece in pieces:
            done = os.write(file, piece)
            while done < len(piece):  # a signal or a full disk can cut a write short
                done += os.write(file, memoryview(piece)[done:])
        _give_mode_and_time(file, version)
    finally:
        os.close(file)


def _write_link(name: str, fd: int, version: RestorableFile, target: bytes) -> None:
    os.symlink(os.fsdecode(target), name, dir_fd=fd)
    os.utime(name, ns=(version.mtime_ns, version.mtime_ns), dir_fd=fd, follow_symlinks=False)


def _give_mode_and_time(fd: int, version: RestorableFile) -> None:
    os.fchmod(fd, version.mode & _PERMISSIONS)
    os.utime(fd, ns=(version.mtime_ns, version.mtime_ns))


@contextmanager
def _explaining(versions: Iterable[RestorableFile]) -> Iterator[None]:
    """Turn errors about missing or damaged blobs into errors that name the file."""
    try:
        yield
    except (BlobNotFoundError, DigestMismatchError) as error:
        if isinstance(error, DamagedFileError):
            raise
        digest = error.digest if isinstance(error, BlobNotFoundError) else error.expected
        with explaining(next(v.path for v in versions if v.digest == digest), digest):
            raise
