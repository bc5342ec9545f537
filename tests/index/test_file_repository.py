"""Registering files inside an application's own transaction, on its own database."""

from __future__ import annotations

import os
import threading
import time

import pytest
from sqlalchemy import Column, Integer, String, create_engine, event, text
from sqlalchemy.orm import Session, declarative_base
from trees import contents, packs_in, write

from cas.digest import Digest
from index import ArtifactStore, FileRepository
from index.errors import (
    IndexUnavailableError,
    InvalidNameError,
    SchemaOutOfDateError,
    StoreMismatchError,
    UnsafePathError,
    WorkDirectoryError,
)

Base = declarative_base()


class AppSession(Base):
    __tablename__ = "sessions"
    id = Column(String, primary_key=True)


class AppFile(Base):
    __tablename__ = "files"
    id = Column(Integer, primary_key=True)
    file_path = Column(String)


@pytest.fixture
def url(tmp_path):
    """The application's database: its own tables, its own Alembic version, then ours beside."""
    url = f"sqlite:///{tmp_path / 'app.db'}"
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('app7')"))
    engine.dispose()
    return url


@pytest.fixture
def app_store(url, tmp_path):
    with ArtifactStore.open(index=url, blobs=tmp_path / "blobs") as opened:
        yield opened


@pytest.fixture
def engine(url, app_store):
    engine = create_engine(url, connect_args={"timeout": 30})
    yield engine
    engine.dispose()


@pytest.fixture
def db_session(engine):
    with Session(engine) as session:
        yield session


@pytest.fixture
def repository(db_session, app_store, work):
    return FileRepository(db_session, "s", store=app_store, work_dir=work)


@pytest.fixture
def committed(app_store):
    """What everybody else sees of the run."""
    return app_store.session("s").run("r")


def issued(engine):
    seen = []
    event.listen(engine, "before_cursor_execute", lambda *a: seen.append(a[2]))
    return seen


def sends_begin(engine, statement):
    """Make the engine send BEGIN itself, as SQLAlchemy's documentation has it for SQLite."""

    def connect(connection, _record):
        connection.isolation_level = None

    engine.dispose()
    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(statement))


class TestSavepointsAndLocks:
    """What SQLite's driver and its locks make of a transaction."""

    def test_a_savepoint_before_the_transaction_is_refused(
        self, repository, db_session, app_store, work
    ):
        """Its release would commit, and the rollback after it take nothing back."""
        write(work, {"a": b"1"})
        with (
            pytest.raises(IndexUnavailableError, match="a savepoint comes before"),
            db_session.begin_nested(),
        ):
            repository.register_file("r", "a")
        db_session.rollback()
        assert app_store.runs() == []

    @pytest.mark.parametrize("statement", ["BEGIN", "BEGIN IMMEDIATE"])
    def test_with_a_real_begin_a_savepoint_may_come_first(self, engine, app_store, work, statement):
        write(work, {"a": b"1"})
        sends_begin(engine, statement)
        for end in ("rollback", "commit"):
            with Session(engine) as db_session:
                repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
                with db_session.begin_nested():
                    repository.register_file("r", "a")
                assert app_store.runs() == []
                getattr(db_session, end)()
            assert len(app_store.runs()) == (end == "commit")

    @pytest.mark.parametrize("statement", ["BEGIN", "BEGIN IMMEDIATE"])
    def test_others_that_commit_all_the_time_do_not_disturb(
        self, engine, app_store, work, statement
    ):
        """The lock is taken before anything is read, so that it is waited for."""
        sends_begin(engine, statement)
        stop = threading.Event()

        def commit_all_the_time():
            other = app_store.session("s").run("other")
            while not stop.is_set():
                other.put("f", os.urandom(8))

        busy = threading.Thread(target=commit_all_the_time)
        busy.start()
        try:
            for turn in range(30):
                write(work, {"a": b"%d" % turn})
                with Session(engine) as db_session, db_session.begin():
                    repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
                    repository.register_file("r", "a")
        finally:
            stop.set()
            busy.join()
        assert len(app_store.session("s").run("r").history("a")) == 30

    def test_who_has_read_and_was_overtaken_is_told_what_to_do(self, engine, app_store, work):
        write(work, {"a": b"1"})
        sends_begin(engine, "BEGIN")
        with Session(engine) as db_session:
            repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
            assert repository.list_files("r") == []
            app_store.session("s").run("other").put("f", b"1")
            with pytest.raises(IndexUnavailableError, match="BEGIN IMMEDIATE"):
                repository.register_file("r", "a")

    @pytest.mark.parametrize("act", ["put", "rewind", "delete", "track"])
    def test_what_others_do_to_the_run_between_two_calls(
        self, repository, db_session, app_store, committed, work, act, monkeypatch
    ):
        """Whatever was remembered of the run is asked for again, not missed."""
        write(work, {f"f{n}": b"%d" % n for n in range(8)})
        original = time.time_ns  # later, so that the files are old enough to be believed unread
        monkeypatch.setattr("index.tracking.time.time_ns", lambda: original() + 10**10)
        committed.track(work)
        write(work, {"f5": b"new"} if act == "track" else {})
        repository.register_file("r", "f0")
        {
            "put": lambda: committed.put("f5", b"by another"),
            "rewind": lambda: committed.rewind(0),
            "delete": committed.delete,
            "track": lambda: committed.track(work),
        }[act]()
        for number in range(1, 8):
            found = repository.register_file("r", f"f{number}")
            assert found.digest == Digest.of((work / f"f{number}").read_bytes())
        db_session.commit()
        expected = {f"f{n}" for n in range(8)}
        assert set(contents(committed)) >= expected - {"f0"}

    def test_a_run_is_loaded_once_for_many_transactions(
        self, repository, db_session, committed, engine, work
    ):
        write(work, {f"f{n}": b"%d" % n for n in range(50)})
        committed.track(work)
        committed._services.states._states.clear()
        seen = issued(engine)
        event.listen(
            committed._services.database.engine,
            "before_cursor_execute",
            lambda *told: seen.append(told[2]),
        )
        for number in range(10):
            repository.register_file("r", f"f{number}")
            db_session.commit()
        assert sum("cas_files.signature" in statement for statement in seen) == 1

    def test_what_is_rolled_back_is_not_remembered(
        self, repository, db_session, app_store, committed, work
    ):
        """Another commit may have the revision that the one that was taken back had."""
        write(work, {"a": b"1"})
        repository.register_file("r", "a")
        db_session.commit()
        write(work, {"a": b"2"})
        repository.register_file("r", "a")
        with db_session.begin_nested():
            write(work, {"b": b"1"})
            repository.register_file("r", "b")
        db_session.rollback()
        committed.put("a", b"by another")
        repository.register_file("r", "a")
        db_session.commit()
        assert [v.digest for v in committed.history("a")] == [
            Digest.of(one) for one in (b"1", b"by another", b"2")
        ]


class TestTheCallersTransaction:
    def test_a_commit_makes_it_visible_and_nothing_before(
        self, repository, db_session, committed, app_store, work
    ):
        write(work, {"data/a.csv": b"1"})
        version = repository.register_file("r", "data/a.csv", "data", generating_agent="engineer")
        assert app_store.runs() == []
        db_session.commit()
        assert contents(committed) == {"data/a.csv": b"1"}
        assert committed.file("data/a.csv") == version
        assert (version.agent, version.file_type, version.session) == ("engineer", "data", "s")

    def test_a_rollback_takes_it_back_with_the_applications_own_rows(
        self, repository, db_session, app_store, work
    ):
        write(work, {"a": b"1"})
        db_session.add(AppSession(id="s"))
        repository.register_file("r", "a")
        db_session.rollback()
        assert app_store.runs() == []
        assert db_session.query(AppSession).count() == 0
        repository.register_file("r", "a")
        db_session.add(AppSession(id="s"))
        db_session.commit()
        assert [s.run for s in app_store.runs()] == ["r"]
        assert db_session.query(AppSession).count() == 1

    @pytest.mark.parametrize("end", ["rollback", "commit"])
    def test_a_savepoint_takes_back_only_what_was_registered_since(
        self, repository, db_session, committed, work, end
    ):
        write(work, {"a": b"1", "b": b"2", "c": b"3"})
        repository.register_file("r", "a")
        savepoint = db_session.begin_nested()
        repository.register_file("r", "b")
        getattr(savepoint, end)()
        repository.register_file("r", "c")
        db_session.commit()
        kept = {"a": b"1", "c": b"3"}
        assert contents(committed) == (kept | {"b": b"2"} if end == "commit" else kept)

    def test_bytes_are_durable_before_the_commit(self, repository, db_session, tmp_path, work):
        write(work, {"a": os.urandom(5000)})
        repository.register_file("r", "a")
        (pack,) = packs_in(tmp_path / "blobs")
        assert pack.stem == str(Digest.of(pack.read_bytes()))

    def test_a_crash_leaves_a_pack_that_harms_nothing(
        self, repository, db_session, app_store, committed, tmp_path, work
    ):
        write(work, {"a": b"1"})
        repository.register_file("r", "a")
        db_session.close()  # what the end of a process does to its transaction
        assert app_store.stats().packs == 0
        assert len(packs_in(tmp_path / "blobs")) == 1
        committed.track(work)
        assert contents(committed) == {"a": b"1"}

    def test_the_applications_tables_are_its_own(self, repository, db_session, work):
        write(work, {"a": b"1"})
        repository.register_file("r", "a")
        db_session.commit()
        assert db_session.query(AppFile).count() == 0
        assert db_session.query(AppSession).count() == 0
        versions = "SELECT version_num FROM {}"
        assert db_session.scalar(text(versions.format("alembic_version"))) == "app7"
        assert db_session.scalar(text(versions.format("cas_alembic_version"))) == "0001"

    def test_one_repository_serves_many_transactions(self, repository, db_session, committed, work):
        for number in range(4):
            write(work, {"a": b"%d" % number})
            repository.register_file("r", "a")
            db_session.commit()
        assert [v.version for v in committed.history("a")] == [1, 2, 3, 4]


class TestOneRecord:
    def test_twice_in_one_transaction_flushed_or_not(self, repository, db_session, committed, work):
        write(work, {"a": b"1"})
        first = repository.register_file("r", "a")
        assert repository.register_file("r", "a") == first
        db_session.flush()
        assert repository.register_file("r", "a") == first
        db_session.commit()
        assert repository.register_file("r", "a") == first
        db_session.commit()
        assert len(committed.history("a")) == 1
        assert len(committed.snapshots()) == 1

    def test_by_any_way_to_it(self, db_session, app_store, committed, work, tmp_path):
        write(work, {"d/a": b"1"})
        (tmp_path / "way").symlink_to(work)
        repository = FileRepository(db_session, "s", store=app_store, work_dir=tmp_path / "way")
        ids = {
            repository.register_file("r", path).id
            for path in ("d/a", "./d//a", work / "d" / "a", str(tmp_path / "way" / "d" / "a"))
        }
        assert len(ids) == 1
        db_session.commit()
        moved = tmp_path / "moved"
        work.rename(moved)
        repository = FileRepository(db_session, "s", store=app_store, work_dir=moved)
        assert {repository.register_file("r", moved / "d" / "a").id} == ids

    def test_from_four_threads_at_once(self, engine, app_store, committed, work):
        write(work, {f"f{n}": b"%d" % n for n in range(40)})
        errors = []

        def attempt():
            try:
                with Session(engine) as db_session:
                    repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
                    for number in range(40):
                        repository.register_file("r", f"f{number}")
                        db_session.commit()
            except Exception as error:  # noqa: BLE001 - asserted below
                errors.append(error)

        threads = [threading.Thread(target=attempt) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(committed.files()) == 40
        assert {len(committed.history(f"f{n}")) for n in range(40)} == {1}

    def test_a_scan_that_commits_between_two_registrations(
        self, repository, db_session, committed, work
    ):
        write(work, {"a": b"1", "b": b"2"})
        repository.register_file("r", "a")
        db_session.commit()
        repository.register_file("r", "a")  # the state is in memory now
        committed.track(work, agent="scan")
        write(work, {"c": b"3"})
        repository.register_files("r", ["b", "c"], generating_agent="repository")
        db_session.commit()
        assert {v.path: v.agent for v in committed.files()} == {
            "a": None,
            "b": "scan",
            "c": "repository",
        }
        assert len(committed.history("b")) == 1


class TestAttribution:
    def test_new_content_is_a_new_version_with_new_provenance_whole(
        self, repository, db_session, committed, work
    ):
        write(work, {"a": b"1"})
        repository.register_file("r", "a", None, "n1", "s1", "e1", "planning", "planner")
        write(work, {"a": b"2"})
        repository.register_file("r", "a", node_id="n2")
        db_session.commit()
        first, second = committed.history("a")
        assert (first.node_id, first.step_id, first.event_id) == ("n1", "s1", "e1")
        assert (first.phase, first.agent) == ("planning", "planner")
        assert (second.node_id, second.agent, second.phase) == ("n2", None, None)

    def test_only_the_same_node_fills_what_is_missing(self, repository, work):
        write(work, {"a": b"1"})
        repository.register_file("r", "a", node_id="n1")
        other = repository.register_file("r", "a", node_id="n2", generating_agent="intruder")
        assert (other.agent, other.node_id) == (None, "n1")
        mine = repository.register_file("r", "a", node_id="n1", generating_agent="maker")
        assert mine.agent == "maker"
        late = repository.register_file("r", "a", node_id="n1", generating_agent="late")
        assert late.agent == "maker"

    def test_a_final_flag_and_notes_are_set_and_not_cleared(self, repository, work):
        write(work, {"odd": b"1"})
        assert repository.register_file("r", "odd").priority == "internal"
        marked = repository.register_file("r", "odd", is_final_output=True, meta={"n": 1})
        assert (marked.is_final_output, marked.priority, marked.meta) == (True, "primary", {"n": 1})
        assert repository.register_file("r", "odd").is_final_output
        assert repository.register_file("r", "odd").version == 1

    def test_large_and_empty_files_are_hashed(self, repository, work):
        large = os.urandom(1 << 20) * 60
        write(work, {"large": large, "empty": b""})
        assert repository.register_file("r", "large").digest == Digest.of(large)
        assert repository.register_file("r", "empty").digest == Digest.of(b"")


class TestListing:
    def test_it_shows_what_is_not_committed_yet_and_filters(self, repository, work):
        write(work, {"a.py": b"1", "b.png": b"2", "c.csv": b"3"})
        repository.register_file("r", "b.png", workflow_phase="one", node_id="n")
        repository.register_file("r", "a.py", workflow_phase="two", is_final_output=True)
        repository.register_file("r", "c.csv", workflow_phase="two", generating_agent="x")
        paths = lambda **wanted: [v.path for v in repository.list_files("r", **wanted)]  # noqa: E731
        assert paths() == ["b.png", "a.py", "c.csv"]
        assert paths(phase="two") == ["a.py", "c.csv"]
        assert paths(file_type="plot") == ["b.png"]
        assert paths(phase="two", file_type="data") == ["c.csv"]
        assert paths(node_id="n") == ["b.png"]
        assert paths(generating_agent="x") == ["c.csv"]
        assert paths(is_final_output=True) == ["a.py"]

    def test_another_sessions_run_has_no_files(self, repository, db_session, app_store, work):
        write(work, {"a": b"1"})
        repository.register_file("r", "a", generating_agent="mine")
        other = FileRepository(db_session, "other", store=app_store, work_dir=work)
        assert other.list_files("r") == []
        other.register_file("r", "a", generating_agent="theirs")
        assert [v.agent for v in repository.list_files("r")] == ["mine"]
        assert repository.list_files("nobody") == []


class TestStatements:
    def test_unchanged_files_cost_no_statement_each(
        self, repository, db_session, engine, app_store, work
    ):
        write(work, {f"f{n}": b"%d" % n for n in range(1000)})
        repository.register_files("r", [f"f{n}" for n in range(1000)])
        db_session.commit()
        counts = {}
        for number in (100, 1000):
            with Session(engine) as fresh:
                again = FileRepository(fresh, "s", store=app_store, work_dir=work)
                seen = issued(engine)
                for n in range(number):
                    again.register_file("r", f"f{n}")
                counts[number] = len(seen)
        assert counts[100] == counts[1000]
        assert counts[1000] <= 20

    def test_many_new_files_make_one_pack_and_one_snapshot(
        self, repository, db_session, engine, committed, work, tmp_path
    ):
        write(work, {f"f{n}": b"%d" % n for n in range(500)})
        seen = issued(engine)
        made = repository.register_files("r", [f"f{n}" for n in range(500)])
        db_session.commit()
        assert [v.path for v in made] == [f"f{n}" for n in range(500)]
        assert len(packs_in(tmp_path / "blobs")) == 1
        assert len(committed.snapshots()) == 1
        assert len(seen) <= 30


class TestRefusals:
    @pytest.mark.parametrize("path", ["../out", "/etc/hostname", "a/../../out", ""])
    def test_paths_outside_the_work_directory(self, repository, app_store, work, path):
        with pytest.raises(UnsafePathError):
            repository.register_file("r", path)
        assert repository.list_files("r") == []

    def test_the_stores_own_files_are_refused(self, db_session, app_store, tmp_path, committed):
        committed.put("f", b"1")
        repository = FileRepository(db_session, "s", store=app_store, work_dir=tmp_path)
        for path in (tmp_path / "app.db", *packs_in(tmp_path / "blobs")):
            with pytest.raises(UnsafePathError, match="belongs to the store"):
                repository.register_file("r", path)

    def test_arguments_of_a_wrong_kind_say_so(self, repository, engine, app_store, work):
        with pytest.raises(TypeError, match="not one string"):
            repository.register_files("r", "data/a.txt")
        with pytest.raises(TypeError, match="a path is text"):
            repository.register_file("r", b"a")
        with pytest.raises(TypeError, match="a SQLAlchemy session is needed"):
            FileRepository(engine.dialect, "s", store=app_store, work_dir=work)
        with pytest.raises(UnsafePathError, match=f"{work}/x/../a"):
            repository.register_file("r", f"{work}/x/../a")
        for run_id in (None, 5, "a/b", "\udcff", ""):
            with pytest.raises(InvalidNameError):
                repository.list_files(run_id)

    def test_what_is_no_file_says_so_and_records_nothing(self, repository, work):
        (work / "folder").mkdir()
        write(work, {"full/f": b"1"})
        os.mkfifo(work / "fifo")
        for path, reason in (
            ("missing", "no such file"),
            ("folder", "directory"),
            ("full", "directory"),
            ("fifo", "FIFO"),
        ):
            with pytest.raises(WorkDirectoryError, match=reason):
                repository.register_file("r", path)
        assert repository.list_files("r") == []

    def test_a_link_out_of_the_run_is_recorded_as_a_link(self, repository, work, tmp_path):
        (tmp_path / "secret").write_bytes(b"secret")
        (work / "link").symlink_to(tmp_path / "secret")
        version = repository.register_file("r", "link")
        assert version.is_link
        assert version.digest == Digest.of(os.fsencode(tmp_path / "secret"))

    def test_a_directory_that_is_a_link_out_of_the_run_is_not_entered(
        self, repository, work, tmp_path
    ):
        write(tmp_path / "outside", {"f": b"secret"})
        (work / "way").symlink_to(tmp_path / "outside")
        with pytest.raises(UnsafePathError):
            repository.register_file("r", "way/f")
        with pytest.raises(UnsafePathError):
            repository.register_file("r", work / "way" / "f")
        with pytest.raises(UnsafePathError):
            repository.register_file("r", tmp_path / "outside" / "f")

    def test_a_database_that_is_not_the_stores(self, app_store, work, tmp_path):
        bare = create_engine(f"sqlite:///{tmp_path / 'bare.db'}")
        with Session(bare) as db_session, pytest.raises(SchemaOutOfDateError):
            FileRepository(db_session, "s", store=app_store, work_dir=work).list_files("r")
        ArtifactStore.open(tmp_path / "other").close()
        other = create_engine(f"sqlite:///{tmp_path / 'other' / 'index.db'}")
        with Session(other) as db_session, pytest.raises(StoreMismatchError):
            FileRepository(db_session, "s", store=app_store, work_dir=work).list_files("r")

    def test_without_a_work_directory_it_asks_for_one(self, db_session, app_store):
        with pytest.raises(ValueError, match="work_dir"):
            FileRepository(db_session, "s", store=app_store).register_file("r", "a")
