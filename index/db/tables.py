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
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from index.db.blob_tables import backups, blob_chunks, blobs, chunk_lists, packs, released
from index.db.column_types import BigId, DigestColumn, JsonColumn, PathColumn, UtcDateTime
from index.db.hold_table import holds
from index.db.table_parts import (
    OPAQUE_ID,
    PROVENANCE_COLUMNS,
    id_,
    metadata,
    partial_index,
    provenance,
    required,
)
from index.db.tag_tables import run_tags, tags

__all__ = [
    "DESCRIPTION_COLUMNS",
    "PROVENANCE_COLUMNS",
    "STATUS_COLUMNS",
    "VERSION_COLUMNS",
    "backups",
    "blob_chunks",
    "blobs",
    "chunk_lists",
    "counts",
    "files",
    "holds",
    "inputs",
    "metadata",
    "packs",
    "records",
    "released",
    "run_tags",
    "runs",
    "sessions",
    "snapshots",
    "store",
    "tags",
]

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
    Column("quota_bytes", BigInteger, comment="Null without a quota."),
    UniqueConstraint("name"),
    CheckConstraint("quota_bytes >= 0", name="quota_bytes"),
)

runs: Final = Table(
    "cas_runs",
    metadata,
    id_(),
    required("session_id", BigId, ForeignKey("cas_sessions.id", ondelete="CASCADE")),
    required("name", OPAQUE_ID),
    Column("forked_from_id", BigId, ForeignKey("cas_runs.id", ondelete="SET NULL")),
    Column("forked_snapshot", Integer),
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
    Column(
        "parent",
        OPAQUE_ID,
        comment="The run of the session that it is a part of, which need not be there yet; empty if"
        " that was taken back.",
    ),
    Column("notes", JsonColumn, comment="What callers noted of it: an object."),
    required("created_at", UtcDateTime),
    UniqueConstraint("session_id", "name"),
    Index(None, "forked_from_id"),
    partial_index("ix_cas_runs_parent", "session_id", "parent", where="parent IS NOT NULL"),
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

# What the nodes, steps and agents of a run have read. A row refers to bytes by digest alone, so it
# keeps none alive, and it stays when the version it names is deleted.
inputs: Final = Table(
    "cas_inputs",
    metadata,
    id_(),
    required("run_id", BigId, ForeignKey("cas_runs.id", ondelete="CASCADE")),
    required("position", Integer, comment="Counts the inputs of the run."),
    required("digest", DigestColumn),
    Column("size", BigInteger, comment="Null for a reference of unknown size."),
    Column(
        "source_run",
        OPAQUE_ID,
        comment="The run of the version below; null if it is this run, or none is known.",
    ),
    Column("path", PathColumn),
    Column("version", Integer),
    Column("uri", Text, comment="Where bytes outside of the store were read."),
    required("snapshot", Integer, comment="The newest one of the run at that time, or 0."),
    required("is_copy", Boolean, comment="Whether a fork copied it from the parent run."),
    required("created_at", UtcDateTime),
    *provenance(),
    UniqueConstraint("run_id", "position"),
    Index(None, "digest", "run_id"),
    Index(None, "run_id", "node_id"),
    CheckConstraint("position >= 1", name="position"),
    CheckConstraint("length(digest) = 32", name="digest"),
    CheckConstraint("size >= 0", name="size"),
    CheckConstraint(
        "(path IS NULL) = (version IS NULL) AND (path IS NULL OR uri IS NULL)"
        " AND (source_run IS NULL OR path IS NOT NULL)",
        name="source",
    ),
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
        comment="Null if the bytes were dropped, or gone before this index was there.",
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
        "dropped",
        JsonColumn,
        comment="What became of bytes that were dropped: their digest, when, why and by whom.",
    ),
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
    partial_index("ix_cas_files_meta", "run_id", "path", "version", where="meta IS NOT NULL"),
    Index(None, "digest", "run_id"),
    # For lineage alone: a listing of the files of a node does not imply the condition, and goes on
    # in the order of paths.
    partial_index(
        "ix_cas_files_made_by",
        "run_id",
        "node_id",
        where="node_id IS NOT NULL AND origin_id IS NULL",
    ),
    CheckConstraint("version >= 1", name="version"),
    CheckConstraint("digest IS NOT NULL OR end_snapshot IS NOT NULL", name="current_has_bytes"),
    CheckConstraint("digest IS NULL OR dropped IS NULL", name="dropped"),
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

DESCRIPTION_COLUMNS: Final = (*STATUS_COLUMNS, "parent", "notes")
"""Columns of a run that tell what its callers said of it."""

VERSION_COLUMNS: Final = tuple(
    column.name
    for column in files.c
    if column.name not in ("id", "run_id", "signature", "origin_id")
)
"""Columns of a file version that are the same in every index, path and version first. A signature
belongs to one host."""
