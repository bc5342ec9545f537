"""What several tables of the index have: the metadata, columns and indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Column, ForeignKey, Index, MetaData, String, text

from index.db.column_types import BigId

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

__all__ = [
    "OPAQUE_ID",
    "PROVENANCE_COLUMNS",
    "id_",
    "metadata",
    "partial_index",
    "provenance",
    "required",
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

OPAQUE_ID: Final = String(255)

PROVENANCE_COLUMNS: Final = {
    "phase": "workflow_phase",
    "agent": "generating_agent",
    "code_hash": "generating_code_hash",
    "node_id": "node_id",
    "step_id": "step_id",
    "event_id": "event_id",
}
"""Columns by attribute of `Provenance`. The column names follow the specification."""


def id_() -> Column[int]:
    """Return the column of a row's own id."""
    return Column("id", BigId, primary_key=True, autoincrement=True)


def required(
    name: str,
    type_: TypeEngine[Any] | type[TypeEngine[Any]],
    *keys: ForeignKey,
    comment: str | None = None,
) -> Column[Any]:
    """Return a column that is never null."""
    return Column(name, type_, *keys, nullable=False, comment=comment)


def provenance() -> list[Column[Any]]:
    """Return the provenance columns."""
    return [Column(name, OPAQUE_ID) for name in PROVENANCE_COLUMNS.values()]


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """Return an index of the rows that fulfil a condition.

    Only the migration has the condition for PostgreSQL, because it makes the tables there. Here it
    would import that dialect into every command, which takes a fifteenth of a command's run time.
    """
    return Index(name, *columns, unique=unique, sqlite_where=text(where))
