"""The known state of a run and the stat signatures of its files, for a scan to compare with."""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, overload

from cas.digest import DIGEST_SIZE, Digest
from index.domain.snapshots import is_link

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from index.domain.provenance import Provenance
    from index.domain.usage import Usage

__all__ = [
    "Directories",
    "KnownFile",
    "Observed",
    "ObservedFiles",
    "RunState",
    "Signature",
    "StateCache",
    "is_storable",
    "signature_of",
    "size_in",
]


class KnownFile(NamedTuple):
    """The current version of a path. A tuple, because a run has tens of thousands."""

    signature: Signature | None
    """None if only hashing the content can show whether it changed."""
    id: int
    path: str
    version: int
    digest: bytes
    mode: int
    mtime_ns: int
    appeared_in: int
    seen_by: int
    """The scans that saw this version on disk, as the sum of their `Scan.bit`; 0 if none did."""
    is_final_output: bool
    provenance: Provenance


class Observed(NamedTuple):
    """What a scan or a put found at a path."""

    path: str
    digest: Digest
    size: int
    mode: int
    mtime_ns: int
    signature: Signature | None
    """None if the content came from no file."""
    trusted: bool
    """Whether an equal signature in a later scan means equal content."""
    seen_by: int
    """The `Scan.bit` of the scan that saw it; 0 for a put."""
    base: KnownFile | None = None
    """The version that it was compared with; None if the path is new."""

    def same_content(self, known: KnownFile) -> bool:
        """Whether the known version has the same bytes, and both are links or neither is."""
        return self.digest == known.digest and is_link(self.mode) == is_link(known.mode)


class ObservedFiles(Sequence[Observed]):
    """What a scan or a put found, packed: a third of the bytes that so many objects take."""

    def __init__(
        self, rows: list[bytes] | None = None, bases: dict[str, KnownFile] | None = None
    ) -> None:
        self._rows = [] if rows is None else rows
        self.bases = {} if bases is None else bases
        """The versions that were compared with, by path."""

    def append(self, seen: Observed) -> None:
        path, digest, size, mode, mtime_ns, signature, trusted, seen_by, base = seen
        signature = signature or b""
        tail = _pack_tail(
            digest, size, mode, mtime_ns, seen_by.bit_length(), trusted, len(signature)
        )
        # A path has no NUL, may have lone surrogates, and these bytes have the order of its text.
        name = path.encode("utf-8", "surrogatepass")
        self._rows.append(b"%b\0%b%b" % (name, signature, tail))
        if base is not None:
            self.bases[path] = base

    def sort(self) -> None:
        """Order by path."""
        self._rows.sort()

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Observed: ...
    @overload
    def __getitem__(self, at: slice) -> ObservedFiles: ...
    def __getitem__(self, at: int | slice) -> Observed | ObservedFiles:
        if isinstance(at, slice):
            return ObservedFiles(self._rows[at], self.bases)
        (seen,) = ObservedFiles([self._rows[at]], self.bases)
        return seen

    def __iter__(self) -> Iterator[Observed]:
        find_base = self.bases.get
        for row in self._rows:
            digest, size, mode, mtime_ns, seen_bits, trusted, length = _unpack_tail(row, -_TAIL)
            start = -_TAIL - length
            path = row[: start - 1].decode("utf-8", "surrogatepass")
            yield tuple.__new__(  # half the time of `Observed(…)`
                Observed,
                (
                    path,
                    bytes.__new__(Digest, digest),
                    size,
                    mode,
                    mtime_ns,
                    row[start:-_TAIL] or None,
                    trusted,
                    1 << seen_bits >> 1,
                    find_base(path),
                ),
            )

    @property
    def paths(self) -> Iterator[str]:
        """Yield the paths alone."""
        paths = (row[: -_TAIL - 1 - row[-1]] for row in self._rows)
        return (path.decode("utf-8", "surrogatepass") for path in paths)

    @property
    def digests(self) -> Iterator[bytes]:
        """Yield the digests alone, as plain bytes."""
        return (row[-_TAIL : DIGEST_SIZE - _TAIL] for row in self._rows)

    @property
    def contents(self) -> Iterator[tuple[Any, ...]]:
        """Yield the digest, size, mode, modification time, and more."""
        return (_unpack_tail(row, -_TAIL) for row in self._rows)


_SEEN: Final = struct.Struct(f"<{DIGEST_SIZE}sQIqB?B")
"""The end of a row: digest, size, mode, mtime_ns, the length of seen_by in bits, trusted, and how
many bytes before it are the signature. The path is before that."""

_TAIL: Final = _SEEN.size
_pack_tail: Final = _SEEN.pack
_unpack_tail: Final = _SEEN.unpack_from


class StateCache:
    """The states of the most recently tracked runs. Safe for use by several threads.

    Callers check the revision of a state before they use it. A stale state costs one reload.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._states: OrderedDict[tuple[str, str], RunState] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, session: str, run: str) -> RunState | None:
        """Return the cached state of a run; None if there is none."""
        with self._lock:
            return self._states.get((session, run))

    def keep(self, session: str, run: str, state: RunState) -> None:
        """Cache the state of a run, unless it is partial or the cache has a newer one."""
        if state.loaded is not None:
            return
        with self._lock:
            kept = self._states.pop((session, run), None)
            if kept and kept.run_id == state.run_id and kept.revision > state.revision:
                state = kept
            self._states[session, run] = state
            if len(self._states) > self._capacity:
                self._states.popitem(last=False)


Directories: TypeAlias = "Mapping[str, Mapping[str, KnownFile]]"


@dataclass(frozen=True, slots=True)
class RunState:
    """The current files of a run at one revision. Immutable: each commit makes a new state."""

    run_id: int | None = None
    """None until something is first written to the run."""
    revision: int = 0
    newest_snapshot: int = 0
    made: Directories | Callable[[], Directories] = field(default_factory=dict)
    """What `directories` returns, or what makes it. After the last scan of a process nobody needs
    it, and for a large run it takes as much memory as the scan."""
    newest_record: Digest | None = None
    """The end of the run's chain of journal records; None if the chain is incomplete."""
    records: int = 0
    """The number of records in that chain."""
    work_dir: str | None = None
    """The directory of the newest scan; None before the first one."""
    loaded: frozenset[str] | None = None
    """For a partial state: the paths whose files, and files in conflict with them, it holds. None
    if it holds the whole run."""
    usage: Usage | None = None
    """What the session holds, if it has a quota."""

    @property
    def directories(self) -> Directories:
        """Known files by directory, then by name; the work directory itself is ``""``."""
        made = self.made
        if callable(made):
            made = made()  # two threads at once make the same
            object.__setattr__(self, "made", made)
        return made

    @property
    def has_chain(self) -> bool:
        """Whether the chain of journal records describes the whole run."""
        return self.run_id is None or self.newest_record is not None

    @classmethod
    def of(
        cls,
        run_id: int,
        revision: int,
        newest_snapshot: int,
        files: Iterable[KnownFile],
        *,
        newest_record: Digest | None = None,
        records: int = 0,
        work_dir: str | None = None,
        loaded: frozenset[str] | None = None,
    ) -> RunState:
        """Return a state with the files indexed by directory and name."""
        directories: dict[str, dict[str, KnownFile]] = {}
        for known in files:
            directory, _, name = known.path.rpartition("/")
            try:
                directories[directory][name] = known
            except KeyError:
                directories[directory] = {name: known}
        return cls(
            run_id,
            revision,
            newest_snapshot,
            directories,
            newest_record,
            records,
            work_dir,
            loaded,
        )

    def holds(self, paths: Collection[str] | None) -> bool:
        """Whether nothing that concerns these paths, or the whole run, is left to load."""
        if self.loaded is None or self.run_id is None:
            return True
        return paths is not None and self.loaded.issuperset(paths)

    def with_files(self, files: Iterable[KnownFile], paths: Iterable[str]) -> RunState:
        """Return a partial state that also holds `files`, which are all that concern `paths`."""
        assert self.run_id is not None  # noqa: S101 - a run without a row has no files
        assert self.loaded is not None  # noqa: S101 - a whole state has them already
        return RunState.of(
            self.run_id,
            self.revision,
            self.newest_snapshot,
            [*self, *files],
            newest_record=self.newest_record,
            records=self.records,
            work_dir=self.work_dir,
            loaded=self.loaded.union(paths),
        )

    def find(self, path: str) -> KnownFile | None:
        """Return the current version of a path; None if the run does not hold it."""
        directory, _, name = path.rpartition("/")
        return self.directories.get(directory, {}).get(name)

    def __iter__(self) -> Iterator[KnownFile]:
        for files in self.directories.values():
            yield from files.values()

    def after(
        self,
        run_id: int,
        newest_snapshot: int,
        replaced: Callable[[], Iterable[KnownFile]],
        removed: Iterable[KnownFile],
        added: Collection[Digest] = (),
        *,
        work_dir: str | None = None,
    ) -> RunState:
        """Return the state of the next revision.

        Parameters
        ----------
        replaced
            Returns the versions that are new or renewed. Called when they are needed.
        added
            The journal records of the commit, the newest one last.
        work_dir
            The new work directory; None if it stays as it is.
        """
        return RunState(
            run_id,
            self.revision + 1,
            newest_snapshot,
            partial(_changed, self, replaced, removed),
            next(reversed(tuple(added)), self.newest_record),
            self.records + len(added),
            work_dir or self.work_dir,
            self.loaded,
            self.usage,
        )


def _changed(
    before: RunState, replaced: Callable[[], Iterable[KnownFile]], removed: Iterable[KnownFile]
) -> Directories:
    """Return the files of a state without those removed, and with those replaced."""
    directories = dict(before.directories)
    copied: set[str] = set()

    def own(path: str) -> tuple[dict[str, KnownFile], str]:
        directory, _, name = path.rpartition("/")
        if directory not in copied:
            directories[directory] = dict(directories.get(directory, {}))
            copied.add(directory)
        files = directories[directory]
        assert isinstance(files, dict)  # noqa: S101 - it is our copy
        return files, name

    for known in removed:
        files, name = own(known.path)
        files.pop(name, None)
    for known in replaced():
        files, name = own(known.path)
        files[name] = known
    return directories


Signature: TypeAlias = bytes
"""The fields of `stat` that change with a file's content, packed. A scan holds one for each file,
and five integers would be three times as large."""

_SIGNATURE: Final = struct.Struct("<qqqQQ")
"""Size, mtime_ns, ctime_ns, inode, device. The last two are unsigned, because overlay filesystems
use all 64 bits."""

_pack: Final = _SIGNATURE.pack


def signature_of(status: os.stat_result) -> Signature:
    """Return the signature that identifies a file's content without reading it."""
    try:
        return _pack(
            status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
        )
    except struct.error:  # some filesystems hold times that the columns can't
        times = status.st_mtime_ns, status.st_ctime_ns
        parts = "not packed", status.st_size, *times, status.st_ino, status.st_dev
        return repr(parts).encode()


def size_in(signature: Signature) -> int | None:
    """Return the size of a file from its signature; None if that does not tell."""
    return _SIGNATURE.unpack(signature)[0] if is_storable(signature) else None


def is_storable(signature: Signature) -> bool:
    """Whether the index can store a signature: its times are within 292 years of 1970."""
    return len(signature) == _SIGNATURE.size
