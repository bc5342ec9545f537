"""The records that commits leave in storage, as values and as bytes.

A record is JSON in UTF-8: an object whose ``op`` says which of the classes below it is. Its bytes
are an entry of a pack, of kind `cas.pack.EntryKind.RECORD`, named and verified by their digest.
Those of one run are a chain: each names the one before it. `docs/format.md` is normative.

A record is durable before the transaction that it tells of begins, as all bytes are. So there may
be records of commits that never arrived; `index.recovery.chains` tells which.
"""

from __future__ import annotations

import json
import uuid
from base64 import b64decode, b64encode
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from cas.digest import DIGEST_SIZE, Digest
from index.errors import DamagedRecordError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cas.digest import Buffer

__all__ = [
    "BackupEntry",
    "CommitEntry",
    "DeletionEntry",
    "Entry",
    "ForkEntry",
    "HistoryEntry",
    "NewFiles",
    "PartEntry",
    "RewindEntry",
    "RunEntry",
    "VersionsEntry",
    "decode",
    "encode",
]

RECORD_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class NewFiles:
    """Versions that begin with a commit, column by column, in the order of their ids."""

    paths: Sequence[str] = ()
    digests: Sequence[bytes] = ()
    sizes: Sequence[int] = ()
    modes: Sequence[int] = ()
    mtimes_ns: Sequence[int] = ()
    kinds: Sequence[Sequence[str]] = ()
    """Pairs of file type and priority."""
    kind_of: Sequence[int] = ()
    """For each path which of `kinds` it is."""

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What every record has."""

    op: ClassVar[str]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry(Entry):
    """A link of a run's chain."""

    session: str
    run: str
    previous: Digest | None
    """The record before it; of a fork, the newest one of the run that it stems from."""
    revision: int
    """The run's, once the commit has arrived: never the same for two commits that have."""
    replaces: Sequence[Digest] = ()
    """Records of attempts of the same which never arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitEntry(RunEntry):
    """A scan, a put or a registration; provenance that was filled in, notes that were changed."""

    op: ClassVar[str] = "commit"

    provenance: Mapping[str, str | None]
    snapshot: int | None
    """Number of the snapshot; None if the commit made none."""
    scope: Sequence[str] | None = None
    unchanged: int = 0
    skipped: Sequence[Sequence[str]] = ()
    """Pairs of path and reason."""
    bytes_read: int = 0
    files: NewFiles = field(default_factory=NewFiles)
    parts: Sequence[Digest] = ()
    """Records that hold more of `files`, where one would be too large."""
    seen_on_disk: bool = True
    is_final_output: bool = False
    meta: Any = None
    removed: Sequence[str] = ()
    filled: Sequence[str] = ()
    """Paths whose missing provenance is that of this commit."""
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Columns by path."""
    touched: Sequence[Sequence[Any]] = ()
    """Path, mode, mtime_ns and seen_on_disk of files whose content is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEntry(Entry):
    """More of the files of a commit."""

    op: ClassVar[str] = "part"

    files: NewFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindEntry(RunEntry):
    """A run that went back to what it held at a snapshot."""

    op: ClassVar[str] = "rewind"

    provenance: Mapping[str, str | None]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkEntry(RunEntry):
    """A run that begins with what another one held at a snapshot."""

    op: ClassVar[str] = "fork"

    parent: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry(RunEntry):
    """All of a run as it is, where its chain is not known: it begins a new one."""

    op: ClassVar[str] = "history"

    session_created_at: datetime
    run_created_at: datetime
    parent: str | None
    parent_snapshot: int | None
    snapshots: Sequence[Mapping[str, Any]]
    versions: int
    """How many there are in `parts`."""
    parts: Sequence[Digest] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsEntry(Entry):
    """Some versions of a history, each with its columns in the order of `columns`."""

    op: ClassVar[str] = "versions"

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionEntry(Entry):
    """Runs that were deleted."""

    op: ClassVar[str] = "delete"

    session: str
    runs: Sequence[Sequence[str | None]]
    """For each its name, the digest of its newest record as text, and when it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupEntry(Entry):
    """A copy of the index, an SQLite database, kept as a blob."""

    op: ClassVar[str] = "backup"

    digest: Digest
    size: int
    schema: str


_Kind: TypeAlias = type[Entry]

_KINDS: Final[Mapping[str, _Kind]] = {
    kind.op: kind
    for kind in (
        CommitEntry,
        PartEntry,
        RewindEntry,
        ForkEntry,
        HistoryEntry,
        VersionsEntry,
        DeletionEntry,
        BackupEntry,
    )
}


def encode(entry: Entry) -> bytes:
    """Return the bytes of a record: others at each call, so that no file has ever the same."""
    told: dict[str, Any] = {
        "version": RECORD_VERSION,
        "op": entry.op,
        "nonce": uuid.uuid4().hex,
    }
    for each in fields(entry):
        told[each.name] = _plain(getattr(entry, each.name))
    return json.dumps(told, separators=(",", ":")).encode()


def decode(data: Buffer) -> Entry:
    """Return what `encode` was given.

    Raises
    ------
    DamagedRecordError
        When these bytes are no record that this release knows.
    """
    try:
        told = json.loads(bytes(data))
        version, op = told["version"], told["op"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedRecordError(f"it is not an object with an operation: {error}") from error
    kind = _KINDS.get(op) if version == RECORD_VERSION else None
    if kind is None:
        raise DamagedRecordError(f"this release doesn't know its operation {op!r}, {version!r}")
    try:
        return kind(**{each.name: _value(each.name, told[each.name]) for each in fields(kind)})
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRecordError(f"a field of it is missing or wrong: {error}") from error


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a field holds
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, NewFiles):
        told = {each.name: getattr(value, each.name) for each in fields(value)}
        return told | {"digests": b64encode(b"".join(value.digests)).decode()}
    if isinstance(value, tuple | list) and value and isinstance(value[0], Digest):
        return [str(digest) for digest in value]
    return value


def _value(name: str, told: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if name in _DIGESTS:
        return None if told is None else Digest.parse(told)
    if name in _DIGEST_LISTS:
        return tuple(Digest.parse(text) for text in told)
    if name in _TIMES:
        return datetime.fromisoformat(told)
    if name == "files":
        return _files(told)
    return told


_DIGESTS: Final = frozenset(("previous", "digest"))
_DIGEST_LISTS: Final = frozenset(("parts", "replaces"))
_TIMES: Final = frozenset(("created_at", "session_created_at", "run_created_at"))


def _files(told: Mapping[str, Any]) -> NewFiles:
    joined = b64decode(told["digests"], validate=True)
    digests = [
        bytes.__new__(Digest, joined[at : at + DIGEST_SIZE])
        for at in range(0, len(joined), DIGEST_SIZE)
    ]
    files = NewFiles(**{**told, "digests": digests})
    columns = (
        files.digests, files.sizes, files.modes, files.mtimes_ns, files.kind_of,
    )  # fmt: skip
    if any(len(column) != len(files) for column in columns) or len(joined) % DIGEST_SIZE:
        raise ValueError("its columns are of different lengths")
    return files
