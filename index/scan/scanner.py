"""The walk over a work directory. It finds unchanged, new or changed, and missing files.

The scanner opens directories by descriptor, each relative to its parent, and files relative to
their directory. So a directory that is replaced by a symbolic link during the scan leads nowhere.
The generator yields each file while its directory is still open.

An unchanged file costs one `stat`: its size, times, inode and device equal the stored signature.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from index.domain.names import MAX_PATH_BYTES
from index.domain.run_state import signature_of
from index.domain.snapshots import Skipped
from index.errors import WorkDirectoryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from index.domain.run_state import Directories, KnownFile
    from index.scan.coverage import Coverage

__all__ = ["Scan", "UnreadFile", "check_directory"]

_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LONG_PATH: Final = MAX_PATH_BYTES // 4
"""Longer paths are measured in bytes: no character has more than four."""

_VANISHED: Final = {errno.ENOENT, errno.ENOTDIR}

_SPECIAL: Final = {
    stat.S_IFIFO: "it is a FIFO",
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFCHR: "it is a character device",
    stat.S_IFBLK: "it is a block device",
}


class UnreadFile(NamedTuple):
    """A file or link whose content must be read while its directory is open."""

    path: str
    name: str
    directory: int
    """Descriptor that `name` is relative to. Valid until the next candidate is taken."""
    link: os.stat_result | None
    """The `stat` of a link; None for a file, which gets `fstat` once it is open."""
    known: KnownFile | None


@dataclass(slots=True)
class _Frame:
    """A directory in the walk: its descriptor, its path with a slash, the subdirectories left."""

    fd: int
    prefix: str
    subdirectories: list[str]


class Scan:
    """One pass over a work directory. Iterate it once; after that the lists are complete."""

    def __init__(self, root: str, known: Directories, coverage: Coverage) -> None:
        self._root = root
        self._known = known
        self._coverage = coverage
        self._visited: set[str] = set()
        self._failed: list[str] = []
        self._found_alone: set[str] = set()
        """Files that are themselves a scope. The walk does not visit their directory."""
        self.unchanged: list[KnownFile] = []
        """Known files whose signature is unchanged."""
        self.missing: list[KnownFile] = []
        """Known files that the scan covered and did not find."""
        self.skipped: list[Skipped] = []
        """Paths that could not be read. Known files below them do not count as missing."""

    def __iter__(self) -> Iterator[UnreadFile]:
        root = _open_root(self._root)
        try:
            for scope in self._coverage.scopes:
                yield from self._walk_scope(root, scope)
        finally:
            os.close(root)
        self._find_missing()

    def keep(self, path: str, reason: str) -> None:
        """Report a candidate that could not be read."""
        self.skipped.append(Skipped(path, reason))

    def lose(self, candidate: UnreadFile) -> None:
        """Count a candidate as not found, because it vanished before it was read."""
        if candidate.known is not None:
            self._miss(candidate.known)

    def _walk_scope(self, root: int, scope: str) -> Iterator[UnreadFile]:
        """Walk one directory of the scope; ``""`` is the whole work directory."""
        fd = os.dup(root)
        prefix = name = ""
        try:
            for name in scope.split("/") if scope else ():
                deeper = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = deeper
                prefix += f"{name}/"
        except OSError as error:
            yield from self._scope_is_no_directory(fd, scope, prefix, name, error)
            return
        yield from self._walk(fd, prefix)

    def _scope_is_no_directory(
        self, fd: int, scope: str, prefix: str, name: str, error: OSError
    ) -> Iterator[UnreadFile]:
        """Handle a scope that is a file or link; report one that can't be opened."""
        try:
            if f"{prefix}{name}" == scope and error.errno in (errno.ENOTDIR, errno.ELOOP):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                known = self._known.get(prefix.rstrip("/"), {}).get(name)
                if known is not None and known.signature == signature_of(status):
                    self._found_alone.add(scope)
                    self.unchanged.append(known)
                    return
                candidate = self._judge(_Frame(fd, prefix, []), name, status, known)
                if candidate is not None:
                    self._found_alone.add(scope)
                    yield candidate
            elif error.errno not in _VANISHED and error.errno != errno.ELOOP:
                self._fail(f"{prefix}{name}", error)
        finally:
            os.close(fd)

    def _walk(self, fd: int, prefix: str) -> Iterator[UnreadFile]:
        stack = [_Frame(fd, prefix, [])]
        try:
            yield from self._visit(stack[0])
            while stack:
                frame = stack[-1]
                if not frame.subdirectories:
                    os.close(stack.pop().fd)
                    continue
                name = frame.subdirectories.pop()
                try:
                    deeper = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=frame.fd)
                except OSError as error:
                    if error.errno not in _VANISHED:
                        self._fail(f"{frame.prefix}{name}", error)
                    continue
                stack.append(_Frame(deeper, f"{frame.prefix}{name}/", []))
                yield from self._visit(stack[-1])
        finally:
            for frame in stack:
                os.close(frame.fd)

    def _visit(self, frame: _Frame) -> Iterator[UnreadFile]:
        """Yield the files of one directory that must be read."""
        directory = frame.prefix[:-1]
        try:
            with os.scandir(frame.fd) as iterator:
                entries = list(iterator)
        except OSError as error:
            self._fail(directory, error)
            return
        self._visited.add(directory)
        known: Mapping[str, KnownFile] = self._known.get(directory, {})
        if not known:
            yield from self._visit_new(frame, entries)
            return
        find_known = known.get
        unchanged = self.unchanged
        found: set[str] = set()
        for entry in self._covered_files(frame, entries):
            name = entry.name
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                found.add(name)
                self._fail(f"{frame.prefix}{name}", error)
                continue
            version = find_known(name)
            if version is not None and version.signature == signature_of(status):
                found.add(name)
                unchanged.append(version)
                continue
            candidate = self._judge(frame, name, status, version)
            if candidate is not None:
                if version is not None:
                    found.add(name)
                yield candidate
        if len(found) != len(known):
            self._judge_missing(directory, known, found)

    def _visit_new(self, frame: _Frame, entries: list[os.DirEntry[str]]) -> Iterator[UnreadFile]:
        """Yield all files of a directory without known files; all of them must be read.

        Regular files get no `stat` here: they get one after they are opened.
        """
        for entry in self._covered_files(frame, entries):
            try:
                if entry.is_file(follow_symlinks=False):
                    candidate = self._file(frame, entry.name, None)
                else:
                    status = entry.stat(follow_symlinks=False)
                    candidate = self._judge(frame, entry.name, status, None)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._fail(f"{frame.prefix}{entry.name}", error)
                continue
            if candidate is not None:
                yield candidate

    def _covered_files(
        self, frame: _Frame, entries: list[os.DirEntry[str]]
    ) -> list[os.DirEntry[str]]:
        """Return the files that the scan covers; store the subdirectories in the frame."""
        excludes = self._coverage.excludes if self._coverage.selective else None
        files = []
        for entry in entries:
            name = entry.name
            if name[0] == "." or name == "__pycache__":
                continue
            is_directory = entry.is_dir(follow_symlinks=False)
            if excludes and excludes(f"{frame.prefix}{name}", is_directory=is_directory):
                continue
            if is_directory:
                frame.subdirectories.append(name)
            else:
                files.append(entry)
        return files

    def _judge(
        self, frame: _Frame, name: str, status: os.stat_result, known: KnownFile | None
    ) -> UnreadFile | None:
        """Return a candidate if a file or link must be read; report what can't be tracked."""
        kind = stat.S_IFMT(status.st_mode)
        if kind in (stat.S_IFREG, stat.S_IFLNK):
            return self._file(frame, name, known, link=status if kind == stat.S_IFLNK else None)
        path = f"{frame.prefix}{name}"
        self.skipped.append(Skipped(path, _SPECIAL.get(kind, "it is no regular file")))
        return None

    def _file(
        self,
        frame: _Frame,
        name: str,
        known: KnownFile | None,
        *,
        link: os.stat_result | None = None,
    ) -> UnreadFile | None:
        path = f"{frame.prefix}{name}"
        if len(path) > _LONG_PATH and len(os.fsencode(path)) > MAX_PATH_BYTES:
            self.skipped.append(Skipped(path, f"its path has more than {MAX_PATH_BYTES} bytes"))
            return None
        return UnreadFile(path, name, frame.fd, link, known)

    def _judge_missing(
        self, directory: str, known: Mapping[str, KnownFile], found: set[str]
    ) -> None:
        for name, version in known.items():
            if name not in found and self._coverage.covers(version.path):
                self._miss(version)

    def _find_missing(self) -> None:
        """Add the known files of directories that the walk never entered."""
        for directory, files in self._known.items():
            if directory in self._visited or self._is_below_failure(directory):
                continue
            for version in files.values():
                path = version.path
                if path in self._found_alone or self._is_below_failure(path):
                    continue
                if self._coverage.covers(path):
                    self._miss(version)

    def _miss(self, version: KnownFile) -> None:
        # Only files that a scan saw on disk can go missing, not those stored by a put.
        if version.seen_on_disk:
            self.missing.append(version)

    def _is_below_failure(self, path: str) -> bool:
        return any(failed in ("", path) or path.startswith(f"{failed}/") for failed in self._failed)

    def _fail(self, path: str, error: OSError) -> None:
        self._failed.append(path)
        self.skipped.append(Skipped(path or ".", error.strerror or str(error)))


def check_directory(path: str) -> None:
    """Raise `WorkDirectoryError` unless the path is a readable directory."""
    os.close(_open_root(path))


def _open_root(path: str) -> int:
    try:
        return os.open(path, _OPEN_DIRECTORY)
    except OSError as error:
        raise WorkDirectoryError(path, _root_reason(error)) from error


def _root_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such directory"
    if isinstance(error, NotADirectoryError):
        return "it is a file, not a directory (`cas put` records a single file)"
    return error.strerror or str(error)
