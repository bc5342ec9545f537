"""Waits for a lock, a database or storage: how long, what is shown, and those that can't end."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time

import click
import pytest
from places import on
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session

from cas.waiting import WAITS, log_wait
from index import ArtifactStore, FileRepository
from index.cli.commands import cas
from index.cli.progress import log_messages
from index.db.database import Database
from index.errors import IndexUnavailableError

on_sqlite = on(index="sqlite", blobs="local", because="elsewhere writers lock rows")


@pytest.fixture
def file(place):
    return place["root"] / "index.db"


@pytest.fixture
def holder(file):
    """Another process's transaction, as SQLite sees it."""
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


@on_sqlite
def test_a_writer_waits_as_long_as_it_was_told_to(place, holder):
    with ArtifactStore.open(**place, lock_wait=0.2) as store:
        with pytest.raises(IndexUnavailableError, match=r"locked by another writer for 0\.2 s"):
            store.session("s").run("r").put("f", b"1")
        holder.execute("ROLLBACK")
        assert store.session("s").run("r").put("f", b"1").version == 1


@on_sqlite
def test_a_writer_goes_on_when_the_lock_is_free(place, holder, caplog):
    with ArtifactStore.open(**place) as store, caplog.at_level(logging.INFO, logger=WAITS):
        waits = threading.Event()

        class Seen(logging.Handler):
            def emit(self, _record):
                waits.set()

        logger = logging.getLogger(WAITS)
        logger.addHandler(seen := Seen())
        other = threading.Thread(target=lambda: (waits.wait(), holder.execute("ROLLBACK")))
        other.start()
        try:
            assert store.session("s").run("r").put("f", b"1").version == 1
        finally:
            logger.removeHandler(seen)
            other.join()
        with store.context.database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
    assert "another writer has its lock" in caplog.text


def begin_immediate(engine):
    """Let transactions of an engine begin as the documentation of SQLAlchemy advises."""

    @event.listens_for(engine, "connect")
    def take_over(connection, _record):
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@on_sqlite
@pytest.mark.parametrize("at_once", [False, True])
def test_a_lock_of_a_transaction_of_the_same_thread_is_found_at_once(place, file, at_once):
    engine = create_engine(f"sqlite:///{file}")
    if at_once:
        begin_immediate(engine)
    with ArtifactStore.open(**place) as store, Session(engine) as db_session:
        db_session.execute(text("SELECT 1" if at_once else "UPDATE cas_store SET id = id"))
        with pytest.raises(IndexUnavailableError, match="end that transaction first"):
            store.session("s").run("r").put("f", b"1")
        db_session.rollback()
        assert store.session("s").run("r").put("f", b"1").version == 1
    engine.dispose()


@on_sqlite
def test_a_transaction_on_another_database_does_not_keep_its_thread_from_waiting(place, holder):
    engine = create_engine("sqlite://")
    elsewhere = threading.Thread(target=lambda: (time.sleep(0.1), holder.execute("ROLLBACK")))
    with ArtifactStore.open(**place) as store, Session(engine) as db_session:
        db_session.execute(text("CREATE TABLE t (x)"))
        elsewhere.start()
        assert store.session("s").run("r").put("f", b"1").version == 1
    elsewhere.join()
    engine.dispose()


@on_sqlite
@pytest.mark.parametrize("name", ["lock_wait", "database_wait", "storage_wait"])
def test_a_wait_that_is_no_number_of_seconds_is_refused(place, name):
    for wrong, error in (
        ("5", TypeError),
        (None, TypeError),
        (True, TypeError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (10**400, ValueError),
    ):
        with pytest.raises(error, match=name):
            ArtifactStore.open(**place, **{name: wrong})


@on_sqlite
def test_registered_files_do_not_stall_the_same_thread(place, file, work):
    (work / "a").write_bytes(b"1")
    engine = create_engine(f"sqlite:///{file}")
    with ArtifactStore.open(**place) as store, Session(engine) as db_session:
        FileRepository(db_session, "s", store=store, work_dir=work).register_file("r", "a")
        with pytest.raises(IndexUnavailableError, match="register files in it"):
            store.session("s").run("r").put("b", b"2")
        db_session.commit()
        assert store.session("s").run("r").put("b", b"2").version == 1
    engine.dispose()


@on_sqlite
def test_a_transaction_that_only_reads_does_not_keep_its_thread_from_waiting(place, file, holder):
    engine = create_engine(f"sqlite:///{file}")

    @event.listens_for(engine, "connect")
    def take_over(connection, _record):
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN")

    elsewhere = threading.Thread(target=lambda: (time.sleep(0.1), holder.execute("ROLLBACK")))
    with ArtifactStore.open(**place) as store, Session(engine) as db_session:
        db_session.execute(text("SELECT count(*) FROM cas_runs"))
        # The holder is in this process, but unknown to SQLAlchemy, so let Linux tell nothing.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("index.db.engines._is_locked_by_this_process", lambda _file: False)
            elsewhere.start()
            assert store.session("s").run("r").put("f", b"1").version == 1
    elsewhere.join()
    engine.dispose()


@on_sqlite
def test_a_transaction_of_another_thread_is_waited_for(place, file):
    engine = create_engine(f"sqlite:///{file}", connect_args={"check_same_thread": False})
    holds, waits = threading.Event(), threading.Event()

    def hold():
        with Session(engine) as db_session:
            db_session.execute(text("UPDATE cas_store SET id = id"))
            holds.set()
            waits.wait()
            db_session.rollback()

    class Seen(logging.Handler):
        def emit(self, _record):
            waits.set()

    logger = logging.getLogger(WAITS)
    logger.setLevel(logging.INFO)
    logger.addHandler(seen := Seen())
    thread = threading.Thread(target=hold)
    try:
        with ArtifactStore.open(**place) as store:
            thread.start()
            holds.wait()
            assert store.session("s").run("r").put("f", b"1").version == 1
    finally:
        waits.set()
        thread.join()
        logger.removeHandler(seen)
        engine.dispose()


def test_a_wait_is_shown_once_when_it_takes_two_seconds(capsys):
    with click.Context(cas) as context:
        log_messages(context, quiet=False, verbose=0, file=None)
        for waited in (0.0, 1.0, 3.0, 7.0):
            log_wait("s3://bucket", "the connection failed", waited=waited, pause=2.0)
        log_wait("short", "a moment", waited=0.0, pause=0.1)
        for waited in (0.0, 1.5):  # another wait, later
            log_wait("s3://bucket", "the connection failed", waited=waited, pause=1.0)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["waiting for s3://bucket: the connection failed …"] * 2


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql+psycopg_async://host/db", "psycopg_async.*postgresql\\+psycopg://"),
        ("postgresql+asyncpg://host/db", "asyncpg"),
        ("sqlite+aiosqlite:///runs.db", "aiosqlite.*sqlite:///"),
        ("postgresql+psycopg://host/db?prepare_threshold=often", "a number or None"),
        ("postgresql+psycopg://host/db?autocommit=true", "autocommit can't be set"),
        ("mysql://host/db", "SQLite or PostgreSQL"),
    ],
)
def test_a_url_that_the_index_cannot_use_gets_one_sentence(url, told):
    with pytest.raises(IndexUnavailableError, match=told) as caught:
        Database(url)
    assert "\n" not in str(caught.value)


def test_a_missing_driver_names_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(IndexUnavailableError, match=r"pip install 'runcas\[postgres\]'"):
        Database("postgresql://host/db")
