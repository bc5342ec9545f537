"""Changes of runs are seen as they happen, by whichever process, and only those of the session."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from events import statements
from places import EACH_INDEX, as_json, on, places
from sqlalchemy import create_engine
from sqlalchemy.orm import Session as DatabaseSession
from trees import write

from index import ArtifactStore, FileRepository, RunChange

place = places(EACH_INDEX)

ELSEWHERE = """
import json, sys
from index import ArtifactStore
with ArtifactStore.open(**json.loads(sys.argv[1])) as store:
    store.session("s").run("r").put("f", b"elsewhere")
"""


class Script(threading.Event):
    """A stop whose waits each do the next thing; it is set when nothing is left."""

    def __init__(self, *acts):
        super().__init__()
        self.acts = list(acts)

    def wait(self, timeout=None):
        if self.acts:
            self.acts.pop(0)()
        else:
            self.set()
        return self.is_set()


def nothing():
    """Do nothing between two looks."""


def followed(target, *acts):
    """Return the changes that are seen while these things are done, one between two looks each."""
    return list(target.follow(stop=Script(*acts)))


@pytest.fixture
def run(store):
    run = store.session("s").run("r")
    run.put("f", b"1")
    return run


def test_what_was_there_before_is_no_change(store, run):
    assert followed(store, nothing, nothing) == []


def test_a_change_between_the_call_and_the_first_look_is_seen(store, run):
    changes = store.follow(stop=Script())
    run.put("f", b"2")
    assert [(change.run, change.snapshot) for change in changes] == [("r", 2)]


def test_each_kind_of_commit_is_seen(store, run, work):
    write(work, {"a": b"1"})
    acts = {
        "put": lambda: run.put("f", b"2"),
        "track": lambda: run.track(work),
        "status": lambda: run.set_status("running"),
        "tag": lambda: run.tag("best"),
        "untag": lambda: run.untag("best"),
        "annotate": lambda: run.annotate("f", agent="late"),
        "remove": lambda: run.remove("f"),
        "rewind": lambda: run.rewind(1),
    }
    seen = followed(store, *acts.values())
    assert len(seen) == len(acts)
    assert {(change.session, change.run, change.deleted) for change in seen} == {("s", "r", False)}
    assert [change.snapshot for change in seen] == [2, 3, 3, 3, 3, 3, 4, 5]
    revisions = [change.revision for change in seen]
    assert revisions == sorted(set(revisions))
    assert seen[-1].snapshot == run.summary().snapshots


def test_commits_between_two_looks_are_one_change(store, run):
    def twice():
        run.put("f", b"2")
        run.put("f", b"3")

    assert [change.snapshot for change in followed(store, twice)] == [3]


def test_new_runs_forks_and_deletions_are_seen(store, run):
    session = store.session("s")
    seen = followed(
        session,
        lambda: session.run("new").put("f", b"1"),
        lambda: run.fork("fork"),
        run.delete,
        lambda: session.run("r").put("f", b"again"),
        session.delete,
    )
    *first, again, one, two, three = seen
    assert [(change.run, change.snapshot, change.deleted) for change in first] == [
        ("new", 1, False),
        ("fork", 1, False),
        ("r", 1, True),
    ]
    assert (again.run, again.deleted) == ("r", False)
    assert [(each.run, each.deleted) for each in (one, two, three)] == [
        ("fork", True),
        ("new", True),
        ("r", True),
    ]


def test_a_run_that_was_deleted_and_made_again_is_two_changes(store, run):
    def replaced():
        run.delete()
        run.put("f", b"1")

    seen = followed(store, replaced)
    assert [(change.run, change.deleted) for change in seen] == [("r", True), ("r", False)]


def test_files_registered_in_another_transaction_are_seen_when_it_commits(
    store, run, place, work, tmp_path
):
    write(work, {"a": b"1"})
    index = place.get("index", f"sqlite:///{place.get('root')}/index.db")
    engine = create_engine(index)
    with DatabaseSession(engine) as db_session:
        files = FileRepository(db_session, "s", store=store, work_dir=work)
        seen = followed(store, lambda: files.register_file("r", "a"), nothing, db_session.commit)
    engine.dispose()
    assert [(change.run, change.snapshot) for change in seen] == [("r", 2)]


def test_a_change_by_another_process_is_seen(store, run, place):
    def elsewhere():
        subprocess.run([sys.executable, "-c", ELSEWHERE, as_json(place)], check=True)

    assert [change.snapshot for change in followed(store, nothing, elsewhere, nothing)] == [2]


def test_a_session_sees_only_its_own_runs(store, run):
    theirs = store.session("theirs").run("r")
    acts = (
        lambda: theirs.put("f", b"1"),
        lambda: theirs.set_status("failed"),
        lambda: run.put("f", b"more %d" % len(run.snapshots())),
        theirs.delete,
    )
    seen = followed(store.session("s"), *acts)
    assert [(change.session, change.run) for change in seen] == [("s", "r")]
    theirs.put("f", b"1")
    assert len(followed(store, *acts[1:])) == 3


def test_a_session_that_does_not_exist_yet_is_followed(store):
    session = store.session("later")
    seen = followed(session, nothing, lambda: session.run("first").put("f", b"1"))
    assert [change.run for change in seen] == ["first"]


def test_while_nothing_changes_the_runs_are_not_read(store, run):
    changes = store.follow(stop=Script(*[nothing] * 5))
    with statements(store) as seen:
        assert list(changes) == []
    looks = [text for text in seen if "cas_runs" in text]
    assert len(looks) == 1  # the first one
    assert all("pg_current_snapshot" in text for text in seen if text.startswith("SELECT CASE"))
    assert not [text for text in seen if text.startswith("SELECT") and "cas_snap" in text][1:]


def test_a_commit_costs_no_more_statements_while_somebody_follows(store, run):
    with statements(store) as alone:
        run.put("f", b"alone")
    acted = []

    def counted():
        with statements(store) as seen:
            run.put("f", b"followed")
        acted.extend(seen)

    assert len(followed(store, counted)) == 1
    assert len(acted) == len(alone)


def following(store, stop):
    """Follow in another thread; return the thread and an event that its first change sets."""
    seen = threading.Event()
    changes = store.follow(stop=stop, interval=0.05)

    def collect():
        for _ in changes:
            seen.set()

    thread = threading.Thread(target=collect)
    thread.start()
    return thread, seen


def test_a_stop_ends_it(store, run):
    stop = threading.Event()
    thread, seen = following(store, stop)
    run.put("f", b"2")
    assert seen.wait(30)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_a_stop_ends_it_between_two_changes_of_one_look(store, run):
    stop = Script(lambda: [store.session("s").run(name).put("f", b"1") for name in "abc"])
    seen = []
    for change in store.follow(stop=stop):
        seen.append(change.run)
        stop.set()
    assert seen == ["a"]


def test_closing_the_store_ends_it(place):
    store = ArtifactStore.open(**place)
    store.session("s").run("r").put("f", b"1")
    thread, seen = following(store, threading.Event())
    store.session("s").run("r").put("f", b"2")
    assert seen.wait(30)
    store.close()
    thread.join(30)
    assert not thread.is_alive()


@on(index="sqlite", because="a server has no file that may be there for reading alone")
def test_an_index_that_can_only_be_read_is_followed(place):
    with ArtifactStore.open(**place) as store:
        store.session("s").run("r").put("f", b"1")
    log = place["root"] / "index.db-shm"
    log.symlink_to(place["root"] / "missing" / "file")  # SQLite can't make its log, not even root

    def written():
        log.unlink()
        with ArtifactStore.open(**place) as store:
            store.session("s").run("r").put("f", b"2")
        log.symlink_to(place["root"] / "missing" / "file")

    with ArtifactStore.open(**place) as store:
        assert [change.snapshot for change in followed(store, nothing, written, nothing)] == [2]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"stop": None}, TypeError),
        ({"stop": True}, TypeError),
        ({"stop": threading.Event(), "interval": "1"}, TypeError),
        ({"stop": threading.Event(), "interval": 0}, ValueError),
        ({"stop": threading.Event(), "interval": -1}, ValueError),
    ],
)
def test_what_is_no_stop_or_no_interval_is_refused(store, given, kind):
    with pytest.raises(kind, match=r"stop|interval"):
        store.follow(**given)


def test_a_change_has_a_json_form(store, run):
    (change,) = followed(store, run.delete)
    assert change == RunChange("s", "r", 1, 1, deleted=True)
    assert json.loads(json.dumps(change.to_dict())) == {
        "session": "s",
        "run": "r",
        "snapshot": 1,
        "revision": 1,
        "deleted": True,
    }
