"""The tables of the index.

All names begin with ``cas_``, so the tables can live in an application's own database. Ids from the
caller (session, run, node, step, event) are opaque strings, never foreign keys into other tables.

They are SQLAlchemy Core tables: importing its ORM takes longer than rescanning ten thousand files,
and the library does not need it. `index.models` maps classes onto the tables.
"""

from __future__ import annotations

import uuid
from typing import Final

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
)

from index.db.column_types import BigId, DigestColumn, JsonColumn, PathColumn, UtcDateTime
from index.db.table_parts import (
    OPAQUE_ID,
    PROVENANCE_COLUMNS,
    id_,
    partial_index,
    provenance,
    required,
)

__all__ = [
    "PROVENANCE_COLUMNS",
    "STATUS_COLUMNS",
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
    "tags",
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

# The storage that this index belongs to; one row.
store: Final = Table(
    "cas_store",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    required("store_id", String(36)),
    Column(
        "index_id",
        String(36),
        nullable=False,
        default=lambda: str(uuid.uuid4()),
        comment="A UUID; index.json in the storage names the index that it belongs to.",
    ),
    required("created_at", UtcDateTime),
    CheckConstraint("id = 1", name="one_row"),
)

sessions: Final = Table(
    "cas_sessions",
    metadata,
    id_(),
    required("name", OPAQUE_ID),
    required("created_at", UtcDateTime),
    UniqueConstraint("name"),
)

runs: Final = Table(
    "cas_runs",
    metadata,
    id_(),
    required("session_id", BigId, ForeignKey("cas_sessions.id", ondelete="CASCADE")),
    required("name", OPAQUE_ID),
    Column("parent_run_id", BigId, ForeignKey("cas_runs.id", ondelete="SET NULL")),
    Column("parent_snapshot", Integer),
    required(
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
    Column("status", String(16), comment="Null if nobody has said one."),
    Column("status_reason", String(255)),
    Column("started_at", UtcDateTime, comment="When it was last said to be running."),
    Column("ended_at", UtcDateTime, comment="When it was said to have ended; null if it runs."),
    required("created_at", UtcDateTime),
    UniqueConstraint("session_id", "name"),
    Index(None, "parent_run_id"),
    CheckConstraint("revision >= 0", name="revision"),
    CheckConstraint("status IN ('running', 'finished', 'failed', 'cancelled')", name="status"),
    # Ids are never reused, so a cached state of a deleted run can't match another run.
    sqlite_autoincrement=True,
)

snapshots: Final = Table(
    "cas_snapshots",
    metadata,
    id_(),
    required("run_id", BigId, ForeignKey("cas_runs.id", ondelete="CASCADE")),
    required("number", Integer),
    Column("scope", JsonColumn),
    required("unchanged", Integer),
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
    Column("notes", JsonColumn, comment="What the caller noted of it."),
    required("bytes_read", BigInteger),
    required("bytes_stored", BigInteger),
    required("created_at", UtcDateTime),
    *provenance(),
    UniqueConstraint("run_id", "number"),
    CheckConstraint("number >= 1", name="number"),
)

# Where the tags of a run point: each move is a row, and the newest of a name counts.
tags: Final = Table(
    "cas_tags",
    metadata,
    id_(),
    required("run_id", BigId, ForeignKey("cas_runs.id", ondelete="CASCADE")),
    required("position", Integer, comment="Counts the moves of all tags of the run."),
    required("name", String(64)),
    Column("snapshot", Integer, comment="What it names; a removed tag names nothing."),
    Column("path", PathColumn),
    Column("version", Integer),
    Column("agent", OPAQUE_ID, comment="Who said so."),
    required("created_at", UtcDateTime),
    UniqueConstraint("run_id", "position"),
    CheckConstraint("position >= 1", name="position"),
    CheckConstraint(
        "(path IS NULL) = (version IS NULL) AND (path IS NULL OR snapshot IS NULL)", name="named"
    ),
)

packs: Final = Table(
    "cas_packs",
    metadata,
    id_(),
    required("name", DigestColumn),
    required("size", BigInteger),
    required("state", String(8)),
    required("created_at", UtcDateTime),
    Column(
        "verified_at",
        UtcDateTime,
        comment="When every byte of the object was last found to be right.",
    ),
    UniqueConstraint("name"),
    CheckConstraint("state IN ('pending', 'live', 'dead')", name="state"),
    CheckConstraint("length(name) = 32", name="name"),
    partial_index("ix_cas_packs_not_live", "state", where="state != 'live'"),
)

# Bytes in the store: small blobs, chunks, large blobs of chunks, chunk lists, journal records.
blobs: Final = Table(
    "cas_blobs",
    metadata,
    required("digest", DigestColumn),
    required("size", BigInteger),
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
    required("created_at", UtcDateTime),
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
    partial_index("ix_cas_blobs_condemned", "condemned_at", where="condemned_at IS NOT NULL"),
    partial_index("ix_cas_blobs_damaged", "damaged_at", where="damaged_at IS NOT NULL"),
    sqlite_with_rowid=False,
)

# One piece of a large blob.
blob_chunks: Final = Table(
    "cas_blob_chunks",
    metadata,
    required("blob", DigestColumn, ForeignKey("cas_blobs.digest", ondelete="CASCADE")),
    Column("position", Integer, autoincrement=False, nullable=False),
    required("chunk", DigestColumn, ForeignKey("cas_blobs.digest")),
    PrimaryKeyConstraint("blob", "position"),
    CheckConstraint("position >= 0", name="position"),
    Index(None, "chunk"),
    sqlite_with_rowid=False,
)

# The blob that holds the chunk list of a large blob, so that the list outlives the index.
chunk_lists: Final = Table(
    "cas_chunk_lists",
    metadata,
    required("blob", DigestColumn, ForeignKey("cas_blobs.digest", ondelete="CASCADE")),
    required("list", DigestColumn, ForeignKey("cas_blobs.digest")),
    PrimaryKeyConstraint("blob"),
    Index(None, "list"),
    sqlite_with_rowid=False,
)

# Journal records: what commits left in storage, so that the index can be rebuilt.
records: Final = Table(
    "cas_records",
    metadata,
    id_(),
    Column(
        "run_id",
        BigId,
        ForeignKey("cas_runs.id", ondelete="CASCADE"),
        comment="Null for what outlives the runs that it tells of: deletions.",
    ),
    required("position", Integer),
    required("digest", DigestColumn, ForeignKey("cas_blobs.digest")),
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
    required("digest", DigestColumn, ForeignKey("cas_blobs.digest", ondelete="CASCADE")),
    required("session", OPAQUE_ID),
    required("run", OPAQUE_ID),
    Column("path", PathColumn),
    Column("agent", OPAQUE_ID),
    PrimaryKeyConstraint("digest"),
    sqlite_with_rowid=False,
)

# Backups of the index in storage.
backups: Final = Table(
    "cas_backups",
    metadata,
    id_(),
    required("digest", DigestColumn, ForeignKey("cas_blobs.digest")),
    required("record", DigestColumn, ForeignKey("cas_blobs.digest")),
    required("created_at", UtcDateTime),
    Index(None, "digest"),
    Index(None, "record"),
)

# A file version: this path held this digest from snapshot a until snapshot b.
files: Final = Table(
    "cas_files",
    metadata,
    id_(),
    required("run_id", BigId, ForeignKey("cas_runs.id", ondelete="CASCADE")),
    required("path", PathColumn),
    required("version", Integer),
    Column(
        "digest",
        DigestColumn,
        ForeignKey("cas_blobs.digest"),
        comment="Null for a record of bytes that were gone before this index was there.",
    ),
    required("size", BigInteger),
    required("mode", Integer, comment="st_mode: type and permission bits."),
    required("mtime_ns", BigInteger),
    required("file_type", String(32)),
    required("priority", String(16)),
    required("is_final_output", Boolean),
    required("created_at", UtcDateTime),
    required("first_snapshot", Integer),
    Column("end_snapshot", Integer, comment="Null while current."),
    required("appeared_in", Integer, comment="Snapshot of the path's first version."),
    Column("meta", JsonColumn),
    Column(
        "signature",
        LargeBinary(40),
        comment="Packed stat signature; null if the content must be hashed again.",
    ),
    required(
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
    *provenance(),
    UniqueConstraint("run_id", "path", "version"),
    partial_index(
        "uq_cas_files_current", "run_id", "path", where="end_snapshot IS NULL", unique=True
    ),
    partial_index("ix_cas_files_origin_id", "origin_id", where="origin_id IS NOT NULL"),
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
    required("run_id", BigId, ForeignKey("cas_runs.id", ondelete="CASCADE")),
    required("labels", DigestColumn, comment="Hash of the labels below, which may be null."),
    required("file_type", String(32)),
    required("priority", String(16)),
    required("is_final_output", Boolean),
    *provenance(),
    required("files", BigInteger, comment="Current versions."),
    required("bytes", BigInteger),
    required("versions", BigInteger, comment="Current and past versions."),
    required("version_bytes", BigInteger),
    required("distinct_bytes", BigInteger, comment="Of contents that the run had not before."),
    PrimaryKeyConstraint("run_id", "labels"),
    sqlite_with_rowid=False,
)

STATUS_COLUMNS: Final = ("status", "status_reason", "started_at", "ended_at")
"""Columns of a run that tell how it went."""

VERSION_COLUMNS: Final = tuple(
    column.name
    for column in files.c
    if column.name not in ("id", "run_id", "signature", "origin_id")
)
"""Columns of a file version that are the same in every index, path and version first. A signature
belongs to one host."""
