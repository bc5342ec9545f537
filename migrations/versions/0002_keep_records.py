"""Keep records of commits, chunk lists, damage and backups, for verification and recovery.

Revision ID: 0002
Revises: 0001

A revision is frozen history: it never imports `index`. Releases that work with 0001 must not write
while it runs, nor after it: what they record would leave no record in storage.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "cas_blobs",
        sa.Column(
            "damaged_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When its bytes were found to be missing or wrong; null if they were not.",
        ),
    )
    op.create_index(
        "ix_cas_blobs_damaged",
        "cas_blobs",
        ["damaged_at"],
        unique=False,
        sqlite_where=sa.text("damaged_at IS NOT NULL"),
        postgresql_where=sa.text("damaged_at IS NOT NULL"),
    )
    op.add_column(
        "cas_packs",
        sa.Column(
            "verified_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When every byte of the object was last found to be right.",
        ),
    )
    op.add_column(
        "cas_runs",
        sa.Column(
            "newest_record",
            sa.LargeBinary(32),
            nullable=True,
            comment="The end of its chain in cas_records; null if that lacks something of the run.",
        ),
    )
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


def downgrade() -> None:
    op.drop_table("cas_backups")
    op.drop_table("cas_records")
    op.drop_table("cas_chunk_lists")
    op.drop_column("cas_runs", "newest_record")
    op.drop_column("cas_packs", "verified_at")
    op.drop_index("ix_cas_blobs_damaged", "cas_blobs")
    op.drop_column("cas_blobs", "damaged_at")
