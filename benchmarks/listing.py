"""Filling an index with the rows of many runs, without any bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from blake3 import blake3
from sqlalchemy import func, insert, literal, select, update

from index import ArtifactStore
from index.db import tables
from index.db.bulk import insert_rows
from index.db.database import Database, sqlite_url
from index.db.queries import counts

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Connection

_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_PACK: Final = blake3(b"pack").digest()


def indexed_runs(
    root: Path, *, runs: int, files: int, snapshots: int = 10, first: int | None = None
) -> None:
    """Create a store whose index holds runs of `files` files each, all different.

    Their names are those of `name_of`. They are written in turns, a snapshot each.

    Parameters
    ----------
    first
        How many files the first run has; None for as many as the others.
    """
    sizes = [files if first is None or run else first for run in range(runs)]
    ArtifactStore.open(root).close()
    database = Database(sqlite_url(root / "index.db"))
    try:
        with database.writing() as connection:
            _insert_owners(connection, runs, snapshots)
        for snapshot in range(1, snapshots + 1):
            with database.writing() as connection:
                for run in range(runs):
                    _insert_snapshot(connection, run, snapshot, sizes[run] // snapshots)
        with database.writing() as connection:
            for run in range(runs):
                counts.count_again(connection, run + 1)
    finally:
        database.close()


def note_versions(root: Path) -> None:
    """Give notes to a version of a hundred, in every tenth run, and a tag to one of each of these.

    The notes are an `rmse` from 0 to 0.999.
    """
    files, tags = tables.files.c, tables.tags.c
    chosen = (files.run_id % 10 == 1) & (files.id % 10 == 0)
    database = Database(sqlite_url(root / "index.db"))
    try:
        with database.writing() as connection:
            rmse = func.json_object("rmse", files.id * 7_919 % 10_000 / 10_000.0)
            connection.execute(update(tables.files).where(chosen).values(meta=rmse))
            first = (
                select(files.run_id, literal(1), literal("best"), func.min(files.path), literal(1))
                .add_columns(func.min(files.created_at))
                .where(chosen)
                .group_by(files.run_id)
            )
            names = (tags.run_id, tags.position, tags.name, tags.path, tags.version)
            connection.execute(insert(tables.tags).from_select([*names, tags.created_at], first))
    finally:
        database.close()


def name_of(run: int) -> str:
    """Return the name of a run by its number; the first is the one of measured processes."""
    return f"r{run or ''}"


def directory_of(number: int) -> str:
    """Return the directory of a file by its number; each has a thousand."""
    return f"step_{number // 1_000:03d}/output"


def _insert_owners(connection: Connection, runs: int, snapshots: int) -> None:
    connection.execute(tables.sessions.insert().values(id=1, name="s", created_at=_NOW))
    connection.execute(
        tables.packs.insert().values(id=1, name=_PACK, size=1, state="live", created_at=_NOW)
    )
    for run in range(runs):
        connection.execute(
            tables.runs.insert().values(
                id=run + 1,
                session_id=1,
                name=name_of(run),
                revision=snapshots,
                created_at=_NOW,
            )
        )


def _insert_snapshot(connection: Connection, run: int, snapshot: int, files: int) -> None:
    connection.execute(
        tables.snapshots.insert().values(
            run_id=run + 1,
            number=snapshot,
            unchanged=(snapshot - 1) * files,
            bytes_read=0,
            bytes_stored=0,
            created_at=_NOW,
        )
    )
    numbers = range((snapshot - 1) * files, snapshot * files)
    digests = [blake3(b"%d/%d" % (run, number)).digest() for number in numbers]
    insert_rows(
        connection,
        tables.blobs,
        ("digest", "pack_offset"),
        [(digest, number * 4096) for digest, number in zip(digests, numbers, strict=True)],
        shared={
            "size": 8192,
            "pack_id": 1,
            "stored_size": 4096,
            "codec": 1,
            "frame_start": 0,
            "frame_size": 0,
            "created_at": _NOW,
        },
    )
    insert_rows(
        connection,
        tables.files,
        ("path", "digest", "signature"),
        [
            (
                f"{directory_of(number)}/result_{number:05d}.csv",
                digest,
                bytes(40),  # a signature, which a listing doesn't look at
            )
            for digest, number in zip(digests, numbers, strict=True)
        ],
        shared={
            "run_id": run + 1,
            "version": 1,
            "size": 8192,
            "mode": 0o100644,
            "mtime_ns": 10**18,
            "file_type": "data",
            "priority": "primary",
            "is_final_output": False,
            "created_at": _NOW,
            "first_snapshot": snapshot,
            "appeared_in": snapshot,
            "seen_by": 1,
            "workflow_phase": "control",
            "generating_agent": "engineer",
            "node_id": f"step_{snapshot}",
        },
    )
