"""The tables of tags: names for what a run holds, and for runs of a session.

Each move of a tag is a row, and the newest of a name counts.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, String, Table
from sqlalchemy import UniqueConstraint as Unique

from index.db.column_types import BigId, PathColumn, UtcDateTime
from index.db.table_parts import OPAQUE_ID, id_, metadata, partial_index, required

__all__ = ["run_tags", "tags"]

# Where the tags of a run point.
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
    Unique("run_id", "position"),
    Index(None, "run_id", "name", "position"),
    CheckConstraint("position >= 1", name="position"),
    CheckConstraint(
        "(path IS NULL) = (version IS NULL) AND (path IS NULL OR snapshot IS NULL)", name="named"
    ),
)

# Which run of a session a tag names.
run_tags: Final = Table(
    "cas_run_tags",
    metadata,
    id_(),
    required("session_id", BigId, ForeignKey("cas_sessions.id", ondelete="CASCADE")),
    required("name", String(64)),
    required("position", Integer, comment="Counts the moves of this tag in the session."),
    Column(
        "run_id",
        BigId,
        ForeignKey("cas_runs.id", ondelete="SET NULL"),
        comment="The run whose commit it was; null if that is not here, or was deleted.",
    ),
    required("is_removed", Boolean, comment="Whether it names nothing from then on."),
    Column("agent", OPAQUE_ID, comment="Who said so."),
    required("created_at", UtcDateTime),
    Unique("session_id", "name", "position"),
    partial_index("ix_cas_run_tags_run_id", "run_id", where="run_id IS NOT NULL"),
    CheckConstraint("position >= 1", name="position"),
)
