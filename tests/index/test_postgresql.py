"""An index on a server that is killed, restarted, cut off or in conflict loses nothing."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta

import psycopg
import pytest
from events import on_statement
from places import BLOBS, environment_of, through
from postgres import PostgresServer
from relay import Relay
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session
from trees import contents, read, write

from cas.digest import Digest
from cas.errors import BackendError
from cas.waiting import WAITS
from index import ArtifactStore, FileRepository
from index.errors import IndexInterruptedError, IndexUnavailableError


@pytest.fixture(scope="module")
def server():
    """A server of this module's own, because tests kill it."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def url(server):
    return server.create_database()


@pytest.fixture(params=BLOBS)
def blobs(request, tmp_path):
    """The place of the blobs, as arguments of `ArtifactStore.open`."""
    if request.param == "local":
        return {"blobs": tmp_path / "blobs"}
    s3 = request.getfixturevalue("s3")
    return {"blobs": s3.url, "storage_options": s3.options()}


@pytest.fixture
def store(url, blobs):
    with ArtifactStore.open(index=url, **blobs) as opened:
        yield opened


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT digest",
        "INSERT INTO cas_packs",
        "INSERT INTO cas_sessions",
        "INSERT INTO cas_blobs",
        "INSERT INTO cas_snapshots",
        "INSERT INTO cas_files",
    ],
)
def test_a_server_killed_during_a_track_and_started_again(server, store, run, work, statement):
    write(work, {f"d/{n}": b"%d" % n for n in range(50)})

    def kill():
        server.kill()
        threading.Timer(0.5, server.start).start()

    acted = on_statement(store, statement, kill)
    snapshot = run.track(work)
    assert acted
    assert (snapshot.number, len(snapshot.added)) == (1, 50)
    assert contents(run) == read(work)
    assert len(run.snapshots()) == 1
    assert run.track(work).recorded is False


def test_a_server_killed_while_the_command_tracks(server, url, s3, proxy, work):
    """It dies during the upload and restarts; the command succeeds without a message."""
    place = {"index": url, "blobs": s3.url, "storage_options": s3.options()}
    write(work, {f"d/{n}": b"%d" % n for n in range(50)})
    environment = os.environ | environment_of(through(place, proxy))
    with proxy.gate("PUT") as gate:
        command = [sys.executable, "-c", "from index.cli import main; main()", "track", str(work)]
        tracking = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True)
        gate.wait_for(1)  # the settings of the new store
        gate.let_pass(1)
        gate.wait_for(1)  # the pack
        server.kill()
        gate.open()
        server.start()
        _, errors = tracking.communicate(timeout=120)
    assert (tracking.returncode, errors) == (0, "")
    with ArtifactStore.open(**place) as store:
        run = store.session("default").run("work")
        assert contents(run) == read(work)
        assert [snapshot.number for snapshot in run.snapshots()] == [1]


def test_a_server_that_restarts_between_two_calls_is_not_noticed(server, store, run, work):
    write(work, {"a": b"1"})
    run.track(work)
    server.kill()
    server.start()
    assert contents(run) == {"a": b"1"}


def test_a_server_that_stays_away_is_told_in_one_sentence(server, url, blobs, work):
    store = ArtifactStore.open(index=url, **blobs, database_wait=0.3)
    run = store.session("s").run("r")
    write(work, {"a": b"1"})
    server.kill()
    try:
        with pytest.raises(IndexUnavailableError, match="nothing incomplete was recorded") as told:
            run.track(work)
    finally:
        server.start()
    assert "\n" not in str(told.value)
    assert run.track(work).number == 1
    store.close()


class TestFollowing:
    """Changes are followed over a restart of the server."""

    def test_a_change_after_a_restart_is_seen(self, server, store, run):
        run.put("f", b"1")
        stop = threading.Event()
        changes = store.follow(stop=stop, interval=0.05)
        run.put("f", b"2")
        assert next(changes).snapshot == 2
        server.kill()
        threading.Timer(0.5, server.start).start()
        later = threading.Thread(target=run.put, args=("f", b"3"))
        later.start()
        assert next(changes).snapshot == 3
        later.join()
        stop.set()
        assert list(changes) == []

    def test_a_stop_ends_the_wait_for_a_server_that_is_down(self, server, store, run):
        run.put("f", b"1")
        stop = threading.Event()
        changes = store.follow(stop=stop, interval=0.05)
        server.kill()
        try:
            threading.Timer(0.3, stop.set).start()
            assert list(changes) == []
        finally:
            server.start()
        assert run.read_bytes("f") == b"1"

    def test_a_server_that_stays_away_is_an_error(self, server, url, blobs):
        with ArtifactStore.open(index=url, **blobs, database_wait=0.3) as store:
            changes = store.follow(stop=threading.Event(), interval=0.05)
            server.kill()
            try:
                with pytest.raises(IndexUnavailableError):
                    next(changes)
            finally:
                server.start()


class TestACommitWhoseAnswerIsLost:
    """A relay between client and server cuts the connection around COMMIT."""

    @pytest.fixture
    def relay(self, server):
        with Relay(server.port) as relay:
            yield relay

    @pytest.fixture
    def store(self, relay, url, blobs):
        near = make_url(url).set(port=relay.port).update_query_dict({"sslmode": "disable"})
        with ArtifactStore.open(index=near, **blobs) as opened:
            yield opened

    @pytest.mark.parametrize("arrived", [True, False])
    def test_it_is_found_if_it_arrived_and_repeated_if_not(self, relay, store, run, work, arrived):
        write(work, {"a": b"1", "b": b"2"})
        on_statement(
            store, "INSERT INTO cas_files", lambda: relay.cut_at(b"COMMIT", deliver=arrived)
        )
        snapshot = run.track(work)
        assert relay.cuts == 1
        assert (snapshot.recorded, snapshot.number, len(snapshot.added)) == (True, 1, 2)
        assert [s.number for s in run.snapshots()] == [1]
        assert [v.version for v in run.history("a")] == [1]
        assert contents(run) == read(work)

    def test_of_a_put(self, relay, store, run):
        run.put("f", b"1")
        on_statement(store, "INSERT INTO cas_files", lambda: relay.cut_at(b"COMMIT", deliver=True))
        assert run.put("f", b"2").version == 2
        assert [v.version for v in run.history("f")] == [1, 2]

    def test_of_a_pack_that_is_about_to_be_published(self, relay, store, run):
        on_statement(store, "INSERT INTO cas_packs", lambda: relay.cut_at(b"COMMIT", deliver=True))
        run.put("f", b"1")
        assert relay.cuts == 1
        assert run.read_bytes("f") == b"1"

    def test_of_a_deletion_says_what_to_look_for(self, relay, store, run):
        run.put("f", b"1")
        on_statement(store, "DELETE", lambda: relay.cut_at(b"COMMIT", deliver=True))
        with pytest.raises(IndexInterruptedError, match="look whether the change is there"):
            run.delete()
        assert store.runs() == []


@contextmanager
def wanting(store, other, statement, *, from_statement):
    """Have another client want a lock that the block has, once the block waits for one of its own.

    Parameters
    ----------
    from_statement
        The beginning of the statement of the block that waits.
    """
    ended = []

    def want():
        time.sleep(0.3)  # until the block waits
        other.execute(statement)
        other.rollback()
        ended.append(True)

    waiting = threading.Thread(target=want)
    on_statement(store, from_statement, waiting.start)
    yield
    waiting.join()
    assert ended


def test_a_deadlock_is_settled_by_doing_it_again(store, run, work, url):
    """Another client holds the key that the scan inserts next, and wants the scan's row."""
    write(work, {"a": b"1"})
    run.track(work)
    write(work, {"a": b"2"})
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as other:
        other.execute("SET deadlock_timeout = '30s'")  # so the scan gets the error
        other.execute(
            "INSERT INTO cas_blobs (digest, size, created_at) VALUES (%s, 1, now())",
            [Digest.of(b"2")],
        )

        with wanting(store, other, "UPDATE cas_runs SET created_at = created_at",
                     from_statement="INSERT INTO cas_blobs"):  # fmt: skip
            assert [v.path for v in run.track(work).changed] == ["a"]
    assert [v.version for v in run.history("a")] == [1, 2]
    assert contents(run) == {"a": b"2"}


@pytest.mark.parametrize(
    ("change", "waits_at"),
    [
        (lambda session: session.delete(), "SELECT cas_sessions.id"),
        (lambda session: session.run("r").fork("fork"), "INSERT INTO cas_runs"),
    ],
    ids=["deletion", "fork"],
)
def test_a_deadlock_of_a_deletion_or_fork_is_settled_by_doing_it_again(
    store, url, change, waits_at
):
    """Another client has locked the session, and wants a run of it, which the change has locked."""
    session = store.session("s")
    session.run("r").put("f", b"1")
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as other:
        other.execute("SET deadlock_timeout = '30s'")  # so the change gets the error
        other.execute("SELECT * FROM cas_sessions FOR UPDATE")

        with wanting(store, other, "SELECT * FROM cas_runs FOR UPDATE", from_statement=waits_at):
            change(session)
    assert {each.run for each in store.runs()} in (set(), {"r", "fork"})


def test_a_reader_sees_one_state_whatever_commits_meanwhile(store, run, work):
    run.put("f", b"1")
    with store._context.database.reading() as connection:
        count = "SELECT count(*) FROM cas_files"
        assert connection.exec_driver_sql(count).scalar() == 1
        run.put("g", b"2")
        assert connection.exec_driver_sql(count).scalar() == 1


def test_a_password_is_in_no_error_and_no_figure(server, tmp_path):
    secret = make_url(server.url("missing")).set(password="hidden-word")  # noqa: S106
    with pytest.raises(IndexUnavailableError) as told:
        ArtifactStore.open(index=secret, blobs=tmp_path / "blobs")
    assert "hidden-word" not in str(told.value)
    assert "does not exist" in str(told.value)


@pytest.mark.parametrize("blobs", ["local"], indirect=True)  # S3: see test_storage_faults
def test_bytes_are_durable_before_the_index_is_asked(server, store, run, work, tmp_path):
    """A failure of storage leaves no row."""
    write(work, {"a": b"1"})
    (tmp_path / "blobs" / "tmp").rmdir()
    (tmp_path / "blobs" / "tmp").write_bytes(b"")
    with pytest.raises(BackendError):
        run.track(work)
    assert store.stats().versions == 0


class TestTheUrl:
    """What a URL or the environment sets for the driver."""

    @pytest.mark.parametrize("setting", ["prepare_threshold=0", "prepare_threshold=None"])
    def test_may_set_when_statements_are_prepared(self, url, tmp_path, setting):
        with ArtifactStore.open(index=f"{url}?{setting}", blobs=tmp_path / "blobs") as store:
            assert store.session("s").run("r").put("f", b"1").version == 1

    def test_needs_no_driver(self, url, tmp_path):
        plain = url.replace("+psycopg", "")
        with ArtifactStore.open(index=plain, blobs=tmp_path / "blobs") as store:
            assert store.session("s").run("r").put("f", b"1").version == 1

    @pytest.mark.parametrize("where", ["database", "environment"])
    def test_does_not_depend_on_the_style_of_dates(self, url, tmp_path, monkeypatch, where):
        monkeypatch.delenv("PGDATESTYLE", raising=False)
        engine = create_engine(url)
        if where == "environment":
            monkeypatch.setenv("PGDATESTYLE", "German")
        else:
            with engine.begin() as connection:
                name = make_url(url).database
                connection.exec_driver_sql(f"ALTER DATABASE {name} SET datestyle TO 'SQL, DMY'")
        engine.dispose()
        with ArtifactStore.open(index=url, blobs=tmp_path / "blobs") as store:
            made = store.session("s").run("r").put("f", b"1")
            assert store.session("s").run("r").file("f").created_at == made.created_at
            with Session(engine) as db_session:
                repository = FileRepository(db_session, "s", store=store)
                with pytest.raises(IndexUnavailableError, match="SET datestyle TO ISO"):
                    repository.list_files("r")
        engine.dispose()

    @pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns"])
    def test_does_not_depend_on_the_time_zone(self, url, tmp_path, zone):
        engine = create_engine(url)
        with engine.begin() as connection:
            name = make_url(url).database
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET timezone TO '{zone}'")
        engine.dispose()
        with ArtifactStore.open(index=url, blobs=tmp_path / "blobs") as store:
            run = store.session("s").run("r")
            made = run.put("f", b"1")
            assert run.file("f").created_at == made.created_at
            assert run.file("f").created_at.utcoffset() == timedelta(0)
            for moment in ("2026-03-29 01:30:00.07+00", "1900-01-01 00:00:00+00"):
                with engine.begin() as connection:
                    connection.exec_driver_sql("UPDATE cas_files SET created_at = %s", (moment,))
                assert run.file("f").created_at == datetime.fromisoformat(moment)
            with engine.begin() as connection:
                connection.exec_driver_sql("UPDATE cas_files SET created_at = 'infinity'")
            with pytest.raises(IndexUnavailableError, match="timestamp too large"):
                run.file("f")
        engine.dispose()

    @pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
    def test_does_not_depend_on_the_client_encoding(self, url, tmp_path, monkeypatch, encoding):
        monkeypatch.setenv("PGCLIENTENCODING", encoding)
        blobs = tmp_path / "blobs"
        for each in (url, f"{url}?client_encoding={encoding}"):
            with ArtifactStore.open(index=each, blobs=blobs) as store:
                store.session("s").run("日本").put("f", each.encode(), agent="日本")
        with ArtifactStore.open(index=url, blobs=blobs) as store:
            assert store.session("s").run("日本").file("f").agent == "日本"

    def test_of_the_application_must_be_able_to_hold_every_name(self, url, tmp_path, work):
        write(work, {"a": b"1"})
        engine = create_engine(f"{url}?client_encoding=latin1")
        with (
            ArtifactStore.open(index=url, blobs=tmp_path / "blobs") as store,
            Session(engine) as db_session,
        ):
            repository = FileRepository(db_session, "s", store=store, work_dir=work)
            with pytest.raises(IndexUnavailableError, match="set client_encoding to utf8"):
                repository.register_file("r", "a")
        engine.dispose()

    def test_of_a_database_that_cannot_hold_every_name_is_refused(self, server, tmp_path):
        with psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        narrow = make_url(server.url()).set(database="narrow")
        with pytest.raises(IndexUnavailableError, match="encoding LATIN1 can't hold every name"):
            ArtifactStore.open(index=narrow, blobs=tmp_path / "blobs")


def test_a_server_that_is_down_when_a_store_is_opened_is_waited_for(server, url, tmp_path):
    blobs = tmp_path / "blobs"
    ArtifactStore.open(index=url, blobs=blobs).close()
    server.kill()
    try:
        with pytest.raises(IndexInterruptedError):
            ArtifactStore.open(index=url, blobs=blobs, database_wait=0.2)
        tries = threading.Event()

        class Seen(logging.Handler):
            def emit(self, _record):
                tries.set()

        logger = logging.getLogger(WAITS)
        logger.setLevel(logging.INFO)
        logger.addHandler(seen := Seen())
        opened = []
        opening = threading.Thread(
            target=lambda: opened.append(ArtifactStore.open(index=url, blobs=blobs))
        )
        opening.start()
        assert tries.wait(60)
        logger.removeHandler(seen)
    finally:
        server.start()
    opening.join()
    (store,) = opened
    store.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [({"database": "nowhere"}, "does not exist"), ({"username": "nobody"}, "password")],
)
def test_a_refusal_of_the_server_is_told_at_once(server, tmp_path, change, told, caplog):
    url = make_url(server.url()).set(**change)
    with (
        caplog.at_level(logging.INFO, logger=WAITS),
        pytest.raises(IndexUnavailableError, match=told),
    ):
        ArtifactStore.open(index=url, blobs=tmp_path / "blobs")
    assert caplog.records == []
