"""The walk over a work directory. It finds unchanged, new or changed, and missing files.

The generator yields each file while its directory is still open, so that it can be opened by its
name there, without its path.

An unchanged file costs one `stat`: its size, times, inode and device equal the stored signature.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from index.domain.names import MAX_PATH_BYTES, all_from_native, to_native
from index.domain.run_state import signature_of
from index.domain.snapshots import is_link
from index.scan.descent import Descent, OpenDirectory, open_root
from index.scan.findings import ScanFindings

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from index.context import OwnFiles
    from index.domain.run_state import Directories, KnownFile
    from index.scan.coverage import Coverage, Reason

__all__ = ["Scan", "UnreadFile"]

_LONG_PATH: Final = MAX_PATH_BYTES // 4
"""Longer paths are measured in bytes: no character has more than four."""

_LINK_MODE: Final = stat.S_IFLNK
_VANISHED: Final = {errno.ENOENT, errno.ENOTDIR}

_SPECIAL: Final = {
    stat.S_IFIFO: "it is a FIFO",
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFCHR: "it is a character device",
    stat.S_IFBLK: "it is a block device",
}

_NOT_FOLLOWED: Final = (
    "it is a link to a directory elsewhere, which is not followed; track that directory by itself"
)

_Entry: TypeAlias = "tuple[str, os.DirEntry[str]]"
"""An entry of a directory, with its name in the store."""


class UnreadFile(NamedTuple):
    """A file or link whose content must be read while its directory is open."""

    path: str
    name: str
    directory: int
    """Descriptor that `name` is relative to. Valid until the next candidate is taken."""
    link: os.stat_result | None
    """The `stat` of a link; None for a file, which gets `fstat` once it is open."""
    known: KnownFile | None


class Scan(ScanFindings):
    """One pass over a work directory. Iterate it once; after that the findings are complete."""

    def __init__(
        self,
        root: str,
        known: Directories,
        coverage: Coverage,
        *,
        own: OwnFiles,
        prefix: str = "",
    ) -> None:
        """Describe the pass.

        Parameters
        ----------
        own
            What belongs to the store, by whatever name it is reached.
        prefix
            The path in the run that the work directory is recorded under; ``""`` for none.
        """
        super().__init__(root, known, coverage, f"{prefix}/" if prefix else "")
        self.own = own
        self._root_fd = -1

    def __iter__(self) -> Iterator[UnreadFile]:
        self._root_fd = open_root(self._root)
        try:
            for scope in self._coverage.scopes:
                yield from self._walk_scope(scope)
        finally:
            os.close(self._root_fd)
        self._find_missing()

    def _walk_scope(self, scope: str) -> Iterator[UnreadFile]:
        """Walk one directory of the scope; ``""`` is the whole work directory."""
        here = OpenDirectory(-1, self._prefix)
        name = ""
        try:
            here.fd = os.dup(self._root_fd)
            for name in scope.split("/") if scope else ():
                self._read_ignore_files(here)
                here.descend(name)
                if self._is_own(here):
                    return
        except OSError as error:
            yield from self._scope_is_no_directory(here, f"{self._prefix}{scope}", name, error)
        else:
            yield from self._walk(here)
        finally:
            here.close()

    def _scope_is_no_directory(
        self, frame: OpenDirectory, scope: str, name: str, error: OSError
    ) -> Iterator[UnreadFile]:
        """Handle a scope that is a file or link; report one that can't be opened."""
        path = f"{frame.prefix}{name}"
        try:
            if error.errno not in (*_VANISHED, errno.ELOOP):
                raise error
            status = os.stat(to_native(name), dir_fd=frame.fd, follow_symlinks=False)
        except FileNotFoundError:
            self._miss_scope(scope)
        except OSError as failure:
            self.fail(path, failure)
        else:
            if path == scope and not stat.S_ISDIR(status.st_mode):
                yield from self._scope_is_file(frame, name, status)
            elif stat.S_ISLNK(status.st_mode):
                self.skip(path, _NOT_FOLLOWED)
            else:
                self._miss_scope(scope)

    def _scope_is_file(
        self, frame: OpenDirectory, name: str, status: os.stat_result
    ) -> Iterator[UnreadFile]:
        path = f"{frame.prefix}{name}"
        known = self._known.get(frame.prefix[:-1], {}).get(name)
        if stat.S_ISLNK(status.st_mode):
            self._tell_of_link(frame, name, is_scope=True)
        if (
            known is not None
            and known.signature == signature_of(status)
            and known.seen_by & self.bit
        ):
            self._found_alone.add(path)
            self.unchanged.append(known)
            return
        candidate = self._judge(frame, name, status, known)
        if candidate is not None:
            self._found_alone.add(path)
            yield candidate

    def _walk(self, first: OpenDirectory) -> Iterator[UnreadFile]:
        descent = Descent(self._root_fd, self._prefix, first)
        try:
            yield from self._visit(first)
            while (outer := descent.current()) is not None:
                name, reason = outer.subdirectories.pop()
                try:
                    inner = descent.enter(name, reason)
                except OSError as error:
                    if error.errno not in _VANISHED:
                        self.fail(f"{outer.prefix}{name}", error)
                    continue
                yield from self._visit(inner)
        finally:
            descent.close()

    def _visit(self, frame: OpenDirectory) -> Iterator[UnreadFile]:
        """Yield the files of one directory that must be read."""
        directory = frame.prefix[:-1]
        if self._is_own(frame):
            return
        try:
            with os.scandir(frame.fd) as iterator:
                entries = list(iterator)
        except OSError as error:
            self.fail(directory, error)
            return
        self._visited.add(directory)
        names = all_from_native([entry.name for entry in entries])
        self._read_ignore_files(frame, names)
        found = zip(names, entries, strict=True)
        known: Mapping[str, KnownFile] = self._known.get(directory, {})
        if not known:
            yield from self._visit_new(frame, self._covered_files(frame, list(found), known))
            return
        first = len(self.unchanged)
        # Most files are known and unchanged. Only patterns of the caller hold for these, too.
        if self._coverage.is_selective or frame.own_names:
            left = self._changed(frame, self._covered_files(frame, list(found), known), known)
        else:
            left = self._covered_files(frame, self._changed(frame, found, known), known)
        yield from self._visit_known(frame, left, known, self.unchanged[first:])

    def _is_own(self, frame: OpenDirectory) -> bool:
        """Whether a directory is the store; what the run holds there is then not missing."""
        if self.own:
            status = os.fstat(frame.fd)
            frame.own_names = self.own.names_in(status)
            if status in self.own:
                self._unseen.add(frame.prefix[:-1])
                return True
        return False

    def _changed(
        self, frame: OpenDirectory, found: Iterable[_Entry], known: Mapping[str, KnownFile]
    ) -> list[_Entry]:
        """Return all entries but the known files that are unchanged, which are noted."""
        find_known, bit = known.get, self.bit
        note_unchanged = self.unchanged.append
        left = []
        for name, entry in found:
            version = find_known(name)
            if version is not None:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:  # met again, and reported, when it is visited
                    left.append((name, entry))
                    continue
                # What no scan with this prefix has seen is read again, and so recorded as seen.
                if version.signature == signature_of(status) and version.seen_by & bit:
                    note_unchanged(version)
                    # No regular file has so large a mode: most files are not asked further.
                    if version.mode >= _LINK_MODE and is_link(version.mode):
                        self._tell_of_link(frame, name)
                    continue
            left.append((name, entry))
        return left

    def _visit_known(
        self,
        frame: OpenDirectory,
        changed: list[_Entry],
        known: Mapping[str, KnownFile],
        unchanged: list[KnownFile],
    ) -> Iterator[UnreadFile]:
        """Yield the new and changed files of a directory; find the missing ones."""
        found: set[str] = set()
        for name, entry in changed:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.fail(f"{frame.prefix}{name}", error)
                continue
            version = known.get(name)
            candidate = self._judge(frame, name, status, version)
            if candidate is not None:
                if version is not None:
                    found.add(name)
                yield candidate
        if len(unchanged) + len(found) != len(known):
            found.update(version.path[len(frame.prefix) :] for version in unchanged)
            self._find_missing_in(known, found)

    def _visit_new(self, frame: OpenDirectory, covered: list[_Entry]) -> Iterator[UnreadFile]:
        """Yield all files of a directory without known files; all of them must be read.

        Regular files get no `stat` here: they get one after they are opened.
        """
        for name, entry in covered:
            try:
                if entry.is_file(follow_symlinks=False):
                    candidate = self._file(frame, name, None)
                else:
                    status = entry.stat(follow_symlinks=False)
                    candidate = self._judge(frame, name, status, None)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.fail(f"{frame.prefix}{name}", error)
                continue
            if candidate is not None:
                yield candidate

    def _covered_files(
        self, frame: OpenDirectory, found: list[_Entry], known: Mapping[str, KnownFile]
    ) -> list[_Entry]:
        """Return the files that the scan covers; store the subdirectories in the frame."""
        if not found:
            return found
        own = frame.own_names
        is_selective = self._coverage.is_selective
        names = [name for name, _ in found if is_selective or name not in known]
        if frame.reason is None:
            asked = self._coverage.which(frame.prefix[len(self._prefix) : -1], names)
        else:  # it leaves out all that is new here
            asked = names
        asked = set(asked)
        files = []
        for each in found:
            name, entry = each
            try:
                is_directory = entry.is_dir(follow_symlinks=False)
            except OSError as error:
                self.fail(f"{frame.prefix}{name}", error)
                continue
            if own and name in own:
                self._unseen.add(f"{frame.prefix}{name}")
            elif is_directory:
                passed, reason = self._passes_over(frame, name, is_directory=True)
                if not passed:
                    frame.subdirectories.append((name, reason))
            elif name not in asked or not self._passes_over(frame, name, is_directory=False)[0]:
                files.append(each)
        return files

    def _passes_over(
        self, frame: OpenDirectory, name: str, *, is_directory: bool
    ) -> tuple[bool, Reason | None]:
        """Whether the scan leaves out an entry; else why it leaves out all that is new below it."""
        path = f"{frame.prefix}{name}"
        place = path[len(self._prefix) :]
        said = self._coverage.excludes(place, is_directory=is_directory)
        if said:
            self.passed_over["ignored"] += 1
            return True, None
        directory = frame.prefix[len(self._prefix) : -1]
        if said is not None and (frame.reason is None or self._coverage.leads_through(directory)):
            return False, None
        reason = frame.reason or self._coverage.passes_over(place, name, is_directory=is_directory)
        if reason is None:
            return False, None
        held = self._held_directories if is_directory else self._known.get(frame.prefix[:-1], {})
        if (path if is_directory else name) in held or (
            is_directory and self._coverage.leads_through(place)
        ):
            return False, reason
        self.passed_over[reason] += 1
        return True, None

    def _read_ignore_files(self, frame: OpenDirectory, names: Container[str] | None = None) -> None:
        directory = frame.prefix[len(self._prefix) : -1]
        for path, error in self._coverage.read_ignore_files(directory, frame.fd, names):
            self.fail(f"{self._prefix}{path}", error)

    def _judge(
        self, frame: OpenDirectory, name: str, status: os.stat_result, known: KnownFile | None
    ) -> UnreadFile | None:
        """Return a candidate if a file or link must be read; report what can't be tracked."""
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFLNK:
            self._tell_of_link(frame, name)
            return self._file(frame, name, known, link=status)
        if kind == stat.S_IFREG:
            return self._file(frame, name, known)
        path = f"{frame.prefix}{name}"
        self.skip(path, _SPECIAL.get(kind, "it is no regular file"))
        return None

    def _tell_of_link(self, frame: OpenDirectory, name: str, *, is_scope: bool = False) -> None:
        """Report a link to a directory whose files the scan does not find elsewhere."""
        path = f"{frame.prefix}{name}"
        try:
            status = os.stat(to_native(name), dir_fd=frame.fd)
        except OSError:
            return  # it leads nowhere
        if not stat.S_ISDIR(status.st_mode) or (path, _NOT_FOLLOWED) in self.skipped:
            return
        target = os.path.realpath(f"{self._real_root}/{path[len(self._prefix) :]}")
        if is_scope or not f"{target}/".startswith(f"{self._real_root}/"):
            self.skip(path, _NOT_FOLLOWED)

    @cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self._root).rstrip("/")

    def _file(
        self,
        frame: OpenDirectory,
        name: str,
        known: KnownFile | None,
        *,
        link: os.stat_result | None = None,
    ) -> UnreadFile | None:
        path = f"{frame.prefix}{name}"
        if len(path) > _LONG_PATH and len(path.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
            self.skip(path, f"its path has more than {MAX_PATH_BYTES} bytes")
            return None
        return UnreadFile(path, name, frame.fd, link, known)
