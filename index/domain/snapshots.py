"""File versions and snapshots as the API returns them: frozen and detached from the database."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from stat import S_IFLNK
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from index.domain.drops import content_of, how_dropped
from index.domain.names import MAX_ROW_ID, check_path, storable
from index.domain.provenance import Provenance
from index.domain.results import Result, to_json
from index.domain.units import human_size
from index.errors import ArtifactIndexError, UnknownFileError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from cas.digest import Digest

__all__ = [
    "HTML_HEAD",
    "NO_VERSIONS",
    "At",
    "ChangeCounts",
    "FileVersion",
    "LazyVersions",
    "Skipped",
    "Snapshot",
    "assemble",
    "check_wanted",
    "is_link",
    "snapshot_number",
    "with_lazy_changes",
]


HTML_HEAD: Final = ("path", "type", "size", "version", "agent", "phase", "node", "recorded")


@dataclass(frozen=True, slots=True)
class FileVersion(Result):
    """A path of a run that held a digest from one snapshot until another."""

    id: int
    session: str
    run: str
    path: str
    """POSIX path relative to the work directory. Bytes that are not UTF-8 are lone surrogates."""
    version: int
    """1, 2, … for each path of a run."""
    digest: Digest | None
    """None if the bytes were dropped, or gone when it was adopted. Then it is not current."""
    size: int
    """Bytes."""
    mode: int
    """`stat` mode as last seen: type and permission bits."""
    mtime_ns: int
    """Modification time as last seen, in nanoseconds since the epoch."""
    file_type: str
    priority: str
    is_final_output: bool
    phase: str | None
    agent: str | None
    code_hash: str | None
    node_id: str | None
    step_id: str | None
    event_id: str | None
    created_at: datetime
    """When the version was recorded, UTC."""
    first_snapshot: int
    end_snapshot: int | None
    """The snapshot that replaced or removed it; None while it is current."""
    meta: Any = field(hash=False)  # perhaps a dict
    dropped: dict[str, Any] | None = field(default=None, hash=False)
    """What became of bytes that were dropped: their ``digest``, ``at`` which time, for which
    ``reason`` and by which ``agent``, as JSON types. See `Run.drop`."""
    refused: Provenance | None = field(default=None, compare=False)
    """Provenance that a call gave for this version and that was not recorded, because the version
    has other provenance already. Only results of `put`, `annotate` and `register_file` have it."""
    torn: bool = field(default=False, compare=False)
    """Whether the file changed each time this call read it. The version holds what was read last,
    which may be a mixture of two contents. Only results of `put` and `register_file` have it."""

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link; its bytes are then the link's target."""
        return is_link(self.mode)

    @property
    def provenance(self) -> Provenance:
        """Who made these bytes at this path."""
        return Provenance(
            self.phase, self.agent, self.node_id, self.step_id, self.event_id, self.code_hash
        )

    @property
    def content(self) -> Digest | None:
        """The digest of its bytes, dropped ones as well; None if they never were here."""
        return content_of(self.digest, self.dropped)

    @property
    def loss(self) -> str | None:
        """What became of its bytes, as a clause that names their digest; None if they are kept."""
        if self.digest is not None:
            return None
        if self.dropped is None:
            return "its bytes were never stored"
        return f"its bytes, blake3:{self.content}, were {how_dropped(self.dropped)}"

    @property
    def html_row(self) -> tuple[object, ...]:
        """The values of a table with the head `HTML_HEAD`."""
        what = ("link" if self.is_link else self.file_type, human_size(self.size), self.version)
        return (self.path, *what, self.agent, self.phase, self.node_id, self.created_at)

    def _repr_html_(self) -> str:
        from index.domain.html import paragraph, table  # only notebooks need it

        facts = {**dict(zip(HTML_HEAD, self.html_row, strict=True)), "digest": self.digest}
        facts |= {"step": self.step_id, "event": self.event_id, "code": self.code_hash}
        facts |= {"final": self.is_final_output or None, "meta": self.meta or None}
        known = [(name, value) for name, value in facts.items() if value is not None]
        return paragraph(f"run {self.run}", f"session {self.session}") + table(("", ""), known)

    def to_dict(self) -> dict[str, Any]:
        """Return the version as JSON types; `mode` is text in octal.

        `dropped`, `refused` and `torn` are there only if there is something to tell.
        """
        values = {**Result.to_dict(self), "mode": f"{self.mode:o}"}
        for name in ("dropped", "refused", "torn"):
            if not values[name]:
                del values[name]
        return values


class Skipped(NamedTuple):
    """A path that a scan or an import skipped, and the reason."""

    path: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the path and the reason as JSON types."""
        return self._asdict()


class LazyVersions:
    """File versions that are built on first access. Most of a scan's versions are never read."""

    __slots__ = ("_count", "_make", "_versions")

    def __init__(
        self,
        make: Callable[[], Iterable[FileVersion]],
        count: int | Callable[[], int] | None = None,
    ) -> None:
        self._make = make
        self._count = count
        self._versions: tuple[FileVersion, ...] | None = None

    @classmethod
    def ready(cls, versions: Iterable[FileVersion]) -> LazyVersions:
        """Wrap versions that exist already."""
        made = tuple(versions)
        return cls(lambda: made, len(made))

    def get(self) -> tuple[FileVersion, ...]:
        """Return the versions; the same tuple at each call."""
        if self._versions is None:
            self._versions = tuple(self._make())
        return self._versions

    def __len__(self) -> int:
        """Return the number of versions, without building them if it can be known."""
        if self._versions is not None or self._count is None:
            return len(self.get())
        return self._count() if callable(self._count) else self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyVersions) and self.get() == other.get()

    def __hash__(self) -> int:
        return hash(self.get())

    def __reduce__(self) -> tuple[object, ...]:
        return LazyVersions.ready, (self.get(),)


NO_VERSIONS: Final = LazyVersions.ready(())


@dataclass(frozen=True, slots=True)
class Snapshot(Result):
    """The state of a run after a scan, and the changes that the scan found.

    A scan without changes and notes makes no snapshot. Its result then has no changes, and the
    number of the newest snapshot, which still describes the work directory.
    """

    number: int
    """1, 2, … within the run; 0 is the empty state before the first snapshot."""
    provenance: Provenance
    created_at: datetime
    unchanged: int
    """Number of files that the scan found unchanged."""
    skipped: tuple[Skipped, ...]
    bytes_read: int
    bytes_stored: int
    """Bytes of the packs written for this snapshot."""
    recorded: bool = True
    """Whether the scan made this snapshot; False if nothing had changed."""
    filled: int = 0
    """Number of file versions whose missing provenance the scan supplied."""
    notes: Any = field(default=None, hash=False)  # perhaps a dict
    """What the caller noted of it: any JSON value."""
    torn: tuple[str, ...] = ()
    """Paths of files that changed each time they were read. Their versions hold what was read last,
    which may be a mixture of two contents."""
    hidden: int = 0
    """Number of entries that the scan passed over because their names begin with a dot. Like
    `ignored` and `absent` it is known only for the result of a scan, not for its past ones."""
    ignored: int = 0
    """Number of entries that the scan passed over for a pattern. A directory counts as one."""
    absent: tuple[str, ...] = ()
    """Scopes that do not exist. If none does, they are in `skipped` too."""
    lazy_added: LazyVersions = field(default=NO_VERSIONS, repr=False, compare=False)
    lazy_changed: LazyVersions = field(default=NO_VERSIONS, repr=False, compare=False)
    lazy_removed: LazyVersions = field(default=NO_VERSIONS, repr=False, compare=False)

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        with suppress(ArtifactIndexError):  # they are read now; the store may be closed
            counts = {
                "added": len(self.lazy_added),
                "changed": len(self.lazy_changed),
                "removed": len(self.lazy_removed),
            }
        counts |= {
            "unchanged": self.unchanged,
            "filled": self.filled,
            "skipped": len(self.skipped),
        }
        shown = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        made = "" if self.recorded else ", not made now"
        return f"<Snapshot {self.number}{made}: {shown or 'no files'}>"

    def _repr_html_(self) -> str:
        from index.domain.html import paragraph, table  # only notebooks need it

        changes = (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        rows = [(change, *each.html_row) for change, versions in changes for each in versions]
        made = [f"{name} {value}" for name, value in self.provenance.to_dict().items() if value]
        new = "" if self.recorded else "nothing new"
        skipped = f"{len(self.skipped)} skipped" if self.skipped else ""
        about = (new, self.created_at, *made, f"{human_size(self.bytes_stored)} stored", skipped)
        return paragraph(f"snapshot {self.number}", *about) + table(("", *HTML_HEAD), rows)

    @property
    def added(self) -> tuple[FileVersion, ...]:
        """Versions of new or returning paths, sorted by path."""
        return self.lazy_added.get()

    @property
    def changed(self) -> tuple[FileVersion, ...]:
        """New versions of paths that had other content before, sorted by path."""
        return self.lazy_changed.get()

    @property
    def removed(self) -> tuple[FileVersion, ...]:
        """Versions that ended without a successor, sorted by path."""
        return self.lazy_removed.get()

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as JSON types; its number is ``snapshot``."""
        return {
            "snapshot": self.number,
            "recorded": self.recorded,
            "created_at": to_json(self.created_at),
            **self.provenance.to_dict(),
            "added": to_json(self.added),
            "changed": to_json(self.changed),
            "removed": to_json(self.removed),
            "unchanged": self.unchanged,
            "filled": self.filled,
            "hidden": self.hidden,
            "ignored": self.ignored,
            "skipped": to_json(self.skipped),
            "torn": to_json(self.torn),
            "absent": to_json(self.absent),
            "notes": self.notes,
            "bytes_read": self.bytes_read,
            "bytes_stored": self.bytes_stored,
        }


At: TypeAlias = "int | Snapshot | str | None"
"""A snapshot as callers give it: itself, its number or its tag; None for the present state."""


def snapshot_number(at: At) -> int | None:
    """Return the number of a snapshot, given as a `Snapshot` or as its number."""
    number = at.number if isinstance(at, Snapshot) else at
    if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
        raise TypeError(f"a snapshot is given by itself, its tag or by its number, not as {at!r}")
    return number if number is None else storable(number)


def check_wanted(
    run: str, path: str | os.PathLike[str], version: int | None, at: At
) -> tuple[str, int | None, int | None]:
    """Return path, version and snapshot of a file to find in a run, as `Run.file` takes them.

    Raises TypeError, ValueError, UnsafePathError, and UnknownFileError for a version that no file
    can have.
    """
    clean = check_path(path)
    if version is not None and at is not None:
        raise ValueError("give a version or a snapshot, not both")
    if isinstance(version, bool) or not isinstance(version, int | None):
        raise TypeError(f"version is the number of a version, not {version!r}")
    if version is not None and not 0 < version <= MAX_ROW_ID:
        raise UnknownFileError(run, clean, storable(version))
    return clean, version, snapshot_number(at)


def assemble(
    snapshots: Iterable[Snapshot], versions: Iterable[FileVersion]
) -> tuple[Snapshot, ...]:
    """Return snapshots with the versions that each added, changed and removed.

    Parameters
    ----------
    snapshots
        The snapshots without changes, oldest first.
    versions
        Every file version of the run.
    """
    begun: defaultdict[int, list[FileVersion]] = defaultdict(list)
    ended: defaultdict[int, dict[str, FileVersion]] = defaultdict(dict)
    for version in sorted(versions, key=lambda version: version.path):
        begun[version.first_snapshot].append(version)
        if version.end_snapshot is not None:
            ended[version.end_snapshot][version.path] = version
    return tuple(_with_changes(each, begun[each.number], ended[each.number]) for each in snapshots)


class ChangeCounts(NamedTuple):
    """How many files a snapshot added, changed and removed."""

    added: int = 0
    changed: int = 0
    removed: int = 0


def with_lazy_changes(
    snapshot: Snapshot, load: Callable[[], Snapshot], count: Callable[[], ChangeCounts]
) -> Snapshot:
    """Return a snapshot whose changes are those of `load`, which is called at most once."""
    load = cache(load)
    return replace(
        snapshot,
        lazy_added=LazyVersions(lambda: load().added, lambda: count().added),
        lazy_changed=LazyVersions(lambda: load().changed, lambda: count().changed),
        lazy_removed=LazyVersions(lambda: load().removed, lambda: count().removed),
    )


def _with_changes(
    snapshot: Snapshot, begun: Sequence[FileVersion], ended: Mapping[str, FileVersion]
) -> Snapshot:
    paths = {version.path for version in begun}
    added = [version for version in begun if version.path not in ended]
    changed = [version for version in begun if version.path in ended]
    removed = [version for path, version in ended.items() if path not in paths]
    return replace(
        snapshot,
        lazy_added=LazyVersions.ready(added),
        lazy_changed=LazyVersions.ready(changed),
        lazy_removed=LazyVersions.ready(removed),
    )


_TYPE: Final = 0o170000
"""The bits for the type of a file. POSIX leaves the values open; Linux, the BSDs and macOS agree on
them."""


def is_link(mode: int) -> bool:
    """Whether a mode is that of a symbolic link.

    A damaged row may hold any integer, for which the functions of `stat` may raise OverflowError.
    """
    return mode & _TYPE == S_IFLNK
