"""Adopting an older tracker's table, which is only read."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from datetime import UTC, datetime

import pytest
from events import statements
from histories import everything_of
from legacy_model import make
from lost import lose_index
from places import EACH_INDEX, places
from trees import contents, write

import index.transfer.adopt
from cas.digest import Digest
from index import ArtifactStore, recover
from index.cli import main
from index.errors import BytesNotKeptError, LegacyTableError

place = places(EACH_INDEX)


@pytest.fixture
def database(tmp_path):
    return tmp_path / "old.db"


@pytest.fixture
def url(database):
    return f"sqlite:///{database}"


@pytest.fixture
def add(url):
    return make(url)


@pytest.fixture
def run(store):
    return store.session("s").run("r")


def row(path, **values):
    return {"file_path": str(path), "session_id": "s", **values}


def test_files_that_are_there_are_stored_with_what_was_known_of_them(store, run, url, add, work):
    write(work, {"data/a.csv": b"1", "b.py": b"2"})
    add(
        row(
            work / "data/a.csv", node_id="n1", step_id="s1", event_id="e1", file_type="data",
            workflow_phase="control", generating_agent="engineer", is_final_output=True,
            content_hash=hashlib.sha256(b"1").hexdigest(), size_bytes=1, priority="primary",
        ),
        row(work / "b.py"),
    )  # fmt: skip
    report = store.adopt(url)
    assert (report.runs, report.adopted, report.without_bytes, report.skipped) == (1, 2, 0, ())
    assert report.changed_since == 0
    assert contents(run) == {"data/a.csv": b"1", "b.py": b"2"}
    version = run.file("data/a.csv")
    assert (version.node_id, version.step_id, version.event_id) == ("n1", "s1", "e1")
    assert (version.phase, version.agent) == ("control", "engineer")
    assert (version.is_final_output, version.priority) == (True, "primary")
    assert version.created_at == datetime(2025, 3, 1, 12, tzinfo=UTC)
    assert version.meta["adopted"]["file_path"] == str(work / "data/a.csv")
    assert run.file("b.py").file_type == "code"


def test_a_scan_after_it_finds_nothing_new(store, run, url, add, work):
    write(work, {"a": b"1", "d/b": b"2"})
    add(row(work / "a"), row(work / "d/b"))
    store.adopt(url)
    snapshot = run.track(work)
    assert (snapshot.recorded, snapshot.unchanged) == (False, 2)


def test_of_files_that_are_gone_a_record_is_kept_without_bytes(
    store, run, url, add, work, tmp_path
):
    write(work, {"here": b"1"})
    add(row(work / "here"), row(work / "gone.png", size_bytes=77, generating_agent="plotter"))
    report = store.adopt(url)
    assert (report.adopted, report.without_bytes) == (1, 1)
    assert contents(run) == {"here": b"1"}
    assert {v.path for v in run.files(at=1)} == {"here", "gone.png"}
    (record,) = run.history("gone.png")
    assert (record.digest, record.size, record.agent) == (None, 77, "plotter")
    assert (record.first_snapshot, record.end_snapshot) == (1, 2)
    assert "reason" in record.meta["adopted"]
    with pytest.raises(BytesNotKeptError, match="gone"):
        run.read_bytes("gone.png", version=1)
    result = run.restore(tmp_path / "out", at=1)
    assert (result.written, result.without_bytes) == (1, ("gone.png",))
    assert run.rewind(1).skipped[0].path == "gone.png"
    assert {v.path for v in run.fork("branch", at=1).files()} == {"here"}
    assert run.delete().versions == 2


def test_run_again_it_adopts_nothing(store, run, url, add, work):
    write(work, {"a": b"1"})
    add(row(work / "a"), row(work / "gone"))
    store.adopt(url)
    again = store.adopt(url)
    assert (again.adopted, again.without_bytes, again.already_known) == (0, 0, 2)
    assert len(run.snapshots()) == 2
    add(row(work / "b"))
    write(work, {"b": b"2"})
    third = store.adopt(url)
    assert (third.adopted, third.already_known) == (1, 2)
    assert contents(run) == {"a": b"1", "b": b"2"}


def test_a_run_whose_adoption_died_before_its_records_has_them_after_the_next_one(
    place, store, url, add, work, monkeypatch
):
    write(work, {"a": b"1"})
    add(row(work / "a"))

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(index.transfer.adopt, "write_history", die)
    with pytest.raises(KeyboardInterrupt):
        store.adopt(url)
    monkeypatch.undo()
    store.adopt(url)
    before = everything_of(store)
    store.close()
    lose_index(place)
    recover(**place)
    with ArtifactStore.open(**place) as again:
        assert everything_of(again) == before


def test_run_again_it_keeps_the_root_that_it_found(store, run, url, add, work):
    """Otherwise a later row higher up would change all paths, and adopt everything twice."""
    write(work, {"data/a": b"1", "b": b"2"})
    add(row(work / "data" / "a"))
    store.adopt(url)
    add(row(work / "b"))
    again = store.adopt(url)
    assert contents(run) == {"a": b"1"}
    assert (again.adopted, again.already_known) == (0, 1)
    assert again.skipped[0].path == str(work / "b")


def test_a_file_that_is_back_gets_its_bytes(store, run, url, add, work):
    write(work, {"there": b"1"})
    add(row(work / "there"), row(work / "d/away", generating_agent="engineer"), row(work / "gone"))
    store.adopt(url, root=work)
    write(work, {"d/away": b"2"})
    again = store.adopt(url, root=work)
    assert (again.adopted, again.without_bytes, again.already_known) == (1, 0, 2)
    assert contents(run) == {"there": b"1", "d/away": b"2"}
    lost, back = run.history("d/away")
    assert (lost.digest, back.version, back.agent) == (None, 2, "engineer")
    assert run.track(work).recorded is False
    assert store.adopt(url, root=work).adopted == 0
    assert len(run.history("gone")) == 1


def test_what_is_tracked_already_is_left_alone(store, run, url, add, work):
    write(work, {"a": b"new"})
    run.track(work, agent="engineer")
    add(row(work / "a", generating_agent="old"), row(work / "gone"))
    store.adopt(url)
    assert [(v.agent, v.version) for v in run.history("a")] == [("engineer", 1)]


def test_the_old_database_is_not_written_to(store, url, add, work, database):
    write(work, {"a": b"1"})
    add(row(work / "a"), row(work / "gone"))
    before = (database.read_bytes(), database.stat().st_mtime_ns)
    store.adopt(url)
    assert (database.read_bytes(), database.stat().st_mtime_ns) == before


def test_duplicates_collapse_also_through_a_link(store, run, url, add, work, tmp_path):
    write(work, {"a": b"1"})
    (tmp_path / "way").symlink_to(work)
    later = datetime(2025, 4, 1)  # noqa: DTZ001
    add(
        row(work / "a", generating_agent="first"),
        row(work / "a", generating_agent="second"),
        row(tmp_path / "way" / "a", generating_agent="last", created_at=later),
    )
    report = store.adopt(url, root=work)
    assert (report.adopted, report.duplicates) == (1, 2)
    assert [v.agent for v in run.history("a")] == ["first"]


def test_of_rows_of_another_content_the_newest_content_counts(store, run, url, add, work):
    """Among rows of one content the oldest counts; later ones of its node fill it in."""
    write(work, {"a": b"new", "b": b"1"})
    old, new = (hashlib.sha256(data).hexdigest() for data in (b"old", b"new"))
    add(
        row(work / "a", content_hash=old, generating_agent="planner", node_id="n1"),
        row(work / "a", content_hash=new, node_id="n2"),
        row(work / "a", content_hash=new, generating_agent="engineer", node_id="n2"),
        row(work / "a", content_hash=new, generating_agent="last", step_id="s3", node_id="n3"),
    )
    report = store.adopt(url)
    version = run.file("a")
    assert (version.agent, version.node_id, version.step_id) == ("engineer", "n2", None)
    assert (report.duplicates, report.changed_since) == (3, 0)


def test_a_stale_hash_is_reported(store, url, add, work):
    write(work, {"a": b"rewritten", "b": b"same", "c": b"other", "d": b"other"})
    add(
        row(work / "a", content_hash=hashlib.sha256(b"old").hexdigest()),
        row(work / "b", content_hash=hashlib.sha256(b"same").hexdigest().upper()),
        row(work / "c", content_hash=hashlib.md5(b"same", usedforsecurity=False).hexdigest()),
        row(work / "d", content_hash="large:52428801"),
    )
    assert store.adopt(url).changed_since == 1


def test_two_sessions_with_the_same_run_stay_apart(store, url, add, tmp_path):
    write(tmp_path / "one", {"a": b"1"})
    write(tmp_path / "two", {"a": b"2"})
    add(row(tmp_path / "one/a"), row(tmp_path / "two/a", session_id="other"))
    store.adopt(url)
    assert contents(store.session("s").run("r")) == {"a": b"1"}
    assert contents(store.session("other").run("r")) == {"a": b"2"}


def test_without_a_session_column_rows_are_the_given_sessions(store, url, work):
    write(work, {"a": b"1"})
    make(url, with_session=False)({"file_path": str(work / "a"), "created_at": None})
    store.adopt(url, session="mine")
    assert contents(store.session("mine").run("r")) == {"a": b"1"}


def test_odd_rows_are_reported_and_lose_nothing_else(store, run, url, add, work, tmp_path):
    odd = os.fsdecode(b"\xff.txt")
    write(work, {"a": b"1", "folder/x": b"2"})
    (tmp_path / "secret").write_bytes(b"secret")
    (work / "link").symlink_to(tmp_path / "secret")
    add(
        row(work / "a"),
        row(work / "folder"),
        row(work / "link"),
        row("/etc/passwd"),
        row(work / ".." / ".." / "etc" / "passwd"),
        row("nul\0byte"),
        row(""),
        row(work / "x", node_id="bad\nnode"),
        row(work / "y", run_id=""),
        row(work / "z", run_id="a/b"),
    )
    report = store.adopt(url, root=work)
    assert report.adopted == 2
    assert report.without_bytes == 1
    assert len(report.skipped) == 7
    assert run.file("link").is_link
    assert set(contents(run)) == {"a", "link"}
    assert b"secret" not in contents(run).values()
    assert odd not in contents(run)


def test_placeholders_in_the_root(store, url, add, tmp_path):
    write(tmp_path / "tasks" / "r", {"d/a": b"1"})
    add(row(tmp_path / "tasks/r/d/a"))
    store.adopt(url, root=f"{tmp_path}/tasks/{{run}}")
    assert contents(store.session("s").run("r")) == {"d/a": b"1"}


def test_many_rows_take_statements_by_the_thousand(store, run, url, add, work):
    write(work, {f"d{n % 50}/f{n}": b"%d" % n for n in range(4000)})
    add(*(row(work / f"d{n % 50}/f{n}") for n in range(8000)))
    with statements(store) as issued:
        report = store.adopt(url)
    assert (report.adopted, report.without_bytes) == (4000, 4000)
    assert len(issued) < 60


def test_the_applications_database_may_be_the_indexs_own(tmp_path, work):
    url = f"sqlite:///{tmp_path / 'app.db'}"
    write(work, {"a": b"1"})
    make(url)(row(work / "a"))
    with ArtifactStore.open(index=url, blobs=tmp_path / "blobs") as store:
        assert store.adopt(url).adopted == 1
        assert store.session("s").run("r").file("a").digest == Digest.of(b"1")
    with sqlite3.connect(tmp_path / "app.db") as connection:
        assert connection.execute("SELECT count(*) FROM files").fetchone() == (1,)


def test_what_else_the_table_tells_is_kept(store, run, url, database, work):
    write(work, {"a": b"1"})
    with sqlite3.connect(database) as connection:
        connection.execute(
            "CREATE TABLE files (id INTEGER PRIMARY KEY, run_id TEXT REFERENCES runs (id),"
            " file_path TEXT, generating_code_hash TEXT, meta JSON, raw BLOB, seen DATETIME,"
            " created_at DATETIME)"
        )
        connection.execute(
            "INSERT INTO files VALUES (1, 'r', ?, 'c0de', '{not json', x'00', 'long ago', 'once')",
            (str(work / "a"),),
        )
    store.adopt(url, session="s")
    version = run.file("a")
    assert version.code_hash == "c0de"
    assert version.meta["adopted"]["meta"] == "{not json"
    assert version.meta["adopted"]["seen"] == "long ago"
    assert "raw" not in version.meta["adopted"]


def test_a_mistyped_database_is_not_created(store, tmp_path):
    with pytest.raises(LegacyTableError, match="no such file"):
        store.adopt(f"sqlite:///{tmp_path}/typo.db")
    assert not (tmp_path / "typo.db").exists()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [("CREATE TABLE other (id INT)", "no table"), ("CREATE TABLE files (id INT)", "no column")],
)
def test_a_database_that_has_no_such_table_is_told_in_one_sentence(
    store, url, database, statement, reason
):
    with sqlite3.connect(database) as connection:
        connection.execute(statement)
    with pytest.raises(LegacyTableError, match=reason):
        store.adopt(url)


@pytest.mark.parametrize(
    "url",
    [
        "nodialect://user:secret@host/db",
        "postgresql://host:secret/db",
        "postgresql://user:first@secret@host/db",
    ],
)
def test_a_url_that_can_not_be_parsed_is_not_shown(store, url):
    with pytest.raises(LegacyTableError) as raised:
        store.adopt(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("/db?scram_client_key=secret", "invalid SCRAM client key"),
        (":1/db?password=refused", r"Connection \*\*\*"),
        ("/db?nothing=1", 'invalid connection option "nothing"'),
        (":1/db?password=secret", "Connection refused"),
    ],
)
def test_what_a_driver_says_is_one_line_without_a_password(store, end, reason):
    with pytest.raises(LegacyTableError, match=f"{reason}; give the URL of the database") as raised:
        store.adopt(f"postgresql+psycopg://user@localhost{end}")
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("created_at", "9999-12-31T23:59:59-12:00"),
        ("created_at", "0001-01-01T00:00:00+12:00"),
        ("file_type", 5),
        ("file_type", b"x"),
        ("priority", 2.5),
        ("content_hash", 7),
        ("content_hash", b"7"),
        ("size_bytes", "large"),
        ("size_bytes", float("inf")),
        ("size_bytes", -3),
    ],
)
def test_a_value_that_no_tracker_writes_ends_nothing(
    store, run, url, database, work, column, value
):
    write(work, {"a": b"1"})
    with sqlite3.connect(database) as connection:
        connection.execute(f"CREATE TABLE files (id, run_id, session_id, file_path, {column})")
        rows = [(n, "r", "s", str(work / name), value) for n, name in enumerate(("a", "gone"))]
        connection.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?)", rows)
    report = store.adopt(url)
    assert (report.adopted, report.without_bytes, report.skipped) == (1, 1, ())
    assert run.read_bytes("a") == b"1"
    assert run.history("gone")[0].size == 0


def test_a_path_that_is_a_directory_by_now_changes_nothing_when_adopted_again(
    store, run, url, add, work
):
    write(work, {"a": b"1"})
    add(row(work / "a"), row(work / "gone"), row(work / "later"))
    store.adopt(url)
    (work / "gone").mkdir()
    before = run.snapshots()
    for known in (3, 3):
        report = store.adopt(url)
        assert (report.runs, report.without_bytes, report.already_known) == (0, 0, known)
    assert run.snapshots() == before
    write(work, {"later": b"2"})
    report = store.adopt(url)
    assert (report.runs, report.adopted, report.without_bytes) == (1, 1, 0)
    assert report.already_known == 2


def test_the_command_names_what_a_restore_has_no_bytes_for(store_root, url, add, work, capsys):
    write(work, {"a": b"1"})
    add(row(work / "a"), row(work / "gone"))
    for arguments in (
        ["adopt", "--from", url],
        ["restore", "--to", str(work / "then"), "--session", "s", "--run", "r", "--at", "1"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(["--store", str(store_root), *arguments])
        assert ended.value.code == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("1 run: 1 file adopted, 1 kept without bytes")
    assert "1 file written" in printed.out
    assert "the store has no bytes of it: gone" in printed.err


def test_as_a_command(store_root, url, add, work, capsys):
    write(work, {"a": b"1"})
    add(row(work / "a"), row(work / "gone"), row("/etc/passwd"))
    for arguments in (["--root", str(work), "--json"], ["--root", str(work)]):
        with pytest.raises(SystemExit) as ended:
            main(["--store", str(store_root), "adopt", "--from", url, *arguments])
        assert ended.value.code == 0
        printed = capsys.readouterr()
        if "--json" in arguments:
            told = json.loads(printed.out)
            assert (told["adopted"], told["without_bytes"]) == (1, 1)
            assert told["skipped"][0]["path"] == "/etc/passwd"
        else:
            assert "2 known already" in printed.out
            assert "/etc/passwd" in printed.err


class TestRoots:
    """Each run may have a work directory of its own, and trees may have moved since."""

    @pytest.fixture
    def trees(self, tmp_path, add):
        for name in ("r1", "r2", "r3"):
            write(tmp_path / name / "work", {"data/a.csv": name.encode()})
            add(row(tmp_path / name / "work" / "data" / "a.csv", run_id=name))
        return tmp_path

    @staticmethod
    def adopted(store):
        return {summary.run: list(store.session("s").run(summary.run)) for summary in store.runs()}

    @pytest.mark.parametrize("kind", ["template", "path", "mapping", "function"])
    def test_a_root_may_be_given_in_any_way(self, store, url, trees, kind):
        folders = {name: trees / name / "work" for name in ("r1", "r2", "r3")}
        roots = {
            "template": f"{trees}/{{run}}/work",
            "path": trees / "{run}" / "work",
            "mapping": folders,
            "function": lambda session, run: folders[run] if session == "s" else None,
        }
        store.adopt(url, root=roots[kind])
        assert self.adopted(store) == {name: ["data/a.csv"] for name in folders}

    def test_where_it_names_none_the_common_directory_counts(self, store, url, trees):
        store.adopt(url, root={"r1": trees / "r1" / "work"})
        assert self.adopted(store) == {"r1": ["data/a.csv"], "r2": ["a.csv"], "r3": ["a.csv"]}

    def test_a_root_of_the_wrong_kind_says_so(self, store, url, trees):
        with pytest.raises(TypeError, match="PathLike"):
            store.adopt(url, root=7)
        assert store.runs() == []

    @pytest.mark.parametrize("with_root", [True, False])
    def test_trees_that_have_moved_are_found(self, store, url, trees, with_root):
        (trees / "r1").rename(trees / "new")
        (trees / "r2").rename(trees / "new r2")
        here = os.path.relpath(trees / "new r2")
        moved = {f"/{trees}/x/../r1": trees / "new", f"{trees}/r2/": f"{here}/"}
        root = {"r1": trees / "new" / "work", "r2": trees / "new r2" / "work"}
        report = store.adopt(url, root=root if with_root else None, moved=moved)
        assert (report.adopted, report.without_bytes, report.skipped) == (3, 0, ())
        (path,) = store.session("s").run("r1")
        assert path == ("data/a.csv" if with_root else "a.csv")
        version = store.session("s").run("r1")[path]
        assert version.meta["adopted"]["file_path"] == str(trees / "r1/work/data/a.csv")
        again = store.adopt(url, moved=moved)
        assert (again.adopted, again.already_known) == (0, 3)

    def test_the_deepest_move_counts_and_a_name_that_only_begins_so_does_not(
        self, store, url, trees, add
    ):
        (trees / "r1").rename(trees / "elsewhere")
        (trees / "r2").rename(trees / "r2 moved")
        write(trees / "r22", {"b": b"1"})
        add(row(trees / "r22" / "b", run_id="r22"))
        moved = {
            str(trees): trees,
            str(trees / "r1"): "/nowhere",
            str(trees / "r1/work"): trees / "elsewhere/work",
            str(trees / "r2"): trees / "r2 moved",
        }
        report = store.adopt(url, moved=moved)
        assert (report.adopted, report.without_bytes) == (4, 0)

    @pytest.mark.parametrize(
        ("moved", "error"),
        [
            ({"old": "new"}, ValueError),
            ([("/a", "/b")], TypeError),
            ({"/a": 7}, TypeError),
            ({5: "/b"}, ValueError),
        ],
    )
    def test_moves_that_make_no_sense_are_refused(self, store, url, trees, moved, error):
        with pytest.raises(error):
            store.adopt(url, moved=moved)
        assert store.runs() == []

    def test_the_command_takes_moves(self, cas, url, trees):
        (trees / "r1").rename(trees / "new")
        (trees / "r2").rename(trees / "newer")
        moves = (f"{trees}/r1={trees}/new", "--moved", f"{trees}/r2={trees}/newer")
        code, out, _ = cas("adopt", "--from", url, "--moved", *moves)
        assert code == 0
        assert out.startswith("3 runs: 3 files adopted, 0 kept without bytes")
        for wrong in ("no-mark", "relative=/b", "/a="):
            code, _, err = cas("adopt", "--from", url, "--moved", wrong)
            assert code == 2
            assert "OLD=NEW" in err
