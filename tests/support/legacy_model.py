"""The old tracker's table, after the model in the specification."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, Column, DateTime, Integer, MetaData, String, Table, create_engine


def make(url, *, with_session=True):
    """Create the old database; return a function that adds rows."""
    columns = [
        Column("id", Integer, primary_key=True),
        Column("run_id", String(36), nullable=False),
        Column("node_id", String(100)),
        Column("step_id", String(36)),
        Column("event_id", String(36)),
        Column("file_path", String(1000), nullable=False),
        Column("file_type", String(50)),
        Column("size_bytes", Integer),
        Column("workflow_phase", String(50)),
        Column("is_final_output", Boolean),
        Column("content_hash", String(64)),
        Column("generating_agent", String(100)),
        Column("priority", String(20)),
        Column("created_at", DateTime),
    ]
    if with_session:
        columns.append(Column("session_id", String(36)))
    metadata = MetaData()
    table = Table("files", metadata, *columns)
    engine = create_engine(url)
    metadata.create_all(engine)

    def add(*rows):
        defaults = {column.name: None for column in columns if column.name != "id"}
        defaults |= {"run_id": "r", "created_at": datetime(2025, 3, 1, 12)}  # noqa: DTZ001
        with engine.begin() as connection:
            connection.execute(table.insert(), [{**defaults, **row} for row in rows])
        engine.dispose()

    return add
