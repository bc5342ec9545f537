"""Create the tables.

Revision ID: 0001
Revises:

A revision is frozen history: it never imports `index`.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON_TEXT = sa.JSON().with_variant(sa.Text(), "sqlite")  # JSON has numeric affinity there
TIME = sa.DateTime(timezone=True)
PATH = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _required(
    name: str, type_: sa.types.TypeEngine[Any], comment: str | None = None
) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, comment=comment)


def _optional(
    name: str, type_: sa.types.TypeEngine[Any], comment: str | None = None
) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=True, comment=comment)


def _provenance() -> list[sa.Column[Any]]:
    names = ("workflow_phase", "generating_agent", "generating_code_hash", "node_id", "step_id")
    return [_optional(name, sa.String(255)) for name in (*names, "event_id")]


def _partial_index(
    name: str, table: str, columns: list[str], where: str, *, unique: bool = False
) -> None:
    condition = sa.text(where)
    op.create_index(
        name,
        table,
        columns,
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def upgrade() -> None:
    op.create_table(
        "cas_packs",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        _required("name", sa.LargeBinary(32)),
        _required("size", sa.BigInteger()),
        _required("state", sa.String(8)),
        _required("created_at", TIME),
        _optional("verified_at", TIME, "When every byte of the object was last found to be right."),
        sa.CheckConstraint("state IN ('pending', 'live', 'dead')", name=op.f("ck_cas_packs_state")),
        sa.CheckConstraint("length(name) = 32", name=op.f("ck_cas_packs_name")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_packs")),
        sa.UniqueConstraint("name", name=op.f("uq_cas_packs_name")),
    )
    _partial_index("ix_cas_packs_not_live", "cas_packs", ["state"], "state != 'live'")
    op.create_table(
        "cas_sessions",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        _required("name", sa.String(255)),
        _required("created_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_sessions")),
        sa.UniqueConstraint("name", name=op.f("uq_cas_sessions_name")),
    )
    op.create_table(
        "cas_store",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        _required("store_id", sa.String(36)),
        _required(
            "index_id",
            sa.String(36),
            "A UUID; index.json in the storage names the index that it belongs to.",
        ),
        _required("created_at", TIME),
        sa.CheckConstraint("id = 1", name=op.f("ck_cas_store_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_store")),
    )
    op.create_table(
        "cas_blobs",
        _required("digest", sa.LargeBinary(32)),
        _required("size", sa.BigInteger()),
        _optional("pack_id", BIG_ID, "Null for a large blob: its chunks have packs."),
        _optional("pack_offset", sa.BigInteger()),
        _optional("stored_size", sa.BigInteger()),
        _optional("codec", sa.Integer()),
        _optional(
            "frame_start", sa.Integer(), "Where it begins in a decoded shared frame; else 0."
        ),
        _optional("frame_size", sa.Integer(), "Decoded bytes of that shared frame; else 0."),
        _required("created_at", TIME),
        _optional("touched_at", TIME, "Last reuse by a later write."),
        _optional("condemned_at", TIME),
        _optional("verified_at", TIME),
        _optional("damaged_at", TIME, "When its bytes were found missing or wrong."),
        sa.CheckConstraint(
            "(pack_id IS NULL) = (pack_offset IS NULL) AND (pack_id IS NULL) = (stored_size IS NULL) AND (pack_id IS NULL) = (codec IS NULL) AND (pack_id IS NULL) = (frame_start IS NULL) AND (pack_id IS NULL) = (frame_size IS NULL)",
            name=op.f("ck_cas_blobs_location"),
        ),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_cas_blobs_digest")),
        sa.CheckConstraint("size >= 0", name=op.f("ck_cas_blobs_size")),
        sa.ForeignKeyConstraint(["pack_id"], ["cas_packs.id"], name=op.f("fk_cas_blobs_pack_id")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_cas_blobs")),
        sqlite_with_rowid=False,
    )
    _partial_index(
        "ix_cas_blobs_condemned", "cas_blobs", ["condemned_at"], "condemned_at IS NOT NULL"
    )
    _partial_index("ix_cas_blobs_damaged", "cas_blobs", ["damaged_at"], "damaged_at IS NOT NULL")
    op.create_index(op.f("ix_cas_blobs_pack_id"), "cas_blobs", ["pack_id"], unique=False)
    op.create_table(
        "cas_runs",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        _required("session_id", BIG_ID),
        _required("name", sa.String(255)),
        _optional("parent_run_id", BIG_ID),
        _optional("parent_snapshot", sa.Integer()),
        _required(
            "revision",
            sa.Integer(),
            "Goes up by one with every commit that changes the run; scans compare and swap it.",
        ),
        _optional(
            "newest_record",
            sa.LargeBinary(32),
            "The end of its chain in cas_records; null if that lacks something of the run.",
        ),
        _optional(
            "work_dir",
            PATH,
            "The directory of its newest scan; null before the first one, also of a fork.",
        ),
        _optional("status", sa.String(16), "Null if nobody has said one."),
        _optional("status_reason", sa.String(255)),
        _optional("started_at", TIME, "When it was last said to be running."),
        _optional("ended_at", TIME, "When it was said to have ended; null if it runs."),
        _required("created_at", TIME),
        sa.CheckConstraint("revision >= 0", name=op.f("ck_cas_runs_revision")),
        sa.CheckConstraint(
            "status IN ('running', 'finished', 'failed', 'cancelled')",
            name=op.f("ck_cas_runs_status"),
        ),
        sa.ForeignKeyConstraint(
            ["parent_run_id"],
            ["cas_runs.id"],
            name=op.f("fk_cas_runs_parent_run_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["cas_sessions.id"],
            name=op.f("fk_cas_runs_session_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_runs")),
        sa.UniqueConstraint("session_id", "name", name=op.f("uq_cas_runs_session_id_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_cas_runs_parent_run_id"), "cas_runs", ["parent_run_id"], unique=False)
    op.create_table(
        "cas_blob_chunks",
        _required("blob", sa.LargeBinary(32)),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        _required("chunk", sa.LargeBinary(32)),
        sa.CheckConstraint("position >= 0", name=op.f("ck_cas_blob_chunks_position")),
        sa.ForeignKeyConstraint(
            ["blob"], ["cas_blobs.digest"], name=op.f("fk_cas_blob_chunks_blob"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["chunk"], ["cas_blobs.digest"], name=op.f("fk_cas_blob_chunks_chunk")
        ),
        sa.PrimaryKeyConstraint("blob", "position", name=op.f("pk_cas_blob_chunks")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_cas_blob_chunks_chunk"), "cas_blob_chunks", ["chunk"], unique=False)
    op.create_table(
        "cas_chunk_lists",
        _required("blob", sa.LargeBinary(32)),
        _required("list", sa.LargeBinary(32)),
        sa.ForeignKeyConstraint(
            ["blob"], ["cas_blobs.digest"], name=op.f("fk_cas_chunk_lists_blob"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["list"], ["cas_blobs.digest"], name=op.f("fk_cas_chunk_lists_list")
        ),
        sa.PrimaryKeyConstraint("blob", name=op.f("pk_cas_chunk_lists")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_cas_chunk_lists_list"), "cas_chunk_lists", ["list"], unique=False)
    op.create_table(
        "cas_records",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        _optional("run_id", BIG_ID, "Null for what outlives the runs that it tells of: deletions."),
        _required("position", sa.Integer()),
        _required("digest", sa.LargeBinary(32)),
        sa.CheckConstraint("position >= 1", name=op.f("ck_cas_records_position")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["cas_runs.id"], name=op.f("fk_cas_records_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["digest"], ["cas_blobs.digest"], name=op.f("fk_cas_records_digest")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_records")),
        sa.UniqueConstraint("run_id", "position", name=op.f("uq_cas_records_run_id_position")),
    )
    op.create_index(op.f("ix_cas_records_digest"), "cas_records", ["digest"], unique=False)
    op.create_table(
        "cas_backups",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        _required("digest", sa.LargeBinary(32)),
        _required("record", sa.LargeBinary(32)),
        _required("created_at", TIME),
        sa.ForeignKeyConstraint(
            ["digest"], ["cas_blobs.digest"], name=op.f("fk_cas_backups_digest")
        ),
        sa.ForeignKeyConstraint(
            ["record"], ["cas_blobs.digest"], name=op.f("fk_cas_backups_record")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_backups")),
    )
    op.create_index(op.f("ix_cas_backups_digest"), "cas_backups", ["digest"], unique=False)
    op.create_index(op.f("ix_cas_backups_record"), "cas_backups", ["record"], unique=False)
    op.create_table(
        "cas_released",
        _required("digest", sa.LargeBinary(32)),
        _required("session", sa.String(255)),
        _required("run", sa.String(255)),
        _optional("path", PATH),
        _optional("agent", sa.String(255)),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["cas_blobs.digest"],
            name=op.f("fk_cas_released_digest"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_cas_released")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cas_files",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        _required("run_id", BIG_ID),
        _required("path", PATH),
        _required("version", sa.Integer()),
        _optional(
            "digest",
            sa.LargeBinary(32),
            "Null for a record of bytes that were gone before this index was there.",
        ),
        _required("size", sa.BigInteger()),
        _required("mode", sa.Integer(), "st_mode: type and permission bits."),
        _required("mtime_ns", sa.BigInteger()),
        _required("file_type", sa.String(32)),
        _required("priority", sa.String(16)),
        _required("is_final_output", sa.Boolean()),
        _required("created_at", TIME),
        _required("first_snapshot", sa.Integer()),
        _optional("end_snapshot", sa.Integer(), "Null while current."),
        _required("appeared_in", sa.Integer(), "Snapshot of the path's first version."),
        _optional("meta", JSON_TEXT),
        _optional(
            "signature",
            sa.LargeBinary(length=40),
            "Packed stat signature; null if the content must be hashed again.",
        ),
        _required(
            "seen_by",
            sa.BigInteger(),
            "The scans that saw it on disk, as bits: bit n stands for scans whose prefix has n names. Only to these does absence mean removal.",
        ),
        _optional(
            "origin_id",
            BIG_ID,
            "The produced version that a fork or rewind copied here; it may be deleted. Null for a produced one.",
        ),
        *_provenance(),
        sa.CheckConstraint(
            "priority IN ('primary', 'secondary', 'internal')", name=op.f("ck_cas_files_priority")
        ),
        sa.CheckConstraint("end_snapshot > first_snapshot", name=op.f("ck_cas_files_snapshots")),
        sa.CheckConstraint("origin_id <> id", name=op.f("ck_cas_files_origin")),
        sa.CheckConstraint("size >= 0", name=op.f("ck_cas_files_size")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_cas_files_version")),
        sa.CheckConstraint(
            "digest IS NOT NULL OR end_snapshot IS NOT NULL",
            name=op.f("ck_cas_files_current_has_bytes"),
        ),
        sa.ForeignKeyConstraint(["digest"], ["cas_blobs.digest"], name=op.f("fk_cas_files_digest")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["cas_runs.id"], name=op.f("fk_cas_files_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_files")),
        sa.UniqueConstraint(
            "run_id", "path", "version", name=op.f("uq_cas_files_run_id_path_version")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_cas_files_digest_run_id"), "cas_files", ["digest", "run_id"], unique=False
    )
    _partial_index("ix_cas_files_origin_id", "cas_files", ["origin_id"], "origin_id IS NOT NULL")
    _partial_index(
        "uq_cas_files_current", "cas_files", ["run_id", "path"], "end_snapshot IS NULL", unique=True
    )
    op.create_table(
        "cas_snapshots",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        _required("run_id", BIG_ID),
        _required("number", sa.Integer()),
        _optional("scope", JSON_TEXT),
        _required("unchanged", sa.Integer()),
        _optional("skipped", JSON_TEXT, "List of [path, reason]; null if nothing was skipped."),
        _optional(
            "torn", JSON_TEXT, "Paths of files that changed while they were read; null if none did."
        ),
        _optional("notes", JSON_TEXT, "What the caller noted of it."),
        _required("bytes_read", sa.BigInteger()),
        _required("bytes_stored", sa.BigInteger()),
        _required("created_at", TIME),
        *_provenance(),
        sa.CheckConstraint("number >= 1", name=op.f("ck_cas_snapshots_number")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["cas_runs.id"], name=op.f("fk_cas_snapshots_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_snapshots")),
        sa.UniqueConstraint("run_id", "number", name=op.f("uq_cas_snapshots_run_id_number")),
    )
    op.create_table(
        "cas_tags",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        _required("run_id", BIG_ID),
        _required("position", sa.Integer(), "Counts the moves of all tags of the run."),
        _required("name", sa.String(64)),
        _optional("snapshot", sa.Integer(), "What it names; a removed tag names nothing."),
        _optional("path", PATH),
        _optional("version", sa.Integer()),
        _optional("agent", sa.String(255), "Who said so."),
        _required("created_at", TIME),
        sa.CheckConstraint("position >= 1", name=op.f("ck_cas_tags_position")),
        sa.CheckConstraint(
            "(path IS NULL) = (version IS NULL) AND (path IS NULL OR snapshot IS NULL)",
            name=op.f("ck_cas_tags_named"),
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["cas_runs.id"], name=op.f("fk_cas_tags_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_tags")),
        sa.UniqueConstraint("run_id", "position", name=op.f("uq_cas_tags_run_id_position")),
    )
    op.create_table(
        "cas_counts",
        _required("run_id", BIG_ID),
        _required("labels", sa.LargeBinary(32), "Hash of the labels below, which may be null."),
        _required("file_type", sa.String(32)),
        _required("priority", sa.String(16)),
        _required("is_final_output", sa.Boolean()),
        *_provenance(),
        _required("files", sa.BigInteger(), "Current versions."),
        _required("bytes", sa.BigInteger()),
        _required("versions", sa.BigInteger(), "Current and past versions."),
        _required("version_bytes", sa.BigInteger()),
        _required("distinct_bytes", sa.BigInteger(), "Of contents that the run had not before."),
        sa.ForeignKeyConstraint(
            ["run_id"], ["cas_runs.id"], name=op.f("fk_cas_counts_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "labels", name=op.f("pk_cas_counts")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("cas_counts")
    op.drop_table("cas_tags")
    op.drop_table("cas_snapshots")
    op.drop_table("cas_files")
    op.drop_table("cas_released")
    op.drop_table("cas_backups")
    op.drop_table("cas_records")
    op.drop_table("cas_chunk_lists")
    op.drop_table("cas_blob_chunks")
    op.drop_table("cas_runs")
    op.drop_table("cas_blobs")
    op.drop_table("cas_store")
    op.drop_table("cas_sessions")
    op.drop_table("cas_packs")
