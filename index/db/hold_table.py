"""The table of holds."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, String, Table

from index.db.column_types import BigId, UtcDateTime
from index.db.table_parts import OPAQUE_ID, id_, metadata, required

__all__ = ["holds"]

# Nothing of a session or run is deleted while it is held. A released hold is kept.
holds: Final = Table(
    "cas_holds",
    metadata,
    id_(),
    required("session_id", BigId, ForeignKey("cas_sessions.id", ondelete="CASCADE")),
    Column(
        "run_id",
        BigId,
        ForeignKey("cas_runs.id", ondelete="CASCADE"),
        comment="Null for a hold of the whole session.",
    ),
    required("reason", String(255)),
    Column("agent", OPAQUE_ID, comment="Who said so."),
    required("created_at", UtcDateTime),
    Column("released_at", UtcDateTime, comment="Null while it holds."),
    Column("release_reason", String(255)),
    Column("released_by", OPAQUE_ID),
    Index(None, "session_id"),
    Index(None, "run_id"),
    CheckConstraint("(released_at IS NULL) = (release_reason IS NULL)", name="released"),
)
