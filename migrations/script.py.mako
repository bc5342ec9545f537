"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}

A revision is frozen history: it never imports `index`. The release before this one must be able to
read and write while it runs, or the changelog says that it must not.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
