"""Tags: names for snapshots and versions, and where they have pointed."""

from __future__ import annotations

import inspect
import threading

import pytest
from places import EACH_INDEX, places
from trees import contents, read, write

from index import Run, provenance
from index.errors import (
    InvalidNameError,
    UnknownFileError,
    UnknownRunError,
    UnknownSnapshotError,
    UnknownTagError,
)

place = places(EACH_INDEX)


@pytest.fixture
def history(run, work):
    """A run of three snapshots."""
    write(work, {"a": b"1", "b": b"1"})
    run.track(work)
    write(work, {"a": b"2"})
    run.track(work)
    write(work, {"a": b"3"})
    run.track(work)
    return run


def named(tag):
    return tag.name, tag.snapshot, tag.path, tag.version


def test_a_tag_names_the_newest_snapshot_or_another(history):
    assert named(history.tag("last")) == ("last", 3, None, None)
    assert named(history.tag("first", at=1)) == ("first", 1, None, None)
    assert named(history.tag("second", at=history.snapshots()[1])) == ("second", 2, None, None)
    assert named(history.tag("same", at="first")) == ("same", 1, None, None)
    assert [named(tag) for tag in history.tags()] == [
        ("first", 1, None, None),
        ("last", 3, None, None),
        ("same", 1, None, None),
        ("second", 2, None, None),
    ]


def test_a_tag_names_a_version_of_a_file(history):
    assert named(history.tag("now", path="a")) == ("now", None, "a", 3)
    assert named(history.tag("best", path="./a", version=2)) == ("best", None, "a", 2)
    assert named(history.tag("old", path="a", at=1)) == ("old", None, "a", 1)


def test_a_tag_moves_and_tells_where_it_was(history):
    history.tag("best", at=1, agent="engineer")
    history.tag("best", path="a", version=2)
    with provenance(agent="reviewer"):
        moved = history.tag("best", at=3)
        removed = history.untag("best")
    assert [named(tag)[1:] for tag in history.tag_history("best")] == [
        (1, None, None),
        (None, "a", 2),
        (3, None, None),
        (None, None, None),
    ]
    assert [tag.agent for tag in history.tag_history("best")] == [
        "engineer", None, "reviewer", "reviewer",
    ]  # fmt: skip
    assert history.tag_history("best")[2:] == (moved, removed)
    assert history.tags() == ()
    with pytest.raises(UnknownTagError, match=r"no snapshot with the tag 'best'; `run.tags\(\)`"):
        history.untag("best")
    assert named(history.tag("best", at=2)) == ("best", 2, None, None)


def test_a_tag_makes_no_snapshot_and_changes_no_file(history, work):
    history.tag("best")
    history.untag("best")
    assert len(history.snapshots()) == 3
    assert not history.track(work).recorded


def test_it_is_taken_wherever_a_snapshot_is(history, work, tmp_path):
    history.tag("best", at=2)
    assert {v.path: v.version for v in history.files(at="best")} == {"a": 2, "b": 1}
    assert [v.version for v in history.iter_files(at="best", limit=1)] == [2]
    assert [each.version.version for each in history.list_dir(at="best")] == [2, 1]
    assert history.file("a", at="best").version == history.get("a", at="best").version == 2
    assert history.get("missing", at="best") is None
    assert history.read_bytes("a", at="best") == b"2"
    with history.open("a", at="best") as stream:
        assert stream.read() == b"2"
    assert dict(history.read_many(at="best")) == {"a": b"2", "b": b"1"}
    assert history.local_path("a", at="best").read_bytes() == b"2"
    history.restore(tmp_path / "out", at="best")
    assert read(tmp_path / "out") == {"a": b"2", "b": b"1"}
    assert [each.path for each in history.diff("best").changed] == ["a"]
    assert [each.path for each in history.diff(1, "best").changed] == ["a"]
    assert history.manifest(at="best")["snapshot"] == 2
    fork = history.fork("run-2", at="best")
    assert not history.diff(fork, at="best")
    assert contents(fork) == {"a": b"2", "b": b"1"}
    history.rewind("best")
    assert contents(history) == {"a": b"2", "b": b"1"}


def read_stream(stream):
    with stream:
        return stream.read()


TAKING_A_SNAPSHOT = {
    "archive": lambda run, at, _: b"".join(run.archive("tar", at=at)),
    "diff": lambda run, at, _: run.diff(at).changed,
    "file": lambda run, at, _: run.file("a", at=at),
    "files": lambda run, at, _: run.files(at=at),
    "fork": lambda run, at, _: contents(run.fork(f"fork-{at}", at=at)),
    "get": lambda run, at, _: run.get("a", at=at),
    "iter_diff": lambda run, at, _: [*run.iter_diff(at)],
    "iter_files": lambda run, at, _: [*run.iter_files(at=at)],
    "list_dir": lambda run, at, _: [*run.list_dir(at=at)],
    "local_path": lambda run, at, _: run.local_path("a", at=at).read_bytes(),
    "manifest": lambda run, at, _: run.manifest(at=at)["files"],
    "open": lambda run, at, _: read_stream(run.open("a", at=at)),
    "read_bytes": lambda run, at, _: run.read_bytes("a", at=at),
    "read_json": lambda run, at, _: run.read_json("a", at=at),
    "read_text": lambda run, at, _: run.read_text("a", at=at),
    "read_many": lambda run, at, _: dict(run.read_many(at=at)),
    "restore": lambda run, at, out: read(run.restore(out / f"{at}", at=at) and out / f"{at}"),
    "rewind": lambda run, at, _: run.rewind(at) and contents(run),
    "snapshot": lambda run, at, _: run.snapshot(at).number,
    "snapshots": lambda run, at, _: [each.number for each in run.snapshots(before=at)],
    "tag": lambda run, at, _: run.tag("other", at=at).snapshot,
    "to_frame": lambda run, at, _: run.to_frame(at=at).to_csv(),
}  # fmt: skip
"""What is the same for a snapshot and its tag, by method."""


def taking(kind):
    """Return the methods that take a snapshot."""
    return sorted(
        name
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and not name.endswith("_async")
        and {"at", "before"} & inspect.signature(method).parameters.keys()
    )  # fmt: skip


def test_each_method_that_takes_a_snapshot_is_in_the_list():
    # Frames are opened as other files are.
    assert {*taking(Run)} - {"read_frame"} == TAKING_A_SNAPSHOT.keys()


@pytest.mark.parametrize("method", sorted(TAKING_A_SNAPSHOT))
def test_it_means_the_same_as_the_number(history, tmp_path, method):
    history.tag("best", at=2)
    call = TAKING_A_SNAPSHOT[method]
    assert call(history, "best", tmp_path) == call(history, 2, tmp_path)


def test_the_name_of_a_version_is_taken_where_its_file_is_read(history):
    history.tag("best", path="a", version=1)
    assert history.read_bytes("a", at="best") == b"1"
    assert history.file("./a", at="best").version == 1
    assert history.get("a", at="best").version == 1
    for call in (
        lambda: history.files(at="best"),
        lambda: history.file("b", at="best"),
        lambda: history.rewind("best"),
    ):
        with pytest.raises(UnknownTagError, match="it names version 1 of 'a'"):
            call()


def test_what_is_not_there_is_told(history, store):
    with pytest.raises(UnknownTagError):
        history.files(at="best")
    with pytest.raises(UnknownTagError):
        history.read_bytes("a", at="best")
    with pytest.raises(UnknownTagError):
        history.tag_history("best")
    with pytest.raises(UnknownSnapshotError):
        history.tag("best", at=4)
    with pytest.raises(UnknownFileError):
        history.tag("best", path="c")
    with pytest.raises(UnknownFileError):
        history.tag("best", path="a", version=4)
    with pytest.raises(ValueError, match="a version goes with a path"):
        history.tag("best", version=1)
    with pytest.raises(ValueError, match="give a version or a snapshot"):
        history.file("a", version=1, at="best")
    with pytest.raises(UnknownRunError):
        store.session("session-1").run("none").tag("best")
    assert [each.run for each in store.session("session-1").runs()] == ["run-1"]
    assert history.tags() == ()


@pytest.mark.parametrize(
    "name",
    ["", "1", "v2", "V07", "a b", "a/b", "a@1", "-a", ".a", "é", "٣", "x" * 65, "a\n", 3, None],
)
def test_a_name_that_reads_otherwise_is_refused(history, name):
    with pytest.raises(InvalidNameError, match="can't be the tag: "):
        history.tag(name)
    if isinstance(name, str):
        is_number = name.isascii() and name.isdecimal()
        with pytest.raises(TypeError if is_number else InvalidNameError):
            history.files(at=name)


@pytest.mark.parametrize("name", ["best", "v2.0", "2026-11-27", "a", "x" * 64, "RC_1"])
def test_other_names_are_taken(history, name):
    history.tag(name, at=2)
    assert history.read_bytes("a", at=name) == b"2"


def test_a_fork_begins_without_tags_and_a_rewind_keeps_them(history):
    history.tag("best", at=2)
    assert history.fork("run-2").tags() == ()
    history.rewind(1)
    assert [tag.snapshot for tag in history.tags()] == [2]


def test_tags_go_with_their_run(history, store):
    history.tag("best")
    history.delete()
    history.put("a", b"1")
    assert history.tags() == ()


def test_a_session_lists_its_own(history, store):
    history.tag("best", at=1)
    other = store.session("session-1").run("run-0")
    other.put("a", b"1")
    other.tag("best")
    elsewhere = store.session("session-2").run("run-1")
    elsewhere.put("a", b"1")
    elsewhere.tag("secret")
    assert [(tag.run, tag.name) for tag in store.session("session-1").tags()] == [
        ("run-0", "best"),
        ("run-1", "best"),
    ]
    with pytest.raises(UnknownTagError):
        history.files(at="secret")


def test_several_that_move_a_tag_at_once_all_do_so(history):
    threads = [
        threading.Thread(target=history.tag, args=["best"], kwargs={"at": 1 + n % 3})
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moves = history.tag_history("best")
    assert sorted(move.snapshot for move in moves) == [1, 1, 2, 2, 3, 3]
    assert history.tags() == moves[-1:]


def test_a_listing_that_began_at_a_tag_goes_on_there_when_it_moves(history, work, monkeypatch):
    monkeypatch.setattr("index.api.run_files._PAGE", 1)
    history.tag("best", at=1)
    listed = history.iter_files(at="best")
    assert next(listed).version == 1
    history.tag("best", at=3)
    assert [(v.path, v.version) for v in listed] == [("b", 1)]
