"""Kept stores: one for each released schema, and what it held."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from places import objects_of
from sqlalchemy import insert, select

from cas.digest import Digest
from index.db import schema, tables
from index.db.database import Database, sqlite_url

KEPT = Path(__file__).parents[1] / "migrations" / "data"
OLDEST = "0001"


def expected_of(revision):
    """Return the versions of each run, by session and run."""
    files = json.loads((KEPT / revision / "expected.json").read_text())
    return {tuple(key.split("/")): [tuple(row) for row in rows] for key, rows in files.items()}


def old_store(stores, combination, folder, revision=OLDEST):
    """Copy a store of that schema below a folder; return its place."""
    kept = KEPT / revision / "store"
    place = stores.nowhere(combination)
    if "root" in place:
        root = shutil.copytree(kept, Path(folder, "store"))
        (root / "tmp").mkdir(exist_ok=True)
        return {"root": root}
    _copy_objects(kept, place, folder)
    _copy_rows(kept / "index.db", place["index"], revision)
    return place


def index_of(place):
    """Return the URL of a place's index, as text."""
    return place.get("index") or str(sqlite_url(Path(place["root"]) / "index.db"))


def files_of(store):
    """Return the same as `expected_of`, read from a store."""
    files = {}
    for summary in store.runs():
        run = store.session(summary.session).run(summary.run)
        paths = {v.path for s in run.snapshots() for v in (*s.added, *s.changed)}
        rows = [_row(version) for path in sorted(paths) for version in run.history(path)]
        files[summary.session, summary.run] = sorted(rows)
    return files


def check_bytes(store, expected):
    """Check that every version of every run has its bytes."""
    for (session, name), rows in expected.items():
        run = store.session(session).run(name)
        for path, number, digest, size, *_ in rows:
            with run.open(path, version=number) as opened:
                data = opened.read()
            assert (str(Digest.of(data)), len(data)) == (digest, size)


def _row(version):
    return (
        version.path,
        version.version,
        str(version.digest),
        version.size,
        version.phase,
        version.agent,
        version.node_id,
        version.step_id,
        version.event_id,
        version.first_snapshot,
        version.end_snapshot,
    )


def _copy_objects(kept, place, folder):
    if "storage_options" in place:
        objects = objects_of(place)
        for file in kept.rglob("*"):
            name = str(file.relative_to(kept))
            if file.is_file() and not name.startswith("index.db"):
                objects.write(name, file.read_bytes())
        return
    shutil.copytree(kept, place["blobs"])
    Path(place["blobs"], "index.db").unlink()
    Path(place["blobs"], "tmp").mkdir(exist_ok=True)


def _copy_rows(file, url, revision):
    """Fill a database with the rows of an SQLite file of the same schema."""
    source, target = Database(sqlite_url(file)), Database(url)
    schema.upgrade(target, revision)
    with closing(sqlite3.connect(file)) as plain:
        columns = {
            table: [row[1] for row in plain.execute(f"PRAGMA table_info({table.name})")]
            for table in tables.metadata.sorted_tables
        }
    with source.reading() as reading, target.writing() as writing:
        for table, names in columns.items():
            if names:
                rows = reading.execute(select(*(table.c[name] for name in names))).all()
                if rows:
                    writing.execute(insert(table), [row._asdict() for row in rows])
    with target.writing() as writing:
        _settle_ids(writing, [table for table, names in columns.items() if names])
    source.close()
    target.close()


def _settle_ids(connection, known):
    """Let new ids begin after the highest copied one."""
    if connection.dialect.name == "postgresql":
        for table in known:
            if "id" in table.c and table is not tables.store:
                connection.exec_driver_sql(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'),"  # noqa: S608
                    f" (SELECT coalesce(max(id), 1) FROM {table.name}))"
                )
