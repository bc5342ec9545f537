"""Tags from a shell, and in URLs."""

from __future__ import annotations

import json

import fsspec
import pytest
from places import on_one
from trees import read, write

from index import ArtifactStore


@pytest.fixture
def tagged(cas, store_root, tmp_path):
    """The command in the directory of a run `r` of three snapshots, and a run `other`."""
    (tmp_path / ".cas").symlink_to(store_root)
    with ArtifactStore.open(store_root) as store:
        run = store.session("default").run("r")
        for n in (1, 2, 3):
            write(tmp_path / "work", {"a": b"%d" % n, "b@best": b"b"})
            run.track(tmp_path / "work")
        store.session("default").run("other").put("a", b"other")
    return lambda *arguments: cas(*arguments, "--run", "r")


def test_a_tag_is_set_listed_moved_and_removed(tagged):
    assert tagged("tag", "best") == (0, "tag best of r names snapshot 3\n", "")
    assert tagged("tag", "best", "--at", "1")[1] == "tag best of r names snapshot 1\n"
    assert tagged("tag", "net", "a@2", "--agent", "me")[1] == "tag net of r names a@2\n"
    assert tagged("tag", "copy", "--at", "best")[1] == "tag copy of r names snapshot 1\n"
    rows = [line.split("\t")[:3] for line in tagged("tag")[1].splitlines()]
    assert rows == [["best", "snapshot 1", ""], ["copy", "snapshot 1", ""], ["net", "a@2", "me"]]
    assert tagged("tag", "-d", "best")[1] == "tag best of r is removed\n"
    moves = json.loads(tagged("tag", "--history", "best", "--json")[1])
    assert [each["snapshot"] for each in moves] == [3, 1, None]
    code, _, err = tagged("tag", "-d", "best")
    assert (code, "`cas tag` lists its tags" in err) == (4, True)


def test_a_tag_as_json(tagged):
    found = json.loads(tagged("tag", "best", "a", "--json")[1])
    assert (found["name"], found["path"], found["version"]) == ("best", "a", 3)
    assert json.loads(tagged("tag", "best", "--jsonl")[1])["snapshot"] == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("tag", "v2"),
        ("tag", "3"),
        ("tag", "a b"),
        ("tag", "-d"),
        ("tag", "--history"),
        ("tag", "--at", "1"),
        ("tag", "-d", "best", "a"),
        ("tag", "-d", "best", "--history"),
        ("tag", "--history", "best", "--at", "1"),
        ("ls", "--at", "a b"),
        ("rewind", "-x"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(tagged, arguments):
    assert tagged(*arguments)[0] == 2


def test_commands_take_a_tag_for_a_snapshot(tagged, tmp_path):
    tagged("tag", "best", "--at", "1")
    assert json.loads(tagged("ls", "-R", "--at", "best", "--json")[1])[0]["version"] == 1
    assert tagged("cat", "a", "--at", "best")[1] == "1"
    assert tagged("cat", "a@best")[1] == "1"
    assert tagged("cat", "b@best")[1] == "b"  # a path of that name comes first
    assert tagged("restore", "--to", "out", "--at", "best")[0] == 0
    assert read(tmp_path / "out")["a"] == b"1"
    assert "1 changed" in tagged("diff", "best")[1]
    assert "0 changed" in tagged("diff", "best", "1")[1]
    assert tagged("fork", "forked", "--at", "best")[1].startswith("run forked begins at snapshot 1")
    assert tagged("rewind", "best")[0] == 0
    assert tagged("cat", "a")[1] == "1"
    code, _, err = tagged("cat", "a@none")
    assert (code, "no snapshot with the tag 'none'; `cas tag` lists its tags" in err) == (4, True)


def test_a_tag_of_a_version_is_taken_for_it(tagged):
    tagged("tag", "net", "a@2")
    assert tagged("cat", "a@net")[1] == "2"
    code, _, err = tagged("ls", "--at", "net")
    assert (code, "it names version 2 of 'a'" in err) == (4, True)


def test_a_word_of_diff_is_a_tag_or_a_run(tagged, cas):
    tagged("tag", "best", "--at", "1")
    assert "1 changed" in cas("diff", "r@best", "r")[1]
    assert "1 changed" in tagged("diff", "@best", "@3")[1]
    assert "0 changed" in tagged("diff", "other")[1]  # with itself, as it is now
    tagged("tag", "other", "--at", "1")
    code, _, err = tagged("diff", "other")
    assert (code, "write other@ for the run, or @other" in err) == (2, True)
    assert "1 changed" in tagged("diff", "@other")[1]
    assert tagged("diff", "other@", "other@")[0] == 0
    code, _, err = cas("diff", "best")
    assert (code, "name the run with --run" in err) == (2, True)
    assert cas("diff", "./best", "--run", "r")[0] == 4  # a path


@on_one(because="URLs mean the same on all")
def test_a_url_takes_a_tag(run, place):
    run.put("data/a.csv", b"1")
    run.tag("best")
    run.tag("net.v1", path="data/a.csv")
    run.put("data/a.csv", b"2")
    fs = fsspec.filesystem("cas", store=str(place["root"]))
    assert fs.cat("cas://session-1/run-1@best/data/a.csv") == b"1"
    assert fs.cat("cas://session-1/run-1@net.v1/data/a.csv") == b"1"
    listed = fs.ls("cas://session-1/run-1@best/data", detail=False)
    assert listed == ["session-1/run-1@best/data/a.csv"]
    assert fs.cat(listed[0]) == b"1"
    with pytest.raises(FileNotFoundError, match="no snapshot with the tag 'none'"):
        fs.cat("cas://session-1/run-1@none/data/a.csv")
    with pytest.raises(OSError, match="write to the run without an '@'"):
        fs.pipe_file("cas://session-1/run-1@best/data/a.csv", b"3")
