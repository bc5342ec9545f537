"""Restore: write the files of a run to disk, below one directory and nowhere else.

Each file is written under a temporary name, either beside its final path or in a staging directory
(`index.reading.staging`). Its bytes are verified while they are written. It then gets its mode and
time, and moves into place in one step: a reader sees the old content, the new content, or none.
What the destination does not take besides bytes becomes a warning.
"""

from __future__ import annotations

import itertools
import os
import threading
import uuid
from collections import deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from cas.errors import CasError
from cas.threads import Threads
from index.domain.names import ancestors, check_path, from_native, to_native
from index.domain.progress import Progress
from index.domain.reports import RestoreChange, RestoreResult, RestoreWarning
from index.errors import (
    NameClashError,
    RestoreConflictError,
    UnsafePathError,
)
from index.reading.destination import Destination
from index.reading.name_clashes import folded, possible_clashes
from index.reading.new_files import NoLinksError, create, discard, give_mode_and_time
from index.reading.obstacles import check_obstacles, remove_obstacle
from index.reading.staging import move_unless_taken
from index.reading.streams import by_place, explaining, explaining_any
from index.reading.surplus import Surplus, delete_surplus, find_surplus, find_unrecorded
from index.reading.walker import OPEN_EXISTING, Walker, failed, failing, split

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from cas.catalog import Location, Placement
    from cas.digest import Buffer, Digest
    from cas.store import BlobStore
    from index.db.queries.restorable import RestorableFile
    from index.reading.surplus import SurplusFile

__all__ = ["restore"]

_THREADS: Final = 2
"""One thread writes all small files, the others write large ones. Small files need many short
system calls, and two threads lose more time waiting for the interpreter than they gain: 20,000
files of benchmarks/bench_track.py took 1.5 s with two threads and 0.9 s with one."""

_REPORT_S: Final = 0.1
"""Seconds between two reports of progress."""

_STAGED_BYTES: Final = 1 << 30
"""Restores up to this many bytes are staged as a whole. A killed restore loses all staged files,
which matters more for larger restores. For these a temporary name costs little beside the bytes."""


def restore(
    versions: Sequence[RestorableFile],
    places: Mapping[Digest, Placement],
    blobs: BlobStore,
    destination: str,
    *,
    overwrite: bool,
    own: Collection[str] = (),
    known_below: Callable[[str], Collection[tuple[str, Digest | None]]] = lambda _directory: (),
    held: Callable[[], Mapping[str, Collection[Digest] | None]] | None = None,
    recorded: Callable[[], Mapping[str, Collection[Digest]]] = dict,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> RestoreResult:
    """Write file versions below `destination`, which is made if it is missing.

    On return every file is complete and verified, but not yet synced to disk. On raise each file is
    complete or absent, and nothing was deleted but by Ctrl-C or an error of a deletion. Files that
    already have the right content are not written again.

    Parameters
    ----------
    own
        Paths in the destination that belong to the store, `folded`. Nothing is written or deleted
        there.
    known_below
        Returns path and digest of each version that the run ever had below a directory. With
        `overwrite`, a directory with other files than these is not replaced by a file.
    held
        Returns the contents, by path, that are deleted where the versions have no such path; see
        `find_surplus`. Called when the destination is open. None to delete nothing.
    recorded
        Returns the contents, by path, that the run has ever recorded. Only a dry run asks.
    dry_run
        Whether to find out only what would be written and deleted.

    Raises
    ------
    UnsafePathError
        When a path leads out of the destination, also through an existing link, or into the store.
    RestoreConflictError
        When different content is in the way and `overwrite` is False. Existing files are checked
        before anything is written.
    NameClashError
        When the destination takes two paths for one. Nothing was written.
    RestoreFailedError
        When the destination can't be written.
    DamagedFileError
        When stored bytes are damaged. The file is not written.
    """
    for version in versions:
        if check_path(version.path) != version.path:
            raise UnsafePathError(version.path, "it is not in its plain spelling")
        if own and _is_in(version.path, own):
            raise UnsafePathError(version.path, "the store itself is there; restore elsewhere")
    clashes = list(possible_clashes([v.path for v in versions if v.digest is not None]))
    versions = [v if v.path.isascii() else v._replace(path=to_native(v.path)) for v in versions]
    with Destination(destination, threads=_THREADS, dry_run=dry_run) as target:
        if not dry_run and (clash := target.find_clash(clashes)) is not None:
            raise NameClashError(*(path.rstrip("/") for path in clash))
        wanted, same, obstacles = _compare(versions, target)
        if obstacles and not overwrite:
            raise RestoreConflictError(min(obstacles), len(obstacles))
        paths = {version.path for version in versions}
        can_read = _can_read(blobs)
        going = check_obstacles(obstacles, target, paths, known_below, can_read)
        surplus = Surplus()
        if held is not None and not target.is_empty:
            candidates = {
                to_native(path): contents
                for path, contents in held().items()
                if not _is_in(path, own) and to_native(path) not in going
            }
            with target.walker() as walker:
                surplus = find_surplus(walker, candidates, paths, can_read)
        plan = _Plan(wanted, same, {v.path for v in wanted} & obstacles.keys(), going, surplus)
        if dry_run:
            going_too = {*plan.replaced, *(file.path for file in surplus.files)}
            with target.walker() as walker:
                lost = find_unrecorded(walker, going_too, recorded)
            return replace(plan.result(versions, destination, surplus.files), unrecorded=lost)
        target.replaceable.update(obstacles)
        writer = _Writer(target, blobs, going, overwrite=overwrite, progress=progress)
        is_staged = target.is_empty and sum(v.size for v in wanted) <= _STAGED_BYTES
        with target.staged(overwrite=overwrite) if is_staged else nullcontext():
            writer.write_all(wanted, places)
        for version in same:
            writer.settle(version)
        with target.walker() as walker:
            deleted = delete_surplus(walker, surplus)
    return plan.result(versions, destination, deleted, writer)


class _Plan(NamedTuple):
    """What a restore is going to do."""

    wanted: Sequence[RestorableFile]
    same: Sequence[RestorableFile]
    replaced: Collection[str]
    """Paths of wanted versions where something else is."""
    going: Mapping[str, SurplusFile]
    """Sizes, by path, of other files that make way for wanted ones."""
    surplus: Surplus

    def result(
        self,
        versions: Iterable[RestorableFile],
        destination: str,
        deleted: Iterable[SurplusFile],
        writer: _Writer | None = None,
    ) -> RestoreResult:
        """Return the report; without a writer that of a dry run."""
        unmade = () if writer is None else writer.unmade
        written = [v for v in self.wanted if v.path not in unmade]
        changes = [
            ("replaced" if v.path in self.replaced else "created", v.path, v.size) for v in written
        ]
        changes += [("deleted", path, file.size) for path, file in self.going.items()]
        changes += [("deleted", file.path, file.size) for file in deleted]
        changes.sort(key=itemgetter(1))
        warnings = () if writer is None else writer.warnings
        return RestoreResult(
            destination,
            len(written),
            len(self.same),
            sum(version.size for version in written),
            tuple(RestoreChange(what, from_native(path), size) for what, path, size in changes),  # type: ignore[arg-type]
            tuple(sorted(from_native(v.path) for v in versions if v.digest is None)),
            tuple(sorted(RestoreWarning(from_native(path), why) for path, why in warnings)),
            tuple(sorted(map(from_native, self.surplus.kept))),
            dry_run=writer is None,
        )


def _is_in(path: str, places: Collection[str]) -> bool:
    """Whether a path is one of some `folded` paths or below one, whether or not case matters."""
    return bool(places) and any(folded(each) in places for each in (path, *ancestors(path)))


def _compare(
    versions: Iterable[RestorableFile], target: Destination
) -> tuple[list[RestorableFile], list[RestorableFile], dict[str, bool]]:
    """Return the versions to write, those that are there, and what is in the way. Writes nothing.

    What is in the way are paths, and whether each is a directory.
    """
    wanted, same, conflicts, obstacles = [], [], [], {}
    with target.walker() as walker:
        for version in versions:
            if version.digest is None:
                continue
            there = not target.is_empty and walker.find(version)
            if there is True:
                same.append(version)
            elif there is False:
                wanted.append(version)
            else:
                conflicts.append(version)
                obstacles[there.path] = there.is_directory
    return wanted + conflicts, same, obstacles


def _can_read(blobs: BlobStore) -> Callable[[Digest], bool]:
    """Return a function that says whether all bytes of a blob are there and right."""

    @cache
    def can_read(digest: Digest) -> bool:
        with suppress(CasError):
            deque(blobs.iter_pieces(digest), maxlen=0)
            return True
        return False

    return can_read


class _Writer:
    """Writes versions to a destination, reading several spans of storage at a time."""

    def __init__(
        self,
        target: Destination,
        blobs: BlobStore,
        going: Mapping[str, SurplusFile],
        *,
        overwrite: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._target = target
        self._going = going
        self._blobs = blobs
        self._overwrite = overwrite
        self._progress = progress
        self.warnings: list[tuple[str, str]] = []
        """Paths, and what could not be set or made."""
        self.unmade: set[str] = set()
        """Links that the destination can't hold."""
        self._staged_prefix = f".cas-{uuid.uuid4().hex[:16]}-"
        self._numbers = itertools.count()  # next() of it is atomic
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._files = self._bytes = 0
        self._total = Progress(0, 0)

    def write_all(
        self, versions: Sequence[RestorableFile], places: Mapping[Digest, Placement]
    ) -> None:
        """Write all versions."""
        self._total = Progress(0, 0, len(versions), sum(version.size for version in versions))
        wanted, small, large = by_place(versions, places)
        with explaining_any(self._blobs, versions), Threads(_THREADS, "cas-restore") as pool:
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

    def _await(self, tasks: set[Future[None]]) -> None:
        while tasks:
            done, tasks = wait(tasks, _REPORT_S, FIRST_COMPLETED)
            for task in done:
                task.result()
            if self._progress is not None:
                self._progress(replace(self._total, files=self._files, bytes=self._bytes))

    def settle(self, version: RestorableFile) -> None:
        """Set mode and time of a file that already has the right content, where they differ."""
        if version.is_link:
            return
        directory, name = split(version.path)
        with failing(version.path), self._target.walker() as walker:
            fd = os.open(name, OPEN_EXISTING, dir_fd=walker.enter(directory))
            try:
                status = os.fstat(fd)
                if status.st_nlink == 1:  # else it has another hard link, perhaps elsewhere
                    self._warn(version, give_mode_and_time(fd, version, status))
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

    def _write_large(self, version: RestorableFile, digest: Digest) -> None:
        with (
            explaining(self._blobs, version.path, digest),
            self._target.walker() as walker,
            closing(self._blobs.iter_pieces(digest)) as pieces,
        ):
            self._write(walker, version, self._until_stopped(pieces), counted=version.size)

    def _until_stopped(self, pieces: Iterable[Buffer]) -> Iterator[Buffer]:
        for piece in pieces:
            if self._stopped.is_set():
                raise CancelledError
            yield piece
            with self._lock:
                self._bytes += len(piece)

    def _write(
        self, walker: Walker, version: RestorableFile, pieces: Iterable[Buffer], counted: int = 0
    ) -> None:
        directory, _, name = version.path.rpartition("/")
        try:
            fd = walker.enter(directory, make=True)
            if self._target.is_staged:
                problems = create(name, fd, version, pieces)
            else:
                staged = f"{self._staged_prefix}{next(self._numbers)}"
                problems = create(staged, fd, version, pieces)
                try:
                    self._place(staged, name, fd, version)
                except BaseException:
                    discard(staged, fd)
                    raise
        except NoLinksError as error:
            self.unmade.add(version.path)
            self._warn(version, [str(error)])
            return
        except FileExistsError as error:
            if self._overwrite:
                raise failed(version.path, error) from error
            raise RestoreConflictError(version.path, 1) from None
        except UnsafePathError:
            raise
        except (OSError, ValueError) as error:
            raise failed(version.path, error) from error
        if problems:
            self._warn(version, problems)
        with self._lock:
            self._files += 1
            self._bytes += version.size - counted

    def _place(self, staged: str, name: str, fd: int, version: RestorableFile) -> None:
        """Give a complete file its name, and replace only what was in the way before."""
        if version.path not in self._target.replaceable:
            if not move_unless_taken(staged, name, fd, fd):
                discard(staged, fd)
            return
        try:
            os.rename(staged, name, src_dir_fd=fd, dst_dir_fd=fd)
        except IsADirectoryError:
            remove_obstacle(version.path, name, fd, self._going)
            os.rename(staged, name, src_dir_fd=fd, dst_dir_fd=fd)

    def _warn(self, version: RestorableFile, problems: Sequence[str]) -> None:
        # Extending is atomic.
        self.warnings.extend([(version.path, problem) for problem in problems])
