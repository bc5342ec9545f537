"""Registering files inside an application's own transaction, in its database."""

from __future__ import annotations

import os
import sqlite3
import threading
from datetime import timedelta
from pathlib import PurePath
from uuid import uuid4

import pytest
from forged import assert_sound
from histories import everything_of
from lost import lose_index
from places import EACH_INDEX, on, packs_of
from sqlalchemy import Column, Integer, String, create_engine, event, func, select, text
from sqlalchemy.exc import SAWarning
from sqlalchemy.orm import Session, declarative_base
from sqlalchemy.pool import StaticPool
from trees import contents, write

from cas.digest import Digest
from cas.errors import BackendError
from index import ArtifactStore, FileRepository, Provenance, recover
from index.db import schema
from index.errors import (
    IndexUnavailableError,
    InvalidNameError,
    SchemaOutOfDateError,
    StoreMismatchError,
    UnknownFileError,
    UnknownRunError,
    UnsafePathError,
    WorkDirectoryError,
)

HOUR_NS = 3_600_000_000_000

Base = declarative_base()


class AppSession(Base):
    __tablename__ = "sessions"
    id = Column(String, primary_key=True)


class AppFile(Base):
    __tablename__ = "files"
    id = Column(Integer, primary_key=True)
    file_path = Column(String)


def make_application(url):
    """Create the application's tables and its Alembic version. Ours come beside them."""
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('app7')"))
    engine.dispose()


@pytest.fixture(params=EACH_INDEX)
def place(request, stores, tmp_path):
    """A store whose index is in the application's database."""
    made = stores.make(request.param, tmp_path, prepare=make_application)
    yield made
    stores.drop(made)


@pytest.fixture
def url(place):
    """The URL of the application's database."""
    return place["index"]


@pytest.fixture
def app_store(place):
    with ArtifactStore.open(**place) as opened:
        yield opened


def engine_on(url, begin=None):
    """An application's engine; with `begin`, one that follows SQLAlchemy's recipe."""
    if not url.startswith("sqlite"):
        return create_engine(url)
    engine = create_engine(url, connect_args={"timeout": 30})
    if begin:

        @event.listens_for(engine, "connect")
        def take_over(connection, _record):
            connection.isolation_level = None

        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


@pytest.fixture
def engine(url, app_store):
    engine = engine_on(url)
    yield engine
    engine.dispose()


@pytest.fixture
def recipe_engine(url, app_store):
    engine = engine_on(url, "BEGIN")
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
    """The run as others see it."""
    return app_store.session("s").run("r")


def issued(*engines):
    seen = []
    for engine in engines:
        event.listen(engine, "before_cursor_execute", lambda *a: seen.append(a[2]))
    return seen


def loads(seen):
    """Statements that read a whole run."""
    found = [s for s in seen if s.startswith("SELECT cas_files.signature")]
    return [s for s in found if " IN (" not in s]  # not those of some paths


def listings(seen):
    """Statements that read all versions of a run."""
    return [s for s in seen if "ORDER BY cas_files.appeared_in" in s]


def once_before(fragment, act, *engines):
    """Call `act` before the first statement with `fragment` in it."""
    done = []

    def look(_connection, _cursor, statement, *_):
        if fragment in statement and not done:
            done.append(statement)
            act()

    for engine in engines:
        event.listen(engine, "before_cursor_execute", look)
    return done


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

    def test_what_a_savepoint_took_back_can_be_registered_again(
        self, repository, db_session, committed, work
    ):
        write(work, {"a": b"1", "b": b"2"})
        repository.register_file("r", "a")
        savepoint = db_session.begin_nested()
        repository.register_file("r", "b")
        savepoint.rollback()
        repository.register_file("r", "b")
        db_session.commit()
        assert contents(committed) == {"a": b"1", "b": b"2"}

    def test_bytes_are_durable_before_the_commit(self, repository, db_session, objects, work):
        write(work, {"a": os.urandom(5000)})
        repository.register_file("r", "a")
        (pack,) = packs_of(objects)
        assert_sound(PurePath(pack).stem, objects.read(pack))

    def test_a_crash_leaves_a_pack_that_harms_nothing(
        self, repository, db_session, app_store, committed, objects, work
    ):
        write(work, {"a": b"1"})
        repository.register_file("r", "a")
        db_session.close()  # the end of a process does the same to its transaction
        assert app_store.stats().packs == 0
        assert len(packs_of(objects)) == 1
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
        assert db_session.scalar(text(versions.format("cas_alembic_version"))) == schema.HEAD

    def test_one_repository_serves_many_transactions(self, repository, db_session, committed, work):
        for number in range(4):
            write(work, {"a": b"%d" % number})
            repository.register_file("r", "a")
            db_session.commit()
        assert [v.version for v in committed.history("a")] == [1, 2, 3, 4]


@on(index="sqlite", because="PostgreSQL has real savepoints")
class TestSavepointsOnSQLite:
    def test_a_rollback_takes_back_what_a_savepoint_began_the_transaction_with(
        self, repository, db_session, app_store, committed, work
    ):
        write(work, {"a": b"1", "b": b"2"})
        with db_session.begin_nested():
            repository.register_file("r", "a")
        db_session.rollback()
        assert app_store.runs() == []
        with db_session.begin_nested():
            assert repository.list_files("r") == []
            with db_session.begin_nested():
                repository.register_file("r", "b")
        db_session.rollback()
        assert app_store.runs() == []
        with db_session.begin_nested():
            repository.register_file("r", "a")
        assert app_store.runs() == []
        db_session.commit()
        assert contents(committed) == {"a": b"1"}

    def test_where_the_driver_began_none_it_refuses_what_no_rollback_could_undo(
        self, repository, db_session, app_store, work
    ):
        write(work, {"a": b"1"})
        with db_session.begin_nested():
            db_session.scalar(select(func.count()).select_from(AppSession))
            with pytest.raises(IndexUnavailableError, match="Non-Legacy SQLite") as caught:
                repository.register_file("r", "a")
        assert str(caught.value).count("\n") == 0
        db_session.rollback()
        assert app_store.runs() == []
        db_session.add(AppSession(id="s"))
        with db_session.begin_nested():  # after the application's own row
            db_session.scalar(select(func.count()).select_from(AppSession))
            repository.register_file("r", "a")
        db_session.rollback()
        assert app_store.runs() == []

    def test_with_the_recipe_whatever_comes_first(self, recipe_engine, app_store, work):
        write(work, {"a": b"1"})
        with Session(recipe_engine) as db_session:
            with db_session.begin_nested():
                db_session.scalar(select(func.count()).select_from(AppSession))
                FileRepository(db_session, "s", store=app_store, work_dir=work).register_file(
                    "r", "a"
                )
            db_session.rollback()
        assert app_store.runs() == []


@on(index="sqlite", because="elsewhere writers wait for rows, not for each other")
class TestOtherWriters:
    @pytest.mark.parametrize("start", ["plain", "savepoint", "listed", "unchanged"])
    def test_one_that_commits_while_a_file_is_read_is_waited_for(
        self, recipe_engine, app_store, committed, work, start
    ):
        write(work, {"old": b"0"})
        committed.track(work)
        write(work, {"a": b"1"})
        other = app_store.session("s").run("other")
        met = once_before(
            "FROM cas_blobs",
            lambda: other.put("x", b"x"),
            recipe_engine,
            app_store.context.database.engine,
        )
        with Session(recipe_engine) as db_session, db_session.begin():
            repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
            if start == "listed":
                assert len(repository.list_files("r")) == 1
            if start == "unchanged":
                repository.register_file("r", "old")
            if start == "savepoint":
                with db_session.begin_nested():
                    repository.register_file("r", "a")
            else:
                repository.register_file("r", "a")
        assert met
        assert contents(committed) == {"a": b"1", "old": b"0"}

    def test_after_the_caller_has_read_it_says_how_to_begin(
        self, url, recipe_engine, app_store, committed, work
    ):
        write(work, {"a": b"1"})
        count = select(func.count()).select_from(AppSession)
        with Session(recipe_engine) as db_session:
            repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
            db_session.scalar(count)
            app_store.session("s").run("other").put("x", b"x")
            with pytest.raises(IndexUnavailableError, match="BEGIN IMMEDIATE") as caught:
                repository.register_file("r", "a")
            assert str(caught.value).count("\n") == 0
            assert db_session.scalar(count) == 0  # the transaction is unchanged
        engine = engine_on(url, "BEGIN IMMEDIATE")
        with Session(engine) as db_session, db_session.begin():
            db_session.scalar(count)
            repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
            repository.register_file("r", "a")
        engine.dispose()
        assert contents(committed) == {"a": b"1"}


class TestChangesByOthers:
    @pytest.mark.parametrize("how", ["put", "rewind", "track", "delete"])
    def test_between_two_calls_of_one_transaction(
        self, repository, db_session, committed, work, how
    ):
        names = [f"f{n}" for n in range(8)]
        write(work, dict.fromkeys(names[:1], b"first"))
        committed.track(work)
        write(work, {name: name.encode() for name in names})
        committed.track(work)
        for name in names[:4]:
            repository.register_file("r", name)
        if how == "put":
            committed.put("f7", b"other")
        elif how == "rewind":
            committed.rewind(1)
        elif how == "track":
            (work / "f0").unlink()
            committed.track(work)
        else:
            committed.delete()
        for name in ("f6", "f7", "f5"):
            assert repository.register_file("r", name).path == name
        write(work, {"new": b"n"})
        repository.register_file("r", "new")
        db_session.commit()
        assert {v.path for v in committed.files()} == {
            "put": {*names, "new"},
            "rewind": {"f0", "new"},
            "track": {*names[1:], "new"},
            "delete": {"f5", "f6", "f7", "new"},
        }[how]

    def test_a_blob_that_is_swept_while_foreign_keys_are_off(
        self, url, repository, db_session, app_store, committed, engine, work
    ):
        other = app_store.session("s").run("other")
        other.put("x", b"swept")
        other.delete()  # nothing refers to the bytes now, but they are known

        def sweep():
            if url.startswith("sqlite"):
                with sqlite3.connect(app_store.context.database.file) as connection:
                    connection.execute("DELETE FROM cas_blobs")
                connection.close()
            else:
                with app_store.context.database.engine.begin() as connection:
                    connection.exec_driver_sql("DELETE FROM cas_blobs")

        fragment = "UPDATE cas_store" if url.startswith("sqlite") else "SAVEPOINT"
        swept = once_before(fragment, sweep, engine)
        write(work, {"a": b"swept"})
        repository.register_file("r", "a")
        db_session.commit()
        assert swept
        assert contents(committed) == {"a": b"swept"}


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

    def test_a_registration_fills_what_a_scan_did_not_know(self, repository, committed, work):
        write(work, {"a": b"1"})
        committed.track(work, phase="control")
        mine = repository.register_file("r", "a", node_id="n1", generating_agent="maker")
        assert (mine.phase, mine.node_id, mine.agent) == ("control", "n1", "maker")
        assert (mine.version, mine.refused) == (1, None)

    def test_a_registration_of_another_makers_content_says_what_was_refused(self, repository, work):
        write(work, {"a": b"1"})
        repository.register_file("r", "a", node_id="n1", generating_agent="maker")
        late = repository.register_file("r", "a", node_id="n1", generating_agent="late")
        assert late.agent == "maker"
        assert late.refused == Provenance(agent="late")
        assert repository.register_file("r", "a").refused is None

    def test_short_and_long_names_are_one_parameter(self, repository, work):
        write(work, {"a": b"1", "b": b"2", "c": b"3"})
        short = repository.register_file("r", "a", agent="x", phase="p", code_hash="c")
        long_names = {"generating_agent": "x", "workflow_phase": "p", "generating_code_hash": "c"}
        long = repository.register_file("r", "b", **long_names)
        (both,) = repository.register_files("r", ["c"], **long_names, agent="x")
        assert {(v.agent, v.phase, v.code_hash) for v in (short, long, both)} == {("x", "p", "c")}
        for name in ("agent", "generating_agent", "phase", "code_hash"):
            value = {"phase": "p", "code_hash": "c"}.get(name, "x")
            assert repository.list_files("r", **{name: value}) == [short, long, both]
            assert repository.list_files("r", **{name: "other"}) == []
        with pytest.raises(TypeError, match="give code_hash or generating_code_hash, not both"):
            repository.register_file("r", "a", code_hash="c", generating_code_hash="d")

    def test_integers_and_uuids_are_ids(self, db_session, app_store, work):
        write(work, {"a": b"1"})
        name = uuid4()
        repository = FileRepository(db_session, 7, store=app_store, work_dir=work)
        version = repository.register_file(name, "a", node_id=name, step_id=3)
        assert (version.session, version.run) == ("7", str(name))
        assert (version.node_id, version.step_id) == (str(name), "3")
        assert repository.list_files(name, step_id=3) == [version]

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

    def test_what_was_said_holds_for_the_next_version(self, repository, work):
        write(work, {"odd": b"1"})
        repository.register_file("r", "odd", "special", is_final_output=True, meta={"n": 1})
        write(work, {"odd": b"2"})
        version = repository.register_file("r", "odd", node_id="n")
        assert (version.version, version.file_type) == (2, "special")
        assert (version.is_final_output, version.meta) == (True, {"n": 1})


class TestRemoval:
    def test_a_removal_is_the_callers_to_commit(self, repository, db_session, committed, work):
        write(work, {"a": b"1", "b": b"2"})
        repository.register_files("r", ["a", "b"])
        db_session.commit()
        repository.remove_file("r", "a")
        db_session.rollback()
        assert set(contents(committed)) == {"a", "b"}
        gone = repository.remove_file("r", work / "a", agent="cleaner", node_id="n")
        assert (gone.path, gone.version, gone.end_snapshot) == ("a", 1, 2)
        assert [v.path for v in repository.list_files("r")] == ["b"]
        db_session.commit()
        assert contents(committed) == {"b": b"2"}
        assert committed.snapshots()[-1].provenance == Provenance(agent="cleaner", node_id="n")
        assert committed.read_bytes("a", version=1) == b"1"

    def test_a_file_is_removed_and_registered_again_in_one_transaction(
        self, repository, db_session, committed, work
    ):
        write(work, {"a": b"1", "b": b"2"})
        repository.register_files("r", ["a", "b"])
        assert [v.path for v in repository.remove_files("r", ["b", "a"])] == ["b", "a"]
        assert repository.register_file("r", "a").version == 2
        db_session.commit()
        assert contents(committed) == {"a": b"1"}

    def test_without_a_work_directory_paths_are_those_of_the_run(
        self, db_session, app_store, committed
    ):
        committed.put("a/b", b"1")
        FileRepository(db_session, "s", store=app_store).remove_file("r", "a/b")
        db_session.commit()
        assert committed.files() == ()

    def test_what_is_not_there_removes_nothing(self, repository, db_session, committed):
        with pytest.raises(UnknownRunError):
            repository.remove_file("r", "a")
        committed.put_many([("table.csv", b"1"), ("b", b"1")])
        db_session.rollback()
        with pytest.raises(UnknownFileError, match=r"the closest is 'table\.csv'"):
            repository.remove_files("r", ["b", "tabel.csv"])
        db_session.commit()
        assert len(committed.files()) == 2

    def test_it_removes_what_others_have_recorded(self, repository, db_session, place, committed):
        committed.put("f", b"1")
        assert repository.list_files("r")[0].version == 1
        with ArtifactStore.open(**place) as elsewhere:
            elsewhere.session("s").run("r").put("f", b"2")
        db_session.rollback()
        assert repository.remove_file("r", "f").version == 2
        db_session.commit()
        assert committed.files() == ()


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
    @pytest.mark.parametrize("window", [-HOUR_NS, HOUR_NS], ids=["believed", "racy"])
    def test_unchanged_files_cost_no_statement_each(
        self, repository, db_session, engine, app_store, work, monkeypatch, window
    ):
        """This holds for files whose signature is trusted at once, and for those read each time.

        When a file's signature becomes trusted, that is written once. The clock must not decide in
        which of the two rounds this happens.
        """
        monkeypatch.setattr("index.scan.ingest.RACY_WINDOW_NS", window)
        write(work, {f"f{n}": b"%d" % n for n in range(1000)})
        repository.register_files("r", [f"f{n}" for n in range(1000)])
        db_session.commit()
        counts = {}
        for number in (100, 1000):
            with Session(engine) as fresh:
                again = FileRepository(fresh, "s", store=app_store, work_dir=work)
                seen = issued(engine, app_store.context.database.engine)
                for n in range(number):
                    again.register_file("r", f"f{n}")
                counts[number] = sum(statement != "BEGIN" for statement in seen)
        assert counts[100] == counts[1000]
        assert counts[1000] <= 20

    def test_many_new_files_make_one_pack_and_one_snapshot(
        self, repository, db_session, engine, app_store, committed, work, objects
    ):
        write(work, {f"f{n}": b"%d" % n for n in range(500)})
        seen = issued(engine, app_store.context.database.engine)
        made = repository.register_files("r", [f"f{n}" for n in range(500)])
        db_session.commit()
        assert [v.path for v in made] == [f"f{n}" for n in range(500)]
        assert len(packs_of(objects)) == 1
        assert len(committed.snapshots()) == 1
        assert len(seen) <= 30

    def test_what_a_commit_made_is_not_read_again(self, engine, app_store, work):
        write(work, {f"f{n}": b"%d" % n for n in range(20)})
        seen = issued(engine, app_store.context.database.engine)
        for name in ("f1", "f2", "f1", "f3", "f2"):
            with Session(engine) as db_session, db_session.begin():
                repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
                repository.register_file("r", name)
        assert loads(seen) == []

    def test_changes_and_unchanged_files_in_turn_read_the_run_once(
        self, repository, db_session, engine, app_store, committed, work
    ):
        write(work, {f"f{n}": b"%d" % n for n in range(60)})
        write(work, {f"new{n}": b"new%d" % n for n in range(10)})
        committed.track(work, ignore=["new*"])
        seen = issued(engine, app_store.context.database.engine)
        for number in range(10):
            with db_session.begin_nested():
                repository.register_file("r", f"new{number}")
            for again in range(6):
                version = repository.register_file("r", f"f{6 * number + again}")
                assert version.path == f"f{6 * number + again}"
            assert repository.register_file("r", "new0").path == "new0"
        assert len(loads(seen)) <= 1
        assert len(listings(seen)) <= 1
        db_session.commit()
        assert len(committed.files()) == 70

    @pytest.mark.parametrize("files", [60, 600])
    def test_after_others_a_registration_loads_what_concerns_its_path(
        self, repository, db_session, engine, app_store, place, committed, work, files
    ):
        write(work, {f"f{n}": b"%d" % n for n in range(files)} | {"d/new": b"1"})
        committed.track(work, ignore=["d"])
        with ArtifactStore.open(**place) as other:
            other.session("s").run("r").put("theirs", b"1")
        seen = issued(engine, app_store.context.database.engine)
        repository.register_file("r", "d/new")
        assert repository.register_file("r", "f1").path == "f1"
        db_session.commit()
        assert loads(seen) == []
        assert len(seen) < 40
        assert len(committed.files()) == files + 2

    @pytest.mark.parametrize("end", ["rollback", "savepoint", "outer"])
    def test_what_was_taken_back_is_not_taken_for_recorded(
        self, place, engine, app_store, committed, work, end
    ):
        write(work, {"a": b"1"})
        with engine.connect() as connection:
            outer = connection.begin()
            bind = connection if end == "outer" else engine
            if end != "outer":
                outer.rollback()
            with Session(bind, join_transaction_mode="rollback_only") as db_session:
                repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
                db_session.execute(text("UPDATE alembic_version SET version_num = 'app7'"))
                savepoint = db_session.begin_nested() if end == "savepoint" else None
                repository.register_file("r", "a")
                if savepoint is not None:
                    savepoint.rollback()
                if end == "rollback":
                    db_session.rollback()
                db_session.commit()
            if end == "outer":
                outer.rollback()
        assert app_store.runs() == []
        with ArtifactStore.open(**place) as other:
            # It gets the rolled back run's revision; another store acts like another process.
            other.session("s").run("r").put("b", b"2")
        with Session(engine) as db_session, db_session.begin():
            repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
            repository.register_file("r", "a")
        assert contents(committed) == {"a": b"1", "b": b"2"}


class TestASharedConnection:
    """Sessions that share a connection: what one rolls back, another may have written."""

    @pytest.fixture
    def shared(self, url, app_store):
        engine = create_engine(url, poolclass=StaticPool)
        yield engine
        engine.dispose()

    def register(self, db_session, app_store, work):
        repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
        return repository, repository.register_file("r", "a")

    @pytest.mark.parametrize("end", ["rollback", "close"])
    def test_of_the_driver_is_noticed_by_the_next_call_and_the_commit(
        self, shared, app_store, committed, work, end
    ):
        write(work, {"a": b"1", "b": b"2"})
        with Session(shared) as first:
            repository, _ = self.register(first, app_store, work)
            second = Session(shared)
            second.execute(text("SELECT count(*) FROM sessions"))
            getattr(second, end)()
            for call in (
                lambda: repository.register_file("r", "a"),
                lambda: repository.list_files("r"),
                first.commit,
            ):
                with pytest.raises(IndexUnavailableError, match="another session rolled back"):
                    call()
            first.rollback()
            repository.register_file("r", "a")
            first.commit()
            second.close()
        assert contents(committed) == {"a": b"1"}

    def test_a_deletion_that_was_undone_is_noticed_as_well(self, shared, app_store, committed):
        committed.put("a", b"1")
        with Session(shared) as first:
            FileRepository(first, "s", store=app_store).delete_run("r")
            with Session(shared) as second:
                second.execute(text("SELECT count(*) FROM sessions"))
                second.rollback()
            with pytest.raises(IndexUnavailableError, match="another session rolled back"):
                first.commit()
            first.rollback()
        assert contents(committed) == {"a": b"1"}

    def test_of_sqlalchemy_is_noticed_too(self, engine, app_store, committed, work):
        write(work, {"a": b"1"})
        with engine.connect() as connection:
            connection.begin()
            with Session(connection, join_transaction_mode="rollback_only") as first:
                repository, _ = self.register(first, app_store, work)
                with Session(connection, join_transaction_mode="rollback_only") as second:
                    second.execute(text("SELECT count(*) FROM sessions"))
                    second.rollback()
                with pytest.raises(IndexUnavailableError, match="another session rolled back"):
                    repository.register_file("r", "a")
                with pytest.warns(SAWarning, match="deassociated"):  # SQLAlchemy notices as well
                    first.rollback()
        assert app_store.runs() == []

    def test_that_another_session_commits_keeps_what_was_registered(
        self, shared, app_store, committed, work
    ):
        write(work, {"a": b"1", "b": b"2"})
        with Session(shared) as first, Session(shared) as second:
            repository, version = self.register(first, app_store, work)
            second.execute(text("SELECT count(*) FROM sessions"))
            second.commit()
            assert repository.register_file("r", "a") == version
            repository.register_file("r", "b")
            first.commit()
        assert contents(committed) == {"a": b"1", "b": b"2"}


class TestRefusals:
    @pytest.mark.parametrize("path", ["../out", "/etc/hostname", "a/../../out", ""])
    def test_paths_outside_the_work_directory(self, repository, app_store, work, path):
        with pytest.raises(UnsafePathError):
            repository.register_file("r", path)
        assert repository.list_files("r") == []

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

    def test_paths_are_named_as_they_were_given(self, repository, work):
        given = f"{work}/data/../a"
        with pytest.raises(UnsafePathError) as caught:
            repository.register_file("r", given)
        assert caught.value.path == given

    @pytest.mark.parametrize("run_id", [None, 5.0, True, "a/b", "\udcff", ""])
    def test_ids_that_can_not_be_one(self, repository, run_id):
        with pytest.raises(InvalidNameError):
            repository.list_files(run_id)
        with pytest.raises(InvalidNameError):
            repository.register_file(run_id, "a")

    def test_what_is_of_the_wrong_type(self, repository, engine, app_store, work):
        for paths in ("data/a.txt", b"data/a.txt", work / "a"):
            with pytest.raises(TypeError, match="a sequence of paths"):
                repository.register_files("r", paths)
        for path in (b"a", 5, None):
            with pytest.raises(TypeError, match="a file path is"):
                repository.register_file("r", path)
        with pytest.raises(TypeError, match="a SQLAlchemy Session, not Engine"):
            FileRepository(engine, "s", store=app_store, work_dir=work)

    @on(index="sqlite", because="a server's files are nowhere near a work directory")
    def test_the_files_of_the_index(self, db_session, app_store, tmp_path):
        write(tmp_path, {"a": b"1", "index.db.csv": b"2"})
        repository = FileRepository(db_session, "s", store=app_store, work_dir=tmp_path)
        repository.register_files("r", ["a", "index.db.csv"])
        for path in ("index.db", "index.db-wal"):
            with pytest.raises(WorkDirectoryError, match="the store itself"):
                repository.register_file("r", path)
        assert [v.path for v in repository.list_files("r")] == ["a", "index.db.csv"]

    @on(blobs="local", because="no path leads into a bucket")
    def test_the_files_of_the_blobs(self, db_session, app_store, objects, tmp_path):
        write(tmp_path, {"a": b"1"})
        repository = FileRepository(db_session, "s", store=app_store, work_dir=tmp_path)
        repository.register_file("r", "a")
        pack = objects.root / packs_of(objects)[0]
        inside = FileRepository(db_session, "s", store=app_store, work_dir=objects.root)
        for one in (repository, inside):
            with pytest.raises(WorkDirectoryError, match="the store itself"):
                one.register_file("r", pack)
        assert [v.path for v in repository.list_files("r")] == ["a"]


class TestDeletion:
    @pytest.fixture
    def recorded(self, app_store, committed, work):
        write(work, {"a": b"1", "b": b"22"})
        committed.track(work, agent="engineer")
        committed.fork("branch")
        committed.put("c", b"333")
        return committed

    def test_a_run_is_gone_when_the_caller_commits(
        self, recorded, repository, db_session, app_store, engine
    ):
        receipt = repository.delete_run("r")
        assert (receipt.runs, receipt.files, receipt.versions) == (("r",), 3, 3)
        assert [blob.size for blob in receipt.released] == [3]
        assert {blob.run for blob in receipt.kept} == {"branch"}
        assert repository.list_files("r") == []
        assert len(recorded.files()) == 3  # what all others still see
        db_session.commit()
        assert [summary.run for summary in app_store.runs()] == ["branch"]
        branch = app_store.session("s").run("branch")
        assert contents(branch) == {"a": b"1", "b": b"22"}
        assert app_store.runs()[0].forked_from is None
        assert app_store.verify(depth="bytes").is_sound
        with engine.connect() as connection:  # the application's enforces no foreign keys
            for table in ("cas_files", "cas_snapshots", "cas_records"):
                statement = f"SELECT run_id FROM {table} WHERE run_id IS NOT NULL"  # noqa: S608
                owners = set(connection.exec_driver_sql(statement).scalars())
                assert owners == {connection.exec_driver_sql("SELECT id FROM cas_runs").scalar()}

    def test_it_stays_when_the_caller_rolls_back(self, recorded, repository, db_session, app_store):
        before = app_store.stats().packs
        repository.delete_run("r")
        db_session.rollback()
        assert contents(recorded) == {"a": b"1", "b": b"22", "c": b"333"}
        assert app_store.stats().packs == before
        assert repository.delete_run("r").versions == 3

    def test_what_was_rolled_back_to_a_savepoint_is_not_deleted(
        self, recorded, url, app_store, work
    ):
        engine = engine_on(url, "BEGIN IMMEDIATE")
        with Session(engine) as db_session, db_session.begin():
            repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
            nested = db_session.begin_nested()
            repository.delete_run("r")
            nested.rollback()
            repository.delete_run("branch")
        engine.dispose()
        assert [summary.run for summary in app_store.runs()] == ["r"]
        assert recorded.track(work).unchanged == 2

    def test_a_run_of_that_name_may_follow_in_the_same_transaction(
        self, recorded, repository, db_session, app_store
    ):
        repository.delete_run("r")
        version = repository.register_file("r", "a", generating_agent="another")
        assert (version.version, version.agent) == (1, "another")
        assert [v.path for v in repository.list_files("r")] == ["a"]
        db_session.commit()
        assert contents(recorded) == {"a": b"1"}
        assert recorded.file("a").agent == "another"
        assert app_store.verify(depth="bytes").is_sound

    @on(index="postgresql", because="SQLite has no commit in two phases")
    def test_two_phases_keep_files_and_delete_no_run(self, recorded, url, app_store, work):
        engine = create_engine(url)
        with Session(engine, twophase=True) as db_session:
            repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
            with pytest.raises(IndexUnavailableError, match="two phases; use another session"):
                repository.delete_run("r")
            write(work, {"more": b"1"})
            repository.register_file("r", "more")
            db_session.commit()
        engine.dispose()
        assert "more" in recorded

    @pytest.mark.parametrize("ending", ["commit", "rollback", "savepoint"])
    def test_a_recovery_brings_back_no_deleted_run_and_loses_no_other(
        self, recorded, place, url, app_store, work, ending
    ):
        """The record of a deletion that was rolled back must not be in storage."""
        recorded.fork("kept")
        engine = engine_on(url, "BEGIN IMMEDIATE")
        with Session(engine) as db_session:
            repository = FileRepository(db_session, "s", store=app_store, work_dir=work)
            nested = db_session.begin_nested()
            repository.delete_run("r")
            if ending == "savepoint":
                nested.rollback()
            db_session.rollback() if ending == "rollback" else db_session.commit()
        engine.dispose()
        expected = everything_of(app_store)
        app_store.close()
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place, create=False) as found:
            assert everything_of(found) == expected
            assert ("r" in [s.run for s in found.runs()]) == (ending != "commit")

    def test_storage_that_fails_at_the_commit_leaves_everything_as_it_was(
        self, recorded, repository, db_session, monkeypatch
    ):
        repository.delete_run("r")

        def fail(*_):
            raise BackendError("packs", "no space left")

        monkeypatch.setattr("index.commit.delete.encode_record", fail)
        with pytest.raises(BackendError):
            db_session.commit()
        db_session.rollback()
        assert len(recorded.files()) == 3

    def test_a_run_of_another_session_or_none_is_unknown(self, recorded, repository, app_store):
        app_store.session("other").run("secret").put("a", b"1")
        for name in ("secret", "nothing"):
            with pytest.raises(UnknownRunError):
                repository.delete_run(name)
        with pytest.raises(InvalidNameError):
            repository.delete_run("")
        assert app_store.session("other").run("secret").read_bytes("a") == b"1"

    def test_garbage_collection_then_removes_its_bytes(
        self, recorded, repository, db_session, app_store
    ):
        repository.delete_run("r")
        db_session.commit()
        plan = app_store.plan_gc(grace=timedelta(0))
        paths = {(blob.run, blob.path) for blob in plan.iter_blobs() if blob.path}
        assert paths == {("r", "c")}
        plan.execute()
        assert app_store.verify(depth="bytes").is_sound
