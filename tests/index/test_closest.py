"""Errors of what does not exist name what is close to it, of what the asker may see."""

from __future__ import annotations

import pytest
from places import EACH_INDEX, places
from trees import write

from index import ArtifactStore
from index.errors import UnknownRunError, UnknownRunNameError, UnknownSessionError

place = places(EACH_INDEX)


@pytest.fixture
def session(store):
    for name in ("run-7", "run-71", "fit"):
        store.session("task").run(name).put("a", name.encode(), agent="engineer", file_type="plot")
    store.session("tasks").run("run-8").put("a", b"theirs", agent="engineering")
    return store.session("task")


CALLS = {
    "files": lambda session, run, _folder: run.files(),
    "history": lambda session, run, _folder: run.history("a"),
    "read": lambda session, run, _folder: run.read_bytes("a"),
    "stats": lambda session, run, _folder: run.stats(),
    "restore": lambda session, run, folder: run.restore(folder / "out"),
    "diff": lambda session, run, _folder: run.diff(0),
    "fork": lambda session, run, _folder: run.fork("new"),
    "rewind": lambda session, run, _folder: run.rewind(0),
    "remove": lambda session, run, _folder: run.remove("a"),
    "annotate": lambda session, run, _folder: run.annotate("a", meta={}),
    "delete": lambda session, run, _folder: run.delete(),
    "resolve": lambda session, run, _folder: session.resolve("a", run=run.id),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_unknown_run_names_the_closest_runs_of_its_session(session, tmp_path, name):
    with pytest.raises(UnknownRunError, match="the closest are 'run-7', 'run-71'") as raised:
        CALLS[name](session, session.run("run_7"), tmp_path)
    assert raised.value.closest == ("run-7", "run-71")
    with pytest.raises(UnknownRunError, match=r"`session\.runs\(\)` lists") as raised:
        CALLS[name](session, session.run("xyzzy"), tmp_path)
    assert raised.value.closest == ()


def test_a_name_in_other_case_is_close(session):
    with pytest.raises(UnknownRunError, match="the closest is 'fit'"):
        session.run("FIT").files()


def test_the_library_names_no_session_to_one_that_does_not_exist(store, session):
    with pytest.raises(UnknownSessionError) as raised:
        store.session("taks").runs()
    assert raised.value.closest == ()
    with pytest.raises(UnknownRunError) as raised:
        store.session("taks").run("run-7").files()
    assert raised.value.closest == ()


def test_a_sync_names_the_closest_sessions_and_runs(store, session, tmp_path):
    with ArtifactStore.open(tmp_path / "copy") as copy:
        with pytest.raises(UnknownSessionError, match="the closest are 'tas"):
            store.sync_to(copy, sessions=["taks"])
        with pytest.raises(UnknownRunError, match="the closest are 'run-7', 'run-71'"):
            store.sync_to(copy, sessions=["task"], runs=["run_7"])
        with pytest.raises(UnknownRunNameError, match="the closest are 'run-8', 'run-7', 'run-71'"):
            store.sync_to(copy, runs=["run-9"])


class TestTheCommand:
    @pytest.fixture
    def cas(self, cas, store_root, monkeypatch):
        with ArtifactStore.open(store_root) as store:
            for session, run in (("task", "run-7"), ("other", "run-8")):
                store.session(session).run(run).put("a", run.encode(), agent="engineer")
        monkeypatch.setenv("CAS_STORE", str(store_root))
        return cas

    def test_it_names_the_closest_run(self, cas):
        code, _, err = cas("ls", "--session", "task", "--run", "run-9")
        assert (code, "the closest is 'run-7'" in err, "run-8" in err) == (4, True, False)

    @pytest.mark.parametrize(
        "arguments",
        [("ls",), ("ls", "--run", "run-7"), ("runs",), ("find",), ("show", "a"), ("stats", "--by",
         "agent"), ("rm", "--whole-session", "--yes"), ("log", "a", "--run", "r")],
    )  # fmt: skip
    def test_it_names_the_closest_session(self, cas, arguments):
        code, _, err = cas(*arguments, "--session", "taks")
        assert code == 4
        assert "there is no session 'taks' in this store; the closest is 'task'" in err

    def test_a_listing_of_nothing_names_the_closest_label(self, cas):
        here = ("--session", "task", "--run", "run-7")
        code, out, err = cas("ls", *here, "--agent", "enginer")
        assert (code, out) == (0, "")
        assert err == "no file has the agent 'enginer'; the closest is 'engineer'\n"
        assert cas("ls", *here, "--type", "xyzzy")[2] == "no file has the type 'xyzzy'\n"
        assert cas("ls", *here, "--agent", "engineer", "--prefix", "none")[2] == ""
        assert cas("ls", *here, "--agent", "enginer", "--json")[1] == "[]\n"


def test_a_directory_that_is_asked_for_as_a_file_is_named_as_one(cas, tmp_path):
    write(tmp_path / "work", {"data/a.csv": b"1"})
    assert cas("track", "work")[0] == 0
    for command in ("log", "cat"):
        code, _, err = cas(command, "data")
        assert (code, "has no 'data'; the closest is 'data/'" in err) == (4, True), err
