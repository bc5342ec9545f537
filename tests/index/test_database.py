from __future__ import annotations

import json
import sqlite3
import stat
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from places import everywhere, objects_of, on, packs_of
from sqlalchemy.exc import IntegrityError

from cas.errors import BackendError, UnsupportedFormatError
from index import ArtifactStore
from index.db.database import Database, sqlite_url
from index.errors import (
    IndexLostError,
    IndexUnavailableError,
    StoreClosedError,
    StoreMismatchError,
    StoreNotFoundError,
)


@on(index="sqlite", because="its pragmas are its own")
def test_sqlite_is_set_up_for_one_writer_and_many_readers(store):
    with store._context.database.reading() as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    assert told == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "synchronous": 2,
        "busy_timeout": 60_000,
    }


@on(index="sqlite", because="elsewhere writers wait for rows, not for each other")
def test_writers_take_the_lock_when_they_begin(store):
    with store._context.database.writing():
        other = sqlite3.connect(store._context.database.file, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        assert other.execute("SELECT count(*) FROM cas_runs").fetchone() == (0,)
        other.close()


def test_a_file_that_another_writes_is_waited_for_until_it_has_a_write_ahead_log(tmp_path):
    with closing(sqlite3.connect(tmp_path / "index.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor() as pool:
            opened = pool.submit(ArtifactStore.open, tmp_path)
            time.sleep(0.1)
            assert not opened.done()
            other.execute("COMMIT")
            opened.result().close()


def test_a_transaction_that_raises_changes_nothing(store):
    with pytest.raises(RuntimeError), store._context.database.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO cas_sessions (name, created_at) VALUES ('x', '2026-01-01')"
        )
        raise RuntimeError
    assert store.stats().sessions == 0


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO cas_blobs (digest, size, created_at) VALUES ({}, 1, '2026-01-01')",
        "UPDATE cas_blobs SET size = -1",
        "UPDATE cas_blobs SET pack_id = NULL",
        "UPDATE cas_packs SET state = 'odd'",
        "UPDATE cas_files SET version = 0",
        "UPDATE cas_files SET end_snapshot = first_snapshot",
        "UPDATE cas_files SET priority = 'odd'",
        "UPDATE cas_files SET digest = {}",
        "DELETE FROM cas_blobs",
        "DELETE FROM cas_packs",
        "INSERT INTO cas_store (id, store_id, created_at) VALUES (2, 'x', '2026-01-01')",
        "INSERT INTO cas_files SELECT 99, run_id, path, 2, digest, size, mode, mtime_ns, file_type,"
        " priority, is_final_output, created_at, first_snapshot, end_snapshot, appeared_in, meta,"
        " dropped, signature, seen_by, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM cas_files",
        "UPDATE cas_files SET digest = NULL",
        "UPDATE cas_files SET origin_id = id",
    ],
)
def test_the_database_itself_refuses_what_cannot_be(store, statement):
    store.session("s").run("r").put("f", b"1")
    database = store._context.database
    size = 32 if statement.startswith("UPDATE") else 1
    literal = f"'\\x{'00' * size}'::bytea" if database.is_server else f"zeroblob({size})"
    with pytest.raises(IntegrityError), database.writing() as connection:
        connection.exec_driver_sql(statement.replace("{}", literal))


def test_deleting_a_session_takes_its_rows_along(store):
    store.session("s").run("r").put("f", b"1")
    with store._context.database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM cas_sessions")
    with store._context.database.reading() as connection:
        for table in ("cas_runs", "cas_snapshots", "cas_files"):
            count = connection.exec_driver_sql(f"SELECT count(*) FROM {table}")  # noqa: S608
            assert count.scalar() == 0


def test_a_store_that_is_not_there_is_not_made_unasked(tmp_path):
    with pytest.raises(StoreNotFoundError, match=r"ArtifactStore\.open"):
        ArtifactStore.open(tmp_path / "none", create=False)
    assert list(tmp_path.iterdir()) == []


def test_storage_without_its_index_is_not_opened_unasked(store_root):
    (store_root / "index.db").unlink()
    with pytest.raises(StoreNotFoundError):
        ArtifactStore.open(store_root, create=False)
    assert not (store_root / "index.db").exists()


@pytest.mark.parametrize("gone", [True, False])
def test_an_index_that_is_gone_is_not_replaced_by_an_empty_one(store_root, gone):
    with ArtifactStore.open(store_root) as store:
        store.session("s").run("r").put("f", b"1")
    if gone:
        (store_root / "index.db").unlink()
    else:
        (store_root / "index.db").write_bytes(b"")
    with pytest.raises(IndexLostError, match="restore a copy of it"):
        ArtifactStore.open(store_root)


@everywhere
def test_an_index_of_other_storage_is_refused(place, objects):
    settings = objects.read("cas.json").decode()
    store_id = json.loads(settings)["store_id"]
    objects.write("cas.json", settings.replace(store_id, str(uuid.uuid4())).encode())
    with pytest.raises(StoreMismatchError, match="created with"):
        ArtifactStore.open(**place)


def test_index_and_blobs_may_lie_apart(tmp_path):
    index = f"sqlite:///{tmp_path}/somewhere.db"
    with ArtifactStore.open(index=index, blobs=tmp_path / "blobs") as store:
        store.session("s").run("r").put("f", b"1")
        assert len(packs_of(objects_of({"blobs": tmp_path / "blobs"}))) == 1
    with ArtifactStore.open(index=index, blobs=str(tmp_path / "blobs"), create=False) as store:
        assert store.session("s").run("r").read_bytes("f") == b"1"


@pytest.mark.parametrize(
    "kwargs", [{}, {"index": "sqlite://"}, {"root": "x", "blobs": "y"}, {"blobs": "y"}]
)
def test_half_a_place_is_refused(kwargs):
    with pytest.raises(ValueError, match="give either"):
        ArtifactStore.open(**kwargs)


def test_a_store_where_a_file_is_gets_one_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BackendError, match="it is a file; give a directory"):
        ArtifactStore.open(tmp_path / "file")


@everywhere
def test_a_newer_format_is_refused_and_left_alone(place, objects):
    text = objects.read("cas.json").replace(b'"format_version": 1', b'"format_version": 2')
    objects.write("cas.json", text)
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        ArtifactStore.open(**place)
    assert objects.read("cas.json") == text


def test_an_index_that_is_no_database_gets_one_sentence(store_root):
    (store_root / "index.db").write_bytes(b"this is no database at all, " * 100)
    with pytest.raises(IndexUnavailableError, match="not a database"):
        ArtifactStore.open(store_root)


def test_an_index_that_cannot_be_opened_gets_one_sentence(tmp_path):
    database = Database(sqlite_url(tmp_path / "missing" / "index.db"))
    with pytest.raises(IndexUnavailableError, match="unable to open"), database.reading():
        pass


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://user:secret@host/x.db", "not a url secret", "nosuch://u:secret@h/d",
        "postgresql://user:secret/d",
    ],
)  # fmt: skip
def test_a_url_that_leads_nowhere_gets_one_sentence_without_its_password(url):
    with pytest.raises(IndexUnavailableError) as caught:
        Database(url)
    assert "secret" not in str(caught.value).replace("not a url secret", "")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x.db?uri=true", "sqlite:///x?uri=1"]
)
def test_an_index_that_is_no_plain_file_is_refused(url):
    with pytest.raises(IndexUnavailableError, match=r"as in sqlite:///runs\.db"):
        Database(url)


@pytest.mark.parametrize("end", ["@host/db", "/x@host/db", "@localhost/d@b", "@127.0.0.1/d@b?x=y"])
def test_an_at_sign_in_a_password_leads_to_no_part_of_it_being_shown(end):
    with pytest.raises(IndexUnavailableError, match="write it as %40") as caught:
        Database(f"postgresql://us@er:pass@secret{end}")
    assert "secret" not in str(caught.value)
    Database("postgresql://us@er:pass%40secret@host/db?options=@").close()


@pytest.mark.parametrize(
    "name",
    ["password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"],
)
def test_a_password_in_the_query_of_a_url_is_not_shown(name):
    database = Database(f"postgresql://me@h/d?{name}=secret&sslmode=require")
    assert database.url == "postgresql+psycopg://me@h/d?sslmode=require"
    assert f"{name}=secret" in database.secret_url
    database.close()


def test_a_store_keeps_to_the_umask(tmp_path):
    import os

    before = os.umask(0o077)
    try:
        with ArtifactStore.open(tmp_path / "store") as store:
            store.session("s").run("r").put("f", b"1")
    finally:
        os.umask(before)
    for path in (tmp_path / "store").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@everywhere
def test_closing_twice_is_harmless(place):
    store = ArtifactStore.open(**place)
    store.close()
    store.close()


@everywhere
def test_a_closed_store_serves_no_more(place):
    store = ArtifactStore.open(**place)
    run = store.session("s").run("r")
    run.put("f", b"1")
    store.close()
    for use in (run.files, lambda: run.put("f", b"2"), store.runs, lambda: run.read_bytes("f")):
        with pytest.raises(StoreClosedError, match="was closed; open it again"):
            use()
