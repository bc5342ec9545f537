"""docs/deploying.md is right about roles and partitions."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from histories import histories
from sqlalchemy import make_url
from trees import read, write

from index import ArtifactStore
from index.errors import ArtifactIndexError

SECRET = uuid.uuid4().hex
ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "examples" / "deploy"
PARTITION = ROOT / "examples" / "partition.sql"


@pytest.fixture
def place(stores, tmp_path):
    """Yield a function that opens the store as one of the guide's roles."""
    grants = (DEPLOY / "grants.sql").read_text()
    made = stores.make("postgresql-local", tmp_path / "place")
    url = make_url(made["index"])
    roles = {name: f"{name}_{uuid.uuid4().hex[:8]}" for name in ("cas_writer", "cas_reader")}
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        for name, role in roles.items():
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'")
            grants = grants.replace(f"TO {name}", f"TO {role}")
        connection.execute(grants)

    def opened(name, **options):
        index = url.set(username=roles[name], password=SECRET)
        return ArtifactStore.open(index=index, blobs=made["blobs"], **options)

    yield opened
    stores.drop(made)
    with psycopg.connect(address.replace(url.database, "postgres"), autocommit=True) as connection:
        for role in roles.values():
            connection.execute(f"DROP ROLE {role}")


def test_a_writer_does_everything_but_change_the_schema(place, work, tmp_path):
    write(work, {"a": b"a", "b/large": bytes(3 << 20)})
    with place("cas_writer") as store:
        run = store.session("s").run("r")
        run.track(work, node_id="n")
        run.track(work, node_id="n", agent="a")
        write(work, {"a": b"again"})
        run.track(work)
        run.put("c", b"c")
        run.rewind(1)
        run.fork("f")
        run.restore(tmp_path / "out")
        assert read(tmp_path / "out") == {"a": b"a", "b/large": bytes(3 << 20)}
        assert len(store.session("s").producers(run.file("a").digest)) == 1
        run.delete()
        store.session("s").delete()
        store.plan_gc(grace=timedelta(0), remove_orphans=True).execute()
        assert store.stats().blobs == 0
        with (
            pytest.raises(ArtifactIndexError, match="must be owner of table cas_files"),
            store.context.database.writing() as connection,
        ):
            connection.exec_driver_sql("ALTER TABLE cas_files ADD COLUMN more INTEGER")


def test_a_reader_restores_and_records_nothing(place, work, tmp_path):
    write(work, {"a": b"a"})
    with place("cas_writer") as store:
        store.session("s").run("r").track(work)
    with place("cas_reader", create=False) as store:
        run = store.session("s").run("r")
        run.restore(tmp_path / "out")
        assert read(tmp_path / "out") == {"a": b"a"}
        assert store.stats().versions == 1
        with pytest.raises(ArtifactIndexError, match="permission denied"):
            run.put("b", b"b")
    with place("cas_writer") as store:
        assert [version.path for version in store.session("s").run("r").files()] == ["a"]


@pytest.fixture
def partitioned(stores, tmp_path):
    """A store whose index was partitioned before anything was recorded."""
    made = stores.make("postgresql-local", tmp_path / "partitioned")
    before = shape(made)
    with connected(made) as connection:
        connection.execute(PARTITION.read_text())
    assert shape(made) == before
    yield made
    stores.drop(made)


def connected(place):
    url = make_url(place["index"]).set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False))


def shape(place):
    """Return columns, constraints and indexes, without what a partitioned table has otherwise."""
    with connected(place) as connection:
        columns = connection.execute(
            "SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attcollation,"
            " col_description(pg_class.oid, attnum), pg_get_expr(adbin, adrelid)"
            " FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid AND relkind IN ('r', 'p')"
            " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
            " WHERE relname LIKE 'cas\\_%' AND NOT relispartition AND attnum > 0"
        ).fetchall()
        constraints = connection.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(pg_constraint.oid)"
            " FROM pg_constraint JOIN pg_class ON conrelid = pg_class.oid"
            " WHERE relname LIKE 'cas\\_%' AND NOT relispartition AND conparentid = 0"
        ).fetchall()
        indexes = connection.execute(
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index"
            " JOIN pg_class ON indrelid = pg_class.oid"
            " WHERE relname LIKE 'cas\\_%' AND NOT relispartition"
        ).fetchall()
    return sorted(
        re.sub(r"ON ONLY|\(id, run_id\)", lambda m: "ON" if m[0] == "ON ONLY" else "(id)", str(row))
        for row in (*columns, *constraints, *indexes)
    )


def test_a_partitioned_index_does_everything(partitioned, stores, work, tmp_path):
    name = b"\xff".decode("utf-8", "surrogateescape")
    write(work, {"a": b"a", "b/large": bytes(3 << 20), name: b"n"})
    with ArtifactStore.open(**partitioned) as store:
        run = store.session("s").run("r")
        run.track(work, node_id="n")
        run.track(work, node_id="n", agent="a")
        write(work, {"a": b"again"})
        run.track(work)
        run.put("c", b"c", meta={"n": 1})
        run.annotate("c", meta={"n": 1.0})
        run.rewind(1)
        fork = run.fork("f")
        fork.restore(tmp_path / "out")
        assert read(tmp_path / "out") == {"a": b"a", "b/large": bytes(3 << 20), name: b"n"}
        store.session("s").run("g").put("d", b"d")
        store.session("s").run("g").delete()
        store.plan_gc(grace=timedelta(0)).execute()
        assert len(store.session("s").producers("a")) == 2
        assert store.verify().is_sound
        there = stores.make("sqlite-local", tmp_path / "there")
        with ArtifactStore.open(**there) as other:
            store.sync_to(other)
            assert histories(other) == histories(store)
            other.session("s").run("h").put("e", b"e")
            other.sync_to(store, runs=["h"])
        assert store.session("s").run("h").read_bytes("e") == b"e"
        used = store.context.database.read(
            lambda connection: connection.exec_driver_sql(
                "SELECT count(DISTINCT tableoid) FROM cas_files"
            ).scalar_one()
        )
        assert used > 1


def test_an_index_with_files_is_not_partitioned(partitioned):
    with ArtifactStore.open(**partitioned) as store:
        store.session("s").run("r").put("a", b"a")
    with connected(partitioned) as connection, pytest.raises(psycopg.Error, match="cas sync"):
        connection.execute(PARTITION.read_text())
