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


def test_the_lineage_of_a_version_is_that_in_the_run_which_recorded_its_path_last(tagged, cas):
    assert cas("lineage", "a@1")[1] == cas("lineage", "a")[1] == "a@1 of other  (run other)\n"
    assert cas("lineage", "b@best@1")[1] == cas("lineage", "b@best")[1]
    tagged("tag", "best", "b@best")
    assert cas("lineage", "b@best@best")[:2] == (0, "b@best@1 of r  (run r)\n")
    assert (cas("lineage", "a@3")[0], tagged("lineage", "a@3")[0]) == (4, 0)


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


def test_every_command_that_takes_a_snapshot_takes_a_tag(tagged):
    """`test_every_option.py` has each option; these are the words besides ``--at``."""
    tagged("tag", "best", "--at", "2")
    for command in ("ls", "restore", "cat", "fork", "tag"):
        assert "--at" in tagged(command, "--help")[1]
    for line in (
        ("ls", "--at", "best"),
        ("cat", "a", "--at", "best"),
        ("cat", "a@best"),
        ("tag", "same", "--at", "best"),
        ("tag", "file", "a@best"),
        ("show", "best"),
        ("show", "a@best"),
        ("show", "r@best"),
        ("diff", "best"),
        ("diff", "r@best", "best"),
        ("restore", "--to", "out", "--at", "best"),
        ("fork", "made", "--at", "best"),
        ("rewind", "best"),
    ):
        code, _, err = tagged(*line)
        assert (code, err) == (0, ""), line


class TestWholeRuns:
    def test_a_run_is_named_and_the_name_moves(self, cas, tagged):
        code, out, _ = tagged("tag", "--whole-run", "best", "--agent", "me")
        assert (code, out) == (0, "tag best of session default names the run r\n")
        assert cas("tag", "--whole-run")[1].split("\t")[:3] == ["best", "r", "me"]
        found = json.loads(cas("tag", "--whole-run", "best", "--run", "other", "--json")[1])
        assert (found["name"], found["run"], found["session"]) == ("best", "other", "default")
        moves = cas("tag", "--whole-run", "--history", "best", "--jsonl")[1].splitlines()
        assert [json.loads(line)["run"] for line in moves] == ["r", "other"]
        out = cas("tag", "--whole-run", "-d", "best")[1]
        assert out == "tag best of session default is removed\n"
        code, _, err = cas("tag", "--whole-run", "-d", "best")
        assert (code, "there is no run '@best' in session 'default'" in err) == (4, True)

    def test_the_name_is_taken_wherever_a_run_is(self, cas, tagged, tmp_path):
        tagged("tag", "--whole-run", "best")
        write(tmp_path / "more", {"x": b"1"})
        for line in (
            ("ls", "--run", "@best"),
            ("snapshots", "--run", "@best"),
            ("cat", "a", "--run", "@best"),
            ("log", "a", "--run", "@best"),
            ("stats", "--run", "@best"),
            ("show", "@best"),
            ("show", "@best@"),
            ("show", "@best@1"),
            ("show", "a", "--run", "@best"),
            ("diff", "@best@1", "@best"),
            ("diff", "@best@", "other"),
            ("runs", "--session", "default", "--parent", "@best"),
            ("describe", "--run", "@best"),
            ("describe", "--run", "other", "--parent", "@best"),
            ("restore", "--to", "out", "--run", "@best"),
            ("fork", "made", "--run", "@best"),
            ("status", "work", "--run", "@best"),
            ("put", "more/x", "--run", "@best"),
            ("track", "more", "--run", "@best", "--moved"),
            ("run", "--dir", "more", "--run", "@best", "true"),
            ("rm", "x", "--run", "@best"),
        ):
            assert cas(*line)[0] == 0, (line, cas(*line))
        names = [line.split("\t")[1] for line in cas("runs")[1].splitlines()]
        assert sorted(names) == ["made", "other", "r"]

    def test_a_tagged_run_is_deleted_only_by_force(self, cas, tagged):
        tagged("tag", "--whole-run", "best")
        code, _, err = cas("rm", "--run", "@best", "--yes")
        assert code == 1
        assert "run 'r' is kept by the tag 'best'" in err
        assert "`cas tag --whole-run -d TAG`, or delete with `--force`" in err
        assert cas("rm", "--run", "@best", "--force", "--yes")[1].startswith("deleted run r of")
        assert cas("tag", "--whole-run")[1] == ""

    @pytest.mark.parametrize(
        "arguments",
        [
            ("tag", "--whole-run", "best", "a"),
            ("tag", "--whole-run", "best", "--at", "1"),
            ("tag", "--whole-run", "3"),
            ("tag", "--whole-run", "-d"),
            ("tag", "--whole-run", "--run", "other"),
            ("tag", "--whole-run", "-d", "best", "--run", "other"),
            ("tag", "--whole-run", "--history", "best", "--run", "other"),
            ("ls", "--run", "@3"),
            ("rm", "--force", "--run", "r", "a"),
            ("rm", "--force", "--whole-session", "--yes"),
            ("fork", "@made", "--run", "r"),
        ],
    )
    def test_what_makes_no_sense_is_a_usage_error(self, cas, tagged, arguments):
        assert cas(*arguments)[0] == 2

    def test_a_word_that_is_a_run_and_a_snapshot_by_tags(self, cas, tagged):
        tagged("tag", "best", "--at", "1")
        cas("tag", "--whole-run", "best", "--run", "other")
        code, _, err = tagged("diff", "@best")
        assert (code, "write @best@ for the run, or best" in err) == (2, True)
        code, _, err = tagged("show", "@best")
        assert (code, "r@best (a tag)" in err, "other@ (a run)" in err) == (2, True, True)
        assert tagged("diff", "@best@")[0] == tagged("diff", "best")[0] == 0


class TestDescriptions:
    def test_what_is_said_of_a_run(self, cas, tagged):
        out = tagged("describe", "--parent", "sweep", "--note", "rate=0.1", "--note", "by=me")[1]
        facts = dict(line.split("\t") for line in out.splitlines())
        assert facts["parent"] == "sweep"
        assert (facts["notes.rate"], facts["notes.by"]) == ("0.1", "me")
        tagged("describe", "--status", "failed", "--reason", "full", "--note", "by=")
        found = json.loads(tagged("describe", "--json")[1])
        assert (found["status"], found["status_reason"]) == ("failed", "full")
        assert found["notes"] == {"rate": 0.1}
        assert json.loads(tagged("describe", "--parent", "", "--json")[1])["parent"] is None

    def test_a_run_that_is_not_there_is_made_if_something_is_said_of_it(self, cas, tagged):
        assert cas("describe", "--run", "new")[0] == 4
        assert cas("describe", "--run", "new", "--parent", "r")[0] == 0
        assert "new" in cas("runs", "--parent", "r")[1]

    @pytest.mark.parametrize(
        "arguments",
        [("--note", "rate"), ("--note", "=1"), ("--reason", "x"), ("--parent", "a/b"),
         ("--status", "lost"), ("--parent", "r")],
    )  # fmt: skip
    def test_what_makes_no_sense_is_a_usage_error(self, tagged, arguments):
        assert tagged("describe", *arguments)[0] == 2

    def test_a_tree_of_runs(self, cas, tagged, monkeypatch):
        cas("describe", "--run", "other", "--parent", "r")
        cas("run", "--dir", "work", "--run", "third", "--moved", "--parent", "other", "true")
        found = json.loads(cas("runs", "--tree", "--json")[1])
        assert [each["run"] for each in found] == ["r", "other", "third"]
        assert found[2]["notes"]["command"] == ["true"]


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
