"""Create the tables.

Revision ID: 0001
Revises:

A revision is frozen history: it never imports `index`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON_TEXT = sa.JSON().with_variant(sa.Text(), "sqlite")  # JSON has numeric affinity there
PATH = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "cas_packs",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.LargeBinary(32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "verified_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When every byte of the object was last found to be right.",
        ),
        sa.CheckConstraint("state IN ('pending', 'live', 'dead')", name=op.f("ck_cas_packs_state")),
        sa.CheckConstraint("length(name) = 32", name=op.f("ck_cas_packs_name")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_packs")),
        sa.UniqueConstraint("name", name=op.f("uq_cas_packs_name")),
    )
    op.create_index(
        "ix_cas_packs_not_live",
        "cas_packs",
        ["state"],
        unique=False,
        sqlite_where=sa.text("state != 'live'"),
        postgresql_where=sa.text("state != 'live'"),
    )
    op.create_table(
        "cas_sessions",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_sessions")),
        sa.UniqueConstraint("name", name=op.f("uq_cas_sessions_name")),
    )
    op.create_table(
        "cas_store",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("store_id", sa.String(length=36), nullable=False),
        sa.Column(
            "index_id",
            sa.String(length=36),
            nullable=False,
            comment="A UUID; index.json in the storage names the index that it belongs to.",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_cas_store_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_store")),
    )
    op.create_table(
        "cas_blobs",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column(
            "pack_id",
            BIG_ID,
            nullable=True,
            comment="Null for a large blob: its chunks have packs.",
        ),
        sa.Column("pack_offset", sa.BigInteger(), nullable=True),
        sa.Column("stored_size", sa.BigInteger(), nullable=True),
        sa.Column("codec", sa.Integer(), nullable=True),
        sa.Column(
            "frame_start",
            sa.Integer(),
            nullable=True,
            comment="Where it begins in a decoded shared frame; else 0.",
        ),
        sa.Column(
            "frame_size",
            sa.Integer(),
            nullable=True,
            comment="Decoded bytes of that shared frame; else 0.",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "touched_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Last reuse by a later write.",
        ),
        sa.Column("condemned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "damaged_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When its bytes were found missing or wrong.",
        ),
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
    op.create_index(
        "ix_cas_blobs_condemned",
        "cas_blobs",
        ["condemned_at"],
        unique=False,
        sqlite_where=sa.text("condemned_at IS NOT NULL"),
        postgresql_where=sa.text("condemned_at IS NOT NULL"),
    )
    op.create_index(
        "ix_cas_blobs_damaged",
        "cas_blobs",
        ["damaged_at"],
        unique=False,
        sqlite_where=sa.text("damaged_at IS NOT NULL"),
        postgresql_where=sa.text("damaged_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_cas_blobs_pack_id"), "cas_blobs", ["pack_id"], unique=False)
    op.create_table(
        "cas_runs",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("session_id", BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("parent_run_id", BIG_ID, nullable=True),
        sa.Column("parent_snapshot", sa.Integer(), nullable=True),
        sa.Column(
            "revision",
            sa.Integer(),
            nullable=False,
            comment="Goes up by one with every commit that changes the run; scans compare and swap it.",
        ),
        sa.Column(
            "newest_record",
            sa.LargeBinary(32),
            nullable=True,
            comment="The end of its chain in cas_records; null if that lacks something of the run.",
        ),
        sa.Column(
            "work_dir",
            PATH,
            nullable=True,
            comment="The directory of its newest scan; null before the first one, also of a fork.",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("revision >= 0", name=op.f("ck_cas_runs_revision")),
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
        sa.Column("blob", sa.LargeBinary(32), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("chunk", sa.LargeBinary(32), nullable=False),
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
        sa.Column("blob", sa.LargeBinary(32), nullable=False),
        sa.Column("list", sa.LargeBinary(32), nullable=False),
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
        sa.Column(
            "run_id",
            BIG_ID,
            nullable=True,
            comment="Null for what outlives the runs that it tells of: deletions.",
        ),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
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
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("record", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
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
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("session", sa.String(255), nullable=False),
        sa.Column("run", sa.String(255), nullable=False),
        sa.Column("path", PATH, nullable=True),
        sa.Column("agent", sa.String(255), nullable=True),
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
        sa.Column("run_id", BIG_ID, nullable=False),
        sa.Column("path", PATH, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column(
            "digest",
            sa.LargeBinary(32),
            nullable=True,
            comment="Null for a record of bytes that were gone before this index was there.",
        ),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column(
            "mode", sa.Integer(), nullable=False, comment="st_mode: type and permission bits."
        ),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("file_type", sa.String(length=32), nullable=False),
        sa.Column("priority", sa.String(length=16), nullable=False),
        sa.Column("is_final_output", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_snapshot", sa.Integer(), nullable=False),
        sa.Column("end_snapshot", sa.Integer(), nullable=True, comment="Null while current."),
        sa.Column(
            "appeared_in",
            sa.Integer(),
            nullable=False,
            comment="Snapshot of the path's first version.",
        ),
        sa.Column("meta", JSON_TEXT, nullable=True),
        sa.Column(
            "signature",
            sa.LargeBinary(length=40),
            nullable=True,
            comment="Packed stat signature; null if the content must be hashed again.",
        ),
        sa.Column(
            "seen_by",
            sa.BigInteger(),
            nullable=False,
            comment="The scans that saw it on disk, as bits: bit n stands for scans whose prefix has n names. Only to these does absence mean removal.",
        ),
        sa.Column(
            "origin_id",
            BIG_ID,
            nullable=True,
            comment="The version that was produced, of which this is a copy by fork or rewind, be it deleted by now; null for one that was produced.",
        ),
        sa.Column("workflow_phase", sa.String(length=255), nullable=True),
        sa.Column("generating_agent", sa.String(length=255), nullable=True),
        sa.Column("generating_code_hash", sa.String(length=255), nullable=True),
        sa.Column("node_id", sa.String(length=255), nullable=True),
        sa.Column("step_id", sa.String(length=255), nullable=True),
        sa.Column("event_id", sa.String(length=255), nullable=True),
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
    op.create_index(
        "ix_cas_files_origin_id",
        "cas_files",
        ["origin_id"],
        unique=False,
        sqlite_where=sa.text("origin_id IS NOT NULL"),
        postgresql_where=sa.text("origin_id IS NOT NULL"),
    )
    op.create_index(
        "uq_cas_files_current",
        "cas_files",
        ["run_id", "path"],
        unique=True,
        sqlite_where=sa.text("end_snapshot IS NULL"),
        postgresql_where=sa.text("end_snapshot IS NULL"),
    )
    op.create_table(
        "cas_snapshots",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("run_id", BIG_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("scope", JSON_TEXT, nullable=True),
        sa.Column("unchanged", sa.Integer(), nullable=False),
        sa.Column(
            "skipped",
            JSON_TEXT,
            nullable=True,
            comment="List of [path, reason]; null if nothing was skipped.",
        ),
        sa.Column(
            "torn",
            JSON_TEXT,
            nullable=True,
            comment="Paths of files that changed while they were read; null if none did.",
        ),
        sa.Column("bytes_read", sa.BigInteger(), nullable=False),
        sa.Column("bytes_stored", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("workflow_phase", sa.String(length=255), nullable=True),
        sa.Column("generating_agent", sa.String(length=255), nullable=True),
        sa.Column("generating_code_hash", sa.String(length=255), nullable=True),
        sa.Column("node_id", sa.String(length=255), nullable=True),
        sa.Column("step_id", sa.String(length=255), nullable=True),
        sa.Column("event_id", sa.String(length=255), nullable=True),
        sa.CheckConstraint("number >= 1", name=op.f("ck_cas_snapshots_number")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["cas_runs.id"], name=op.f("fk_cas_snapshots_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_snapshots")),
        sa.UniqueConstraint("run_id", "number", name=op.f("uq_cas_snapshots_run_id_number")),
    )
    op.create_table(
        "cas_counts",
        sa.Column("run_id", BIG_ID, nullable=False),
        sa.Column(
            "labels",
            sa.LargeBinary(32),
            nullable=False,
            comment="A hash of those below, of which some are null.",
        ),
        sa.Column("file_type", sa.String(length=32), nullable=False),
        sa.Column("priority", sa.String(length=16), nullable=False),
        sa.Column("is_final_output", sa.Boolean(), nullable=False),
        sa.Column("workflow_phase", sa.String(length=255), nullable=True),
        sa.Column("generating_agent", sa.String(length=255), nullable=True),
        sa.Column("generating_code_hash", sa.String(length=255), nullable=True),
        sa.Column("node_id", sa.String(length=255), nullable=True),
        sa.Column("step_id", sa.String(length=255), nullable=True),
        sa.Column("event_id", sa.String(length=255), nullable=True),
        sa.Column("files", sa.BigInteger(), nullable=False, comment="Current versions."),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "versions", sa.BigInteger(), nullable=False, comment="Current and past versions."
        ),
        sa.Column("version_bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "distinct_bytes",
            sa.BigInteger(),
            nullable=False,
            comment="Of contents that the run had not before.",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["cas_runs.id"], name=op.f("fk_cas_counts_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "labels", name=op.f("pk_cas_counts")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("cas_counts")
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
