"""docs/deploying.md is right about roles and servers."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url
from trees import read, write

from index import ArtifactStore
from index.errors import ArtifactIndexError

SECRET = uuid.uuid4().hex
GUIDE = (Path(__file__).resolve().parent.parent / "docs" / "deploying.md").read_text()


@pytest.fixture
def place(stores, tmp_path):
    """Yield a function that opens the store as one of the guide's roles."""
    (grants,) = re.findall(r"```sql\n(.*?)```", GUIDE, re.DOTALL)
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
