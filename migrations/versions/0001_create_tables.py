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
INT, BIG, BOOL, LABEL = sa.Integer(), sa.BigInteger(), sa.Boolean(), sa.String(255)
DIGEST = sa.LargeBinary(32)
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


def _foreign_key(
    table: str, column: str, target: str, ondelete: str | None = None
) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}")
    return sa.ForeignKeyConstraint([column], [target], name=name, ondelete=ondelete)


def _id(table: str) -> tuple[sa.Column[Any], sa.PrimaryKeyConstraint]:
    key = sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}"))
    return sa.Column("id", BIG_ID, autoincrement=True, nullable=False), key


def _check(table: str, name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(f"ck_{table}_{name}"))


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns))


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


# fmt: off
def upgrade() -> None:
    op.create_table(
        "cas_packs",
        *_id("cas_packs"),
        _required("name", DIGEST),
        _required("size", BIG),
        _required("state", sa.String(8)),
        _required("created_at", TIME),
        _optional("verified_at", TIME, "When every byte of the object was last found to be right."),
        _check("cas_packs", "state", "state IN ('pending', 'live', 'dead')"),
        _check("cas_packs", "name", "length(name) = 32"),
        _unique("cas_packs", "name"),
    )
    _partial_index("ix_cas_packs_not_live", "cas_packs", ["state"], "state != 'live'")
    op.create_table(
        "cas_sessions",
        *_id("cas_sessions"),
        _required("name", LABEL),
        _required("created_at", TIME),
        _optional("quota_bytes", BIG, "Null without a quota."),
        _check("cas_sessions", "quota_bytes", "quota_bytes >= 0"),
        _unique("cas_sessions", "name"),
    )
    op.create_table(
        "cas_store",
        sa.Column("id", INT, autoincrement=False, nullable=False),
        _required("store_id", sa.String(36)),
        _required("index_id", sa.String(36), "A UUID; index.json in the storage names the index that it belongs to."),
        _required("created_at", TIME),
        _check("cas_store", "one_row", "id = 1"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cas_store")),
    )
    op.create_table(
        "cas_blobs",
        _required("digest", DIGEST),
        _required("size", BIG),
        _optional("pack_id", BIG_ID, "Null for a large blob: its chunks have packs."),
        _optional("pack_offset", BIG),
        _optional("stored_size", BIG),
        _optional("codec", INT),
        _optional("frame_start", INT, "Where it begins in a decoded shared frame; else 0."),
        _optional("frame_size", INT, "Decoded bytes of that shared frame; else 0."),
        _required("created_at", TIME),
        _optional("touched_at", TIME, "Last reuse by a later write."),
        _optional("condemned_at", TIME),
        _optional("verified_at", TIME),
        _optional("damaged_at", TIME, "When its bytes were found missing or wrong."),
        _check(
            "cas_blobs",
            "location",
            "(pack_id IS NULL) = (pack_offset IS NULL) AND (pack_id IS NULL) = (stored_size IS NULL) AND (pack_id IS NULL) = (codec IS NULL) AND (pack_id IS NULL) = (frame_start IS NULL) AND (pack_id IS NULL) = (frame_size IS NULL)",
        ),
        _check("cas_blobs", "digest", "length(digest) = 32"),
        _check("cas_blobs", "size", "size >= 0"),
        _foreign_key("cas_blobs", "pack_id", "cas_packs.id"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_cas_blobs")),
        sqlite_with_rowid=False,
    )
    _partial_index("ix_cas_blobs_condemned", "cas_blobs", ["condemned_at"], "condemned_at IS NOT NULL")
    _partial_index("ix_cas_blobs_damaged", "cas_blobs", ["damaged_at"], "damaged_at IS NOT NULL")
    _index("cas_blobs", "pack_id")
    op.create_table(
        "cas_runs",
        *_id("cas_runs"),
        _required("session_id", BIG_ID),
        _required("name", LABEL),
        _optional("forked_from_id", BIG_ID),
        _optional("forked_snapshot", INT),
        _required("revision", INT, "Goes up by one with every commit that changes the run; scans compare and swap it."),
        _optional("newest_record", DIGEST, "The end of its chain in cas_records; null if that lacks something of the run."),
        _optional("work_dir", PATH, "The directory of its newest scan; null before the first one, also of a fork."),
        _optional("status", sa.String(16), "Null if nobody has said one."),
        _optional("status_reason", LABEL),
        _optional("started_at", TIME, "When it was last said to be running."),
        _optional("ended_at", TIME, "When it was said to have ended; null if it runs."),
        _optional("parent", LABEL, "The run of the session that it is a part of, which need not be there yet; empty if that was taken back."),
        _optional("notes", JSON_TEXT, "What callers noted of it: an object."),
        _required("created_at", TIME),
        _check("cas_runs", "revision", "revision >= 0"),
        _check("cas_runs", "status", "status IN ('running', 'finished', 'failed', 'cancelled')"),
        _foreign_key("cas_runs", "forked_from_id", "cas_runs.id", "SET NULL"),
        _foreign_key("cas_runs", "session_id", "cas_sessions.id", "CASCADE"),
        _unique("cas_runs", "session_id", "name"),
        sqlite_autoincrement=True,
    )
    _index("cas_runs", "forked_from_id")
    _partial_index("ix_cas_runs_parent", "cas_runs", ["session_id", "parent"], "parent IS NOT NULL")
    op.create_table(
        "cas_blob_chunks",
        _required("blob", DIGEST),
        sa.Column("position", INT, autoincrement=False, nullable=False),
        _required("chunk", DIGEST),
        _check("cas_blob_chunks", "position", "position >= 0"),
        _foreign_key("cas_blob_chunks", "blob", "cas_blobs.digest", "CASCADE"),
        _foreign_key("cas_blob_chunks", "chunk", "cas_blobs.digest"),
        sa.PrimaryKeyConstraint("blob", "position", name=op.f("pk_cas_blob_chunks")),
        sqlite_with_rowid=False,
    )
    _index("cas_blob_chunks", "chunk")
    op.create_table(
        "cas_chunk_lists",
        _required("blob", DIGEST),
        _required("list", DIGEST),
        _foreign_key("cas_chunk_lists", "blob", "cas_blobs.digest", "CASCADE"),
        _foreign_key("cas_chunk_lists", "list", "cas_blobs.digest"),
        sa.PrimaryKeyConstraint("blob", name=op.f("pk_cas_chunk_lists")),
        sqlite_with_rowid=False,
    )
    _index("cas_chunk_lists", "list")
    op.create_table(
        "cas_records",
        *_id("cas_records"),
        _optional("run_id", BIG_ID, "Null for what outlives the runs that it tells of: deletions."),
        _required("position", INT),
        _required("digest", DIGEST),
        _check("cas_records", "position", "position >= 1"),
        _foreign_key("cas_records", "run_id", "cas_runs.id", "CASCADE"),
        _foreign_key("cas_records", "digest", "cas_blobs.digest"),
        _unique("cas_records", "run_id", "position"),
    )
    _index("cas_records", "digest")
    op.create_table(
        "cas_backups",
        *_id("cas_backups"),
        _required("digest", DIGEST),
        _required("record", DIGEST),
        _required("created_at", TIME),
        _foreign_key("cas_backups", "digest", "cas_blobs.digest"),
        _foreign_key("cas_backups", "record", "cas_blobs.digest"),
    )
    _index("cas_backups", "digest")
    _index("cas_backups", "record")
    op.create_table(
        "cas_released",
        _required("digest", DIGEST),
        _required("session", LABEL),
        _required("run", LABEL),
        _optional("path", PATH),
        _optional("agent", LABEL),
        _foreign_key("cas_released", "digest", "cas_blobs.digest", "CASCADE"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_cas_released")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cas_files",
        *_id("cas_files"),
        _required("run_id", BIG_ID),
        _required("path", PATH),
        _required("version", INT),
        _optional("digest", DIGEST, "Null if the bytes were dropped, or gone before this index was there."),
        _required("size", BIG),
        _required("mode", INT, "st_mode: type and permission bits."),
        _required("mtime_ns", BIG),
        _required("file_type", sa.String(32)),
        _required("priority", sa.String(16)),
        _required("is_final_output", BOOL),
        _required("created_at", TIME),
        _required("first_snapshot", INT),
        _optional("end_snapshot", INT, "Null while current."),
        _required("appeared_in", INT, "Snapshot of the path's first version."),
        _optional("meta", JSON_TEXT),
        _optional("dropped", JSON_TEXT, "What became of bytes that were dropped: their digest, when, why and by whom."),
        _optional("signature", sa.LargeBinary(length=40), "Packed stat signature; null if the content must be hashed again."),
        _required("seen_by", BIG, "The scans that saw it on disk, as bits: bit n stands for scans whose prefix has n names. Only to these does absence mean removal."),
        _optional("origin_id", BIG_ID, "The produced version that a fork or rewind copied here; it may be deleted. Null for a produced one."),
        *_provenance(),
        _check("cas_files", "priority", "priority IN ('primary', 'secondary', 'internal')"),
        _check("cas_files", "snapshots", "end_snapshot > first_snapshot"),
        _check("cas_files", "origin", "origin_id <> id"),
        _check("cas_files", "dropped", "digest IS NULL OR dropped IS NULL"),
        _check("cas_files", "size", "size >= 0"),
        _check("cas_files", "version", "version >= 1"),
        _check("cas_files", "current_has_bytes", "digest IS NOT NULL OR end_snapshot IS NOT NULL"),
        _foreign_key("cas_files", "digest", "cas_blobs.digest"),
        _foreign_key("cas_files", "run_id", "cas_runs.id", "CASCADE"),
        _unique("cas_files", "run_id", "path", "version"),
        sqlite_autoincrement=True,
    )
    _index("cas_files", "digest", "run_id")
    _partial_index("ix_cas_files_made_by", "cas_files", ["run_id", "node_id"], "node_id IS NOT NULL AND origin_id IS NULL")
    _partial_index("ix_cas_files_origin_id", "cas_files", ["origin_id"], "origin_id IS NOT NULL")
    own = ["run_id", "path"]
    _partial_index("ix_cas_files_meta", "cas_files", [*own, "version"], "meta IS NOT NULL")
    _partial_index("uq_cas_files_current", "cas_files", own, "end_snapshot IS NULL", unique=True)
    op.create_table(
        "cas_snapshots",
        *_id("cas_snapshots"),
        _required("run_id", BIG_ID),
        _required("number", INT),
        _optional("scope", JSON_TEXT),
        _required("unchanged", INT),
        _optional("skipped", JSON_TEXT, "List of [path, reason]; null if nothing was skipped."),
        _optional("torn", JSON_TEXT, "Paths of files that changed while they were read; null if none did."),
        _optional("notes", JSON_TEXT, "What the caller noted of it."),
        _required("bytes_read", BIG),
        _required("bytes_stored", BIG),
        _required("created_at", TIME),
        *_provenance(),
        _check("cas_snapshots", "number", "number >= 1"),
        _foreign_key("cas_snapshots", "run_id", "cas_runs.id", "CASCADE"),
        _unique("cas_snapshots", "run_id", "number"),
    )
    op.create_table(
        "cas_tags",
        *_id("cas_tags"),
        _required("run_id", BIG_ID),
        _required("position", INT, "Counts the moves of all tags of the run."),
        _required("name", sa.String(64)),
        _optional("snapshot", INT, "What it names; a removed tag names nothing."),
        _optional("path", PATH),
        _optional("version", INT),
        _optional("agent", LABEL, "Who said so."),
        _required("created_at", TIME),
        _check("cas_tags", "position", "position >= 1"),
        _check("cas_tags", "named", "(path IS NULL) = (version IS NULL) AND (path IS NULL OR snapshot IS NULL)"),
        _foreign_key("cas_tags", "run_id", "cas_runs.id", "CASCADE"),
        _unique("cas_tags", "run_id", "position"),
    )
    _index("cas_tags", "run_id", "name", "position")
    op.create_table(
        "cas_inputs",
        *_id("cas_inputs"),
        _required("run_id", BIG_ID),
        _required("position", INT, "Counts the inputs of the run."),
        _required("digest", DIGEST),
        _optional("size", BIG, "Null for a reference of unknown size."),
        _optional("source_run", LABEL, "The run of the version below; null if it is this run, or none is known."),
        _optional("path", PATH),
        _optional("version", INT),
        _optional("uri", sa.Text(), "Where bytes outside of the store were read."),
        _required("snapshot", INT, "The newest one of the run at that time, or 0."),
        _required("is_copy", BOOL, "Whether a fork copied it from the parent run."),
        _required("created_at", TIME),
        *_provenance(),
        _check("cas_inputs", "position", "position >= 1"),
        _check("cas_inputs", "digest", "length(digest) = 32"),
        _check("cas_inputs", "size", "size >= 0"),
        _check("cas_inputs", "source", "(path IS NULL) = (version IS NULL) AND (path IS NULL OR uri IS NULL) AND (source_run IS NULL OR path IS NOT NULL)"),
        _foreign_key("cas_inputs", "run_id", "cas_runs.id", "CASCADE"),
        _unique("cas_inputs", "run_id", "position"),
    )
    _index("cas_inputs", "digest", "run_id")
    _index("cas_inputs", "run_id", "node_id")
    op.create_table(
        "cas_run_tags",
        *_id("cas_run_tags"),
        _required("session_id", BIG_ID),
        _required("name", sa.String(64)),
        _required("position", INT, "Counts the moves of this tag in the session."),
        _optional("run_id", BIG_ID, "The run whose commit it was; null if that is not here, or was deleted."),
        _required("is_removed", BOOL, "Whether it names nothing from then on."),
        _optional("agent", LABEL, "Who said so."),
        _required("created_at", TIME),
        _check("cas_run_tags", "position", "position >= 1"),
        _foreign_key("cas_run_tags", "session_id", "cas_sessions.id", "CASCADE"),
        _foreign_key("cas_run_tags", "run_id", "cas_runs.id", "SET NULL"),
        _unique("cas_run_tags", "session_id", "name", "position"),
    )
    _partial_index("ix_cas_run_tags_run_id", "cas_run_tags", ["run_id"], "run_id IS NOT NULL")
    op.create_table(
        "cas_holds",
        *_id("cas_holds"),
        _required("session_id", BIG_ID),
        _optional("run_id", BIG_ID, "Null for a hold of the whole session."),
        _required("reason", LABEL),
        _optional("agent", LABEL, "Who said so."),
        _required("created_at", TIME),
        _optional("released_at", TIME, "Null while it holds."),
        _optional("release_reason", LABEL),
        _optional("released_by", LABEL),
        _check("cas_holds", "released", "(released_at IS NULL) = (release_reason IS NULL)"),
        _foreign_key("cas_holds", "run_id", "cas_runs.id", "CASCADE"),
        _foreign_key("cas_holds", "session_id", "cas_sessions.id", "CASCADE"),
    )
    _index("cas_holds", "run_id")
    _index("cas_holds", "session_id")
    op.create_table(
        "cas_counts",
        _required("run_id", BIG_ID),
        _required("labels", DIGEST, "Hash of the labels below, which may be null."),
        _required("file_type", sa.String(32)),
        _required("priority", sa.String(16)),
        _required("is_final_output", BOOL),
        *_provenance(),
        _required("files", BIG, "Current versions."),
        _required("bytes", BIG),
        _required("versions", BIG, "Current and past versions."),
        _required("version_bytes", BIG),
        _required("distinct_bytes", BIG, "Of contents that the run had not before."),
        _foreign_key("cas_counts", "run_id", "cas_runs.id", "CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "labels", name=op.f("pk_cas_counts")),
        sqlite_with_rowid=False,
    )
# fmt: on


def downgrade() -> None:
    op.drop_table("cas_counts")
    op.drop_table("cas_holds")
    op.drop_table("cas_inputs")
    op.drop_table("cas_run_tags")
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
