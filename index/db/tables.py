"""The tables of the index.

All names begin with ``cas_``, so the tables can live in an application's own database. Ids from the
caller (session, run, node, step, event) are opaque strings, never foreign keys into other tables.

They are SQLAlchemy Core tables: importing its ORM takes longer than rescanning ten thousand files,
and the library does not need it. `index.models` maps classes onto the tables.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    text,
)

from index.db.column_types import BigId, DigestColumn, JsonColumn, PathColumn, UtcDateTime

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

__all__ = [
    "PROVENANCE_COLUMNS",
    "VERSION_COLUMNS",
    "backups",
    "blob_chunks",
    "blobs",
    "chunk_lists",
    "counts",
    "files",
    "metadata",
    "packs",
    "records",
    "released",
    "runs",
    "sessions",
    "snapshots",
    "store",
]

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

OPAQUE_ID: Final = String(255)

PROVENANCE_COLUMNS: Final = {
    "phase": "workflow_phase",
    "agent": "generating_agent",
    "code_hash": "generating_code_hash",
    "node_id": "node_id",
    "step_id": "step_id",
    "event_id": "event_id",
}
"""Columns by attribute of `Provenance`. The column names follow the specification."""


def _id() -> Column[int]:
    return Column("id", BigId, primary_key=True, autoincrement=True)


def _required(
    name: str,
    type_: TypeEngine[Any] | type[TypeEngine[Any]],
    *keys: ForeignKey,
    comment: str | None = None,
) -> Column[Any]:
    return Column(name, type_, *keys, nullable=False, comment=comment)


def _provenance() -> list[Column[Any]]:
    """Return the provenance columns."""
    return [Column(name, OPAQUE_ID) for name in PROVENANCE_COLUMNS.values()]


def _partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """Return an index of the rows that fulfil a condition.

    Only the migration has the condition for PostgreSQL, because it makes the tables there. Here it
    would import that dialect into every command, which takes a fifteenth of a command's run time.
    """
    return Index(name, *columns, unique=unique, sqlite_where=text(where))


# The storage that this index belongs to; one row.
store: Final = Table(
    "cas_store",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _required("store_id", String(36)),
    Column(
        "index_id",
        String(36),
        nullable=False,
        default=lambda: str(uuid.uuid4()),
        comment="A UUID; index.json in the storage names the index that it belongs to.",
    ),
    _required("created_at", UtcDateTime),
    CheckConstraint("id = 1", name="one_row"),
)

sessions: Final = Table(
    "cas_sessions",
    metadata,
    _id(),
    _required("name", OPAQUE_ID),
    _required("created_at", UtcDateTime),
    UniqueConstraint("name"),
)

runs: Final = Table(
    "cas_runs",
    metadata,
    _id(),
    _required("session_id", BigId, ForeignKey("cas_sessions.id", ondelete="CASCADE")),
    _required("name", OPAQUE_ID),
    Column("parent_run_id", BigId, ForeignKey("cas_runs.id", ondelete="SET NULL")),
    Column("parent_snapshot", Integer),
    _required(
        "revision",
        Integer,
        comment="Goes up by one with every commit that changes the run; scans compare and swap it.",
    ),
    Column(
        "newest_record",
        DigestColumn,
        comment="The end of its chain in cas_records; null if that lacks something of the run.",
    ),
    Column(
        "work_dir",
        PathColumn,
        comment="The directory of its newest scan; null before the first one, also of a fork.",
    ),
    _required("created_at", UtcDateTime),
    UniqueConstraint("session_id", "name"),
    Index(None, "parent_run_id"),
    CheckConstraint("revision >= 0", name="revision"),
    # Ids are never reused, so a cached state of a deleted run can't match another run.
    sqlite_autoincrement=True,
)

snapshots: Final = Table(
    "cas_snapshots",
    metadata,
    _id(),
    _required("run_id", BigId, ForeignKey("cas_runs.id", ondelete="CASCADE")),
    _required("number", Integer),
    Column("scope", JsonColumn),
    _required("unchanged", Integer),
    Column(
        "skipped",
        JsonColumn,
        comment="List of [path, reason]; null if nothing was skipped.",
    ),
    Column(
        "torn",
        JsonColumn,
        comment="Paths of files that changed while they were read; null if none did.",
    ),
    _required("bytes_read", BigInteger),
    _required("bytes_stored", BigInteger),
    _required("created_at", UtcDateTime),
    *_provenance(),
    UniqueConstraint("run_id", "number"),
    CheckConstraint("number >= 1", name="number"),
)

packs: Final = Table(
    "cas_packs",
    metadata,
    _id(),
    _required("name", DigestColumn),
    _required("size", BigInteger),
    _required("state", String(8)),
    _required("created_at", UtcDateTime),
    Column(
        "verified_at",
        UtcDateTime,
        comment="When every byte of the object was last found to be right.",
    ),
    UniqueConstraint("name"),
    CheckConstraint("state IN ('pending', 'live', 'dead')", name="state"),
    CheckConstraint("length(name) = 32", name="name"),
    _partial_index("ix_cas_packs_not_live", "state", where="state != 'live'"),
)

# Bytes in the store: small blobs, chunks, large blobs of chunks, chunk lists, journal records.
blobs: Final = Table(
    "cas_blobs",
    metadata,
    _required("digest", DigestColumn),
    _required("size", BigInteger),
    Column(
        "pack_id",
        BigId,
        ForeignKey("cas_packs.id"),
        comment="Null for a large blob: its chunks have packs.",
    ),
    Column("pack_offset", BigInteger),
    Column("stored_size", BigInteger),
    Column("codec", Integer),
    Column("frame_start", Integer, comment="Where it begins in a decoded shared frame; else 0."),
    Column("frame_size", Integer, comment="Decoded bytes of that shared frame; else 0."),
    _required("created_at", UtcDateTime),
    Column("touched_at", UtcDateTime, comment="Last reuse by a later write."),
    Column("condemned_at", UtcDateTime),
    Column("verified_at", UtcDateTime),
    Column("damaged_at", UtcDateTime, comment="When its bytes were found missing or wrong."),
    PrimaryKeyConstraint("digest"),
    CheckConstraint("length(digest) = 32", name="digest"),
    CheckConstraint("size >= 0", name="size"),
    CheckConstraint(
        "(pack_id IS NULL) = (pack_offset IS NULL)"
        " AND (pack_id IS NULL) = (stored_size IS NULL)"
        " AND (pack_id IS NULL) = (codec IS NULL)"
        " AND (pack_id IS NULL) = (frame_start IS NULL)"
        " AND (pack_id IS NULL) = (frame_size IS NULL)",
        name="location",
    ),
    Index(None, "pack_id"),
    _partial_index("ix_cas_blobs_condemned", "condemned_at", where="condemned_at IS NOT NULL"),
    _partial_index("ix_cas_blobs_damaged", "damaged_at", where="damaged_at IS NOT NULL"),
    sqlite_with_rowid=False,
)

# One piece of a large blob.
blob_chunks: Final = Table(
    "cas_blob_chunks",
    metadata,
    _required("blob", DigestColumn, ForeignKey("cas_blobs.digest", ondelete="CASCADE")),
    Column("position", Integer, autoincrement=False, nullable=False),
    _required("chunk", DigestColumn, ForeignKey("cas_blobs.digest")),
    PrimaryKeyConstraint("blob", "position"),
    CheckConstraint("position >= 0", name="position"),
    Index(None, "chunk"),
    sqlite_with_rowid=False,
)

# The blob that holds the chunk list of a large blob, so that the list outlives the index.
chunk_lists: Final = Table(
    "cas_chunk_lists",
    metadata,
    _required("blob", DigestColumn, ForeignKey("cas_blobs.digest", ondelete="CASCADE")),
    _required("list", DigestColumn, ForeignKey("cas_blobs.digest")),
    PrimaryKeyConstraint("blob"),
    Index(None, "list"),
    sqlite_with_rowid=False,
)

# Journal records: what commits left in storage, so that the index can be rebuilt.
records: Final = Table(
    "cas_records",
    metadata,
    _id(),
    Column(
        "run_id",
        BigId,
        ForeignKey("cas_runs.id", ondelete="CASCADE"),
        comment="Null for what outlives the runs that it tells of: deletions.",
    ),
    _required("position", Integer),
    _required("digest", DigestColumn, ForeignKey("cas_blobs.digest")),
    UniqueConstraint("run_id", "position"),
    Index(None, "digest"),
    CheckConstraint("position >= 1", name="position"),
)

# The last owner of a blob that nothing refers to any more, because runs were deleted. Only reports
# of garbage collection show it, to the owner of the store. The row is deleted with the blob. A
# journal record of a run has no path.
released: Final = Table(
    "cas_released",
    metadata,
    _required("digest", DigestColumn, ForeignKey("cas_blobs.digest", ondelete="CASCADE")),
    _required("session", OPAQUE_ID),
    _required("run", OPAQUE_ID),
    Column("path", PathColumn),
    Column("agent", OPAQUE_ID),
    PrimaryKeyConstraint("digest"),
    sqlite_with_rowid=False,
)

# Backups of the index in storage.
backups: Final = Table(
    "cas_backups",
    metadata,
    _id(),
    _required("digest", DigestColumn, ForeignKey("cas_blobs.digest")),
    _required("record", DigestColumn, ForeignKey("cas_blobs.digest")),
    _required("created_at", UtcDateTime),
    Index(None, "digest"),
    Index(None, "record"),
)

# A file version: this path held this digest from snapshot a until snapshot b.
files: Final = Table(
    "cas_files",
    metadata,
    _id(),
    _required("run_id", BigId, ForeignKey("cas_runs.id", ondelete="CASCADE")),
    _required("path", PathColumn),
    _required("version", Integer),
    Column(
        "digest",
        DigestColumn,
        ForeignKey("cas_blobs.digest"),
        comment="Null for a record of bytes that were gone before this index was there.",
    ),
    _required("size", BigInteger),
    _required("mode", Integer, comment="st_mode: type and permission bits."),
    _required("mtime_ns", BigInteger),
    _required("file_type", String(32)),
    _required("priority", String(16)),
    _required("is_final_output", Boolean),
    _required("created_at", UtcDateTime),
    _required("first_snapshot", Integer),
    Column("end_snapshot", Integer, comment="Null while current."),
    _required("appeared_in", Integer, comment="Snapshot of the path's first version."),
    Column("meta", JsonColumn),
    Column(
        "signature",
        LargeBinary(40),
        comment="Packed stat signature; null if the content must be hashed again.",
    ),
    _required(
        "seen_by",
        BigInteger,
        comment="The scans that saw it on disk, as bits: bit n stands for scans whose prefix has n"
        " names. Only to these does absence mean removal.",
    ),
    Column(
        "origin_id",
        BigId,
        comment="The produced version that a fork or rewind copied here; it may be deleted. "
        "Null for a produced one.",
    ),
    *_provenance(),
    UniqueConstraint("run_id", "path", "version"),
    _partial_index(
        "uq_cas_files_current", "run_id", "path", where="end_snapshot IS NULL", unique=True
    ),
    _partial_index("ix_cas_files_origin_id", "origin_id", where="origin_id IS NOT NULL"),
    Index(None, "digest", "run_id"),
    CheckConstraint("version >= 1", name="version"),
    CheckConstraint("digest IS NOT NULL OR end_snapshot IS NOT NULL", name="current_has_bytes"),
    CheckConstraint("size >= 0", name="size"),
    CheckConstraint("end_snapshot > first_snapshot", name="snapshots"),
    CheckConstraint("origin_id <> id", name="origin"),
    CheckConstraint("priority IN ('primary', 'secondary', 'internal')", name="priority"),
    sqlite_autoincrement=True,
)

# How many versions of a run have the same labels.
counts: Final = Table(
    "cas_counts",
    metadata,
    _required("run_id", BigId, ForeignKey("cas_runs.id", ondelete="CASCADE")),
    _required("labels", DigestColumn, comment="Hash of the labels below, which may be null."),
    _required("file_type", String(32)),
    _required("priority", String(16)),
    _required("is_final_output", Boolean),
    *_provenance(),
    _required("files", BigInteger, comment="Current versions."),
    _required("bytes", BigInteger),
    _required("versions", BigInteger, comment="Current and past versions."),
    _required("version_bytes", BigInteger),
    _required("distinct_bytes", BigInteger, comment="Of contents that the run had not before."),
    PrimaryKeyConstraint("run_id", "labels"),
    sqlite_with_rowid=False,
)

VERSION_COLUMNS: Final = tuple(
    column.name
    for column in files.c
    if column.name not in ("id", "run_id", "signature", "origin_id")
)
"""Columns of a file version that are the same in every index, path and version first. A signature
belongs to one host."""
