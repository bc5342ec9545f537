"""`cas sync`, as people type it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest
from trees import packs_in, write


@pytest.fixture
def tracked(cas, tmp_path):
    write(tmp_path / "work", {"plan.md": b"a plan", "data/r.csv": b"1,2\n"})
    assert cas("track", "work")[0] == 0
    return cas


def test_a_first_a_second_and_a_third_time(tracked, tmp_path):
    assert tracked("sync", ".", "copy") == (
        0,
        "default/work: copied, 1 snapshot, 2 file versions\n"
        "1 copied; 2 blobs, 10 B sent, 182 B stored\n",
        "",
    )
    assert tracked("sync", ".cas", "copy")[:2] == (
        0,
        "1 unchanged; 0 blobs, 0 B sent, 0 B stored\n",
    )
    write(tmp_path / "work", {"more": b"more"})
    tracked("track", "work")
    code, out, _ = tracked("sync", "-", "copy")
    assert (code, out.splitlines()[0]) == (
        0,
        "default/work: updated, 1 snapshot, 1 file version",
    )
    assert tracked("--store", "copy", "cat", "more")[1] == "more"


def test_json_is_one_object(tracked):
    code, out, _ = tracked("sync", ".", "copy", "--json")
    told = json.loads(out)
    assert code == 0
    assert told.pop("bytes_stored") > 0
    assert told == {
        "dry_run": False,
        "versions": 2,
        "runs": [
            {
                "session": "default",
                "run": "work",
                "outcome": "copied",
                "snapshots": 1,
                "versions": 2,
                "reason": None,
            }
        ],
        "blobs": 2,
        "bytes_read": 10,
    }


def test_a_dry_run_makes_nothing_not_even_the_store(tracked, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert tracked("sync", ".", "copy", "--dry-run") == (
        0,
        "default/work: to be copied, 1 snapshot, 2 file versions\n"
        "1 copied; 2 blobs, 10 B to send\n",
        "",
    )
    assert json.loads(tracked("sync", ".", "copy", "--dry-run", "--json")[1])["dry_run"] is True
    assert sorted(tmp_path.iterdir()) == before
    tracked("sync", ".", "copy")
    assert tracked("sync", ".", "copy", "--dry-run")[1] == "1 unchanged; 0 blobs, 0 B to send\n"


def test_a_conflict_is_exit_code_1_with_what_to_do(tracked, tmp_path):
    tracked("sync", ".", "copy")
    (tmp_path / "work" / "plan.md").write_bytes(b"mine")
    tracked("track", "work")
    (tmp_path / "work" / "plan.md").write_bytes(b"theirs")
    tracked("--store", "copy", "track", "work")
    code, out, err = tracked("sync", ".", "copy")
    assert (code, out) == (1, "1 conflict; 0 blobs, 0 B sent, 0 B stored\n")
    assert err.startswith("default/work: conflict: both stores have recorded into it: snapshot 2")
    assert err.count("\n") == 1
    assert tracked("fork", "mine", "--run", "work")[0] == 0
    assert tracked("sync", ".", "copy", "--run", "mine")[0] == 0


def test_damage_is_exit_code_3_and_the_other_runs_are_copied(tracked, tmp_path):
    packs_in(tmp_path / ".cas")[0].unlink()
    write(tmp_path / "other", {"a": b"other"})
    tracked("track", "other")
    code, out, err = tracked("sync", ".", "copy")
    assert code == 3
    assert out.startswith("default/other: copied, 1 snapshot, 1 file version\n1 copied, 1 damaged;")
    assert "default/work: damaged: 'data/r.csv': blob" in err or "'plan.md': blob" in err
    assert "; repair the store that it comes from with `cas repair --from DIR`" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((".", "copy", "--run", "nobody"), 4, "none of the sessions has a run 'nobody'"),
        ((".", "copy", "--session", "nobody"), 4, "there is no session 'nobody'"),
        ((".", "copy", "--session", "default", "--run", "no"), 4, "there is no run 'no'"),
        ((".", "copy", "--run", "a/b"), 2, "'a/b' can't be the run id"),
        (("nowhere", "copy"), 4, "there is no store at"),
        ((".", "work"), 4, "there is no store at work"),
        ((".", ".cas"), 2, "source and destination are one store"),
        (("-", "."), 2, "source and destination are one store"),
        ((".",), 2, "Missing argument 'DEST'"),
    ],
)
def test_what_can_not_be_done_is_one_sentence_and_makes_no_store(
    tracked, tmp_path, arguments, code, says
):
    before = sorted(tmp_path.rglob("*"))
    got, out, err = tracked("sync", *arguments)
    assert (got, out) == (code, "")
    assert says in err
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_places_may_be_a_note_or_a_folder_with_one(tracked, tmp_path):
    team = tmp_path / "team"
    team.mkdir()
    (team / "cas.toml").write_text('index = "sqlite:///runs.db"\nblobs = "blobs"\n')
    assert tracked("sync", ".", "team", "--dry-run")[0] == 0
    assert [path.name for path in team.iterdir()] == ["cas.toml"]
    assert tracked("sync", ".", "team/cas.toml")[0] == 0
    assert (team / "blobs" / "cas.json").is_file()
    assert tracked("sync", "team", "copy")[1].startswith("default/work: copied")
    assert tracked(
        "--index", "sqlite:///team/runs.db", "--blobs", "team/blobs", "sync", "-", "copy"
    )[1].startswith("1 unchanged")
    (tmp_path / "empty").mkdir()
    assert tracked("sync", "copy", "empty")[0] == 0


def test_names_of_runs_and_sessions_that_are_asked_for_often(tracked):
    for run in ("one", "two", "three"):
        tracked("put", "work/plan.md", "--run", run, "--session", f"s-{run}")
    tracked("sync", ".", "copy", "--session", "s-one", "--session", "s-two")
    tracked("sync", ".", "copy", "--run", "three", "--run", "work")
    for session, run in (("s-one", "one"), ("s-two", "two"), ("s-three", "three")):
        assert tracked("--store", "copy", "ls", "--session", session, "--run", run)[0] == 0
    assert tracked("--store", "copy", "ls")[0] == 0


def test_a_terminal_gets_a_progress_bar(tracked, tmp_path):
    ours, theirs = os.openpty()
    code = "from index.cli import main; main()"
    arguments = [sys.executable, "-c", code, "sync", ".", "copy"]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # reading from a closed terminal raises EIO
            while piece := os.read(ours, 4096):
                shown += piece
        out = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert b"syncing" in shown
    assert out.startswith(b"default/work: copied")
