"""Reading of a git repository by the program `git`: commits, trees and blobs, and nothing else.

One `git cat-file --batch` answers all questions. It runs no filter, hook or driver of the
repository. A partial clone is refused: git would fetch what is missing, by a command that the
repository's own configuration may name.
"""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from index.errors import ImportSourceError
from index.imports.sources import UnreadableFileError, text_of, why_unsafe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["Commit", "GitFile", "GitRepository", "TreeEntry", "is_submodule"]

_PIECE: Final = 1 << 20
_MAX_PARSED: Final = 256 << 20
"""Bytes of a commit or tree, which is held in memory. A directory of a million files has 50 MB."""

_MAX_PATHS: Final = 2_000_000
"""Paths that differ between two commits. A few small trees can name each other to be billions."""

_LFS: Final = b"version https://git-lfs.github.com/spec/v1\n"
_MAX_POINTER: Final = 1024
"""Bytes of a pointer of Git LFS. Source: the specification of Git LFS, "The Pointer"."""

_IS_POINTER: Final = "it is a pointer of Git LFS; the pointer is recorded, and not its content"
_SUBMODULE: Final = 0o160000
_AUTHOR: Final = re.compile(rb"(.*?) ?<([^>]*)> (\d{1,12}) ([+-])(\d\d)(\d\d)\Z", re.DOTALL)


class TreeEntry(NamedTuple):
    """An entry of a tree: a file, a link, or a submodule."""

    mode: int
    oid: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, as far as an import keeps it."""

    id: str
    tree: str
    author: str
    email: str
    time: datetime
    message: str


@dataclass(slots=True)
class GitFile:
    """A file or link of a commit."""

    repository: GitRepository
    oid: str
    is_link: bool = False
    is_executable: bool = False
    remark: str | None = None

    @property
    def key(self) -> str:
        """The object id."""
        return self.oid

    @property
    def mode(self) -> int:
        """The `stat` mode that git gives such a file."""
        if self.is_link:
            return stat.S_IFLNK | 0o777
        return stat.S_IFREG | (0o755 if self.is_executable else 0o644)

    def pieces(self) -> Iterator[bytes]:
        """Yield the content. Raises UnreadableFileError."""
        for piece in self.repository.iter_blob(self.oid):
            if len(piece) <= _MAX_POINTER and piece.startswith(_LFS) and not self.is_link:
                self.remark = _IS_POINTER
            yield piece

    def agrees(self, pieces: Iterable[bytes], size: int) -> bool:
        """Whether these bytes have that object id."""
        hashed = hashlib.sha1 if len(self.oid) == 40 else hashlib.sha256
        found = hashed(b"blob %d\0" % size, usedforsecurity=False)
        for piece in pieces:
            found.update(piece)
        return found.hexdigest() == self.oid


class GitRepository:
    """A git repository that is only read. Close it in the end. Not safe for threads."""

    def __init__(self, source: Path) -> None:
        """Open the repository of a work directory, or a bare one.

        Raises
        ------
        ImportSourceError
            When there is none, or when it is a partial clone.
        """
        self.source = str(source)
        self.is_bare = not (source / ".git").exists()
        self.directory = source if self.is_bare else source / ".git"
        self._objects: subprocess.Popen[bytes] | None = None
        self._git("rev-parse", "--git-dir", failing="it is no git repository")
        partial = self._git(
            "config", "--get-regexp", r"^(extensions\.partialclone|remote\..*\.promisor)$"
        )
        if partial.stdout:
            raise self._refusal("it is a partial clone; import a complete one")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the program that reads objects."""
        if self._objects is not None:
            self._objects.kill()
            self._objects.communicate()
            self._objects = None

    def first_parents(self, revision: str) -> list[str]:
        """Return the ids of a commit and of its first parents, oldest first.

        Raises ImportSourceError if there is no such commit.
        """
        missing = f"it has no commit {revision!r}; name a branch, tag or commit"
        found = self._git(
            "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}", failing=missing
        )
        listed = self._git(
            "rev-list",
            "--first-parent",
            "--reverse",
            found.stdout.decode().strip(),
            failing="git can't read its history; see `git fsck`",
        )
        return listed.stdout.decode().split()

    def commit(self, oid: str) -> Commit:
        """Return a commit. Raises ImportSourceError if it is damaged."""
        head, _, message = self._parsed(oid, b"commit").partition(b"\n\n")
        fields: dict[bytes, bytes] = {}
        for line in head.split(b"\n"):
            name, _, value = line.partition(b" ")
            fields.setdefault(name, value)
        author, email, time = _author(fields.get(b"author", b""))
        encoding = fields.get(b"encoding", b"utf-8").decode("ascii", "replace")
        try:
            text = message.decode(encoding, "replace")
        except (LookupError, ValueError):
            text = message.decode("utf-8", "replace")
        tree = fields.get(b"tree", b"").decode("ascii", "replace")
        return Commit(oid, tree, author, email, time, text_of(text).strip())

    def changes(self, before: str | None, after: str) -> Iterator[tuple[str, TreeEntry | None]]:
        """Yield the paths that differ between two trees, each with its entry in the later one.

        Trees that are equal are not read.
        """
        pending: list[tuple[str, str | None, str | None]] = [("", before, after)]
        count = 0
        while pending:
            prefix, old_oid, new_oid = pending.pop()
            old, new = self._tree(old_oid), self._tree(new_oid)
            for name in sorted(old.keys() | new.keys()):
                was, now = old.get(name), new.get(name)
                if was == now:
                    continue
                count += 1
                if count > _MAX_PATHS:
                    raise self._refusal(f"a commit changes more than {_MAX_PATHS} paths")
                path = f"{prefix}{name}"
                old_tree, new_tree = _tree_of(was), _tree_of(now)
                is_safe = why_unsafe(path) is None
                if (old_tree or new_tree) and is_safe:
                    pending.append((f"{path}/", old_tree, new_tree))
                if now is not None and not (new_tree and is_safe):
                    yield path, now
                elif was is not None and old_tree is None:
                    yield path, None

    def list_files(self, commit: str) -> dict[str, TreeEntry]:
        """Return all entries of a commit but trees, as `git ls-tree` lists them."""
        listed = self._git(
            "ls-tree", "-r", "-z", "--full-tree", commit, failing="git can't list its files"
        )
        found = {}
        for line in listed.stdout.split(b"\0"):
            if line:
                head, _, name = line.partition(b"\t")
                mode, _, oid = head.decode().split(" ")
                found[_path(name)] = TreeEntry(int(mode, 8), oid)
        return found

    def file(self, entry: TreeEntry) -> GitFile:
        """Return the file or link of an entry."""
        is_link = stat.S_IFMT(entry.mode) == stat.S_IFLNK
        return GitFile(self, entry.oid, is_link, bool(entry.mode & 0o100) and not is_link)

    def read_blob(self, oid: str, limit: int) -> bytes:
        """Return a blob of at most `limit` bytes. Raises UnreadableFileError."""
        return self._read(self.iter_blob(oid), limit)

    def iter_blob(self, oid: str) -> Iterator[bytes]:
        """Yield the content of a blob. Raises UnreadableFileError."""
        return self._iter_object(oid, b"blob")

    def _iter_object(self, oid: str, kind: bytes) -> Iterator[bytes]:
        process = self._running()
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stdout is not None  # noqa: S101
        is_whole = False
        try:
            process.stdin.write(f"{oid}\n".encode())
            process.stdin.flush()
            head = process.stdout.readline().split()
            if len(head) != 3 or head[1] != kind:
                raise UnreadableFileError(f"git can't read the object {oid}; see `git fsck`")
            left = int(head[2])
            while left:
                piece = process.stdout.read(min(left, _PIECE))
                if not piece:
                    raise UnreadableFileError(f"git can't read the object {oid}; see `git fsck`")
                left -= len(piece)
                yield piece
            process.stdout.read(1)
            is_whole = True
        except BrokenPipeError as error:
            raise UnreadableFileError(f"git can't read the object {oid}") from error
        finally:
            if not is_whole:  # what follows would be the rest of this object
                self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._objects is None:
            self._objects = subprocess.Popen(
                self._command("cat-file", "--batch"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._objects

    def _parsed(self, oid: str, kind: bytes) -> bytes:
        try:
            return self._read(self._iter_object(oid, kind), _MAX_PARSED)
        except UnreadableFileError as error:
            raise self._refusal(str(error)) from error

    def _read(self, pieces: Iterator[bytes], limit: int) -> bytes:
        data = bytearray()
        for piece in pieces:
            data += piece
            if len(data) > limit:
                self.close()
                raise UnreadableFileError(f"it has more than {limit >> 20} MiB")
        return bytes(data)

    def _tree(self, oid: str | None) -> dict[str, TreeEntry]:
        if oid is None:
            return {}
        data = self._parsed(oid, b"tree")
        try:
            return dict(_entries(data, len(oid) // 2))
        except ValueError as error:
            raise self._refusal(f"the tree {oid} is damaged; see `git fsck`") from error

    def _command(self, *arguments: str) -> list[str]:
        # A replaced object is another one than its id says.
        return ["git", "--no-replace-objects", f"--git-dir={self.directory}", *arguments]

    def _git(
        self, *arguments: str, failing: str | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run git. Raises ImportSourceError for the reason `failing` if that fails."""
        try:
            done = subprocess.run(
                self._command(*arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise self._refusal("the program git is missing; install it") from error
        if done.returncode and failing is not None:
            said = text_of(done.stderr).strip().splitlines()
            raise self._refusal(f"{failing} ({said[-1]})" if said else failing)
        return done

    def _refusal(self, reason: str) -> ImportSourceError:
        return ImportSourceError(self.source, reason)


def _entries(data: bytes, length: int) -> Iterator[tuple[str, TreeEntry]]:
    """Yield the entries of a tree, whose object ids have `length` bytes. Raises ValueError."""
    position = 0
    while position < len(data):
        space = data.index(b" ", position)
        end = data.index(b"\0", space)
        mode = int(data[position:space], 8)
        position = end + 1 + length
        yield _path(data[space + 1 : end]), TreeEntry(mode, data[end + 1 : position].hex())


def _tree_of(entry: TreeEntry | None) -> str | None:
    """Return the id of the tree that an entry is; None if it is something else."""
    return entry.oid if entry and stat.S_IFMT(entry.mode) == stat.S_IFDIR else None


def is_submodule(entry: TreeEntry) -> bool:
    """Whether an entry is a commit of another repository."""
    return stat.S_IFMT(entry.mode) == _SUBMODULE


def _path(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _author(line: bytes) -> tuple[str, str, datetime]:
    found = _AUTHOR.match(line)
    if found is None:
        return text_of(line), "", datetime.fromtimestamp(0, UTC)
    name, email, seconds, sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == b"-" else 1)
    zone = timezone(offset) if abs(offset) < timedelta(hours=24) else UTC
    try:
        time = datetime.fromtimestamp(int(seconds), zone)
    except (ValueError, OverflowError, OSError):
        time = datetime.fromtimestamp(0, UTC)
    return text_of(name), text_of(email), time
