"""The records that commits leave in storage, as values and as bytes.

A record is JSON in UTF-8: an object whose ``op`` says which class it is, of those below or of
`index.journal.operations`; `index.journal.decoding` reads them. Its bytes are an entry of a pack,
of kind `cas.packs.pack.EntryKind.RECORD`, named and verified by their digest.
Those of one run are a chain: each names the one before it. `docs/format.md` is normative.

A record is durable before the transaction that it tells of begins, as all bytes are. So there may
be records of commits that never arrived; `index.recovery.chains` tells which.
"""

from __future__ import annotations

import json
import uuid
from base64 import b64encode
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cas.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "RECORD_VERSION",
    "CommitEntry",
    "Entry",
    "NewFiles",
    "PartEntry",
    "RunEntry",
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
