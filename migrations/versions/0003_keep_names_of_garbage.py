"""Keep the names of what deleted runs leave to garbage collection.

Revision ID: 0003
Revises: 0002

A revision is frozen history: it never imports `index`. Releases that work with 0002 may write while
it runs: what they delete has no name when it is collected.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PATH = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
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


def downgrade() -> None:
    op.drop_table("cas_released")
