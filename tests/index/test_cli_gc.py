"""`cas gc`: what it prints, and how it exits."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from trees import write

from index.domain.units import parse_duration, show_duration

SPANS = {
    "0": timedelta(0),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "90m": timedelta(minutes=90),
    "30 s": timedelta(seconds=30),
    "2w": timedelta(weeks=2),
}


@pytest.fixture
def deleted(cas, tmp_path):
    """A store with two runs, one of them deleted."""
    write(tmp_path / "work", {"a.txt": b"a" * 5000, "b\x1b[2J": os.urandom(2000), "same": b"same"})
    assert cas("track", "work", "--run", "gone", "--agent", "engineer")[0] == 0
    write(tmp_path / "other", {"same": b"same"})
    assert cas("track", "other", "--run", "kept")[0] == 0
    code, out, _ = cas("rm", "--run", "gone", "--yes")
    assert code == 0
    assert "to go with cas gc: 2 contents" in out
    return cas


def packs(tmp_path):
    return sorted(tmp_path.glob(".cas/packs/*/*.pack"))


def test_a_dry_run_prints_paths_agents_and_bytes_and_removes_nothing(deleted, tmp_path):
    before = packs(tmp_path)
    code, out, _ = deleted("gc", "--dry-run", "--grace", "0")
    assert code == 0
    lines = out.splitlines()
    assert any("default\tgone" in line and "a.txt" in line and "5000" in line for line in lines)
    assert any("engineer" in line and "b\\x1b[2J" in line for line in lines)
    assert "\x1b" not in out
    (records,) = [line for line in lines if "records of commits" in line]
    assert records.startswith("swept  1 blob (")
    assert not any("without a name" in line for line in lines)
    assert "3 blobs" in lines[-1]
    assert "to free" in lines[-1]
    assert packs(tmp_path) == before


def test_collecting_without_grace(deleted, tmp_path):
    code, out, _ = deleted("gc", "--grace", "0")
    assert code == 0
    assert "3 blobs (" in out
    assert "freed" in out
    assert deleted("gc", "--grace", "0", "--dry-run")[1].startswith("no garbage")
    assert deleted("cat", "same", "--run", "kept")[1] == "same"


def test_with_the_grace_period_nothing_goes_yet(deleted, tmp_path):
    before = packs(tmp_path)
    code, out, _ = deleted("gc")
    assert code == 0
    assert out.startswith("0 blobs condemned, 0 blobs (0 B) swept")
    assert packs(tmp_path) == before


def test_json_of_a_plan_and_of_a_collection(deleted):
    plan = json.loads(deleted("gc", "--dry-run", "--grace", "0", "--json")[1])
    assert plan["dry_run"]
    assert plan["swept"]["blobs"] == 3
    named = {(b["fate"], b["kind"], b["run"], b["path"], b["agent"]) for b in plan["blobs"]}
    assert named == {
        *(("swept", "content", "gone", p, "engineer") for p in ("a.txt", "b\x1b[2J")),
        ("swept", "record", "gone", None, None),
    }
    report = json.loads(deleted("gc", "--grace", "0", "--json", "--no-compact")[1])
    assert not report["dry_run"]
    assert report["swept"]["blobs"] == 3
    assert report["packs_compacted"] == 0


def test_damage_that_compaction_meets_is_told_by_the_exit_code(cas, tmp_path):
    write(tmp_path / "work", {"live": os.urandom(3000), "dead": os.urandom(50_000)})
    cas("track", "work", "--run", "gone")
    (tmp_path / "work" / "dead").unlink()
    cas("track", "work", "--run", "kept")
    cas("rm", "--run", "gone", "--yes")
    live = (tmp_path / "work" / "live").read_bytes()
    (pack,) = [pack for pack in packs(tmp_path) if live in pack.read_bytes()]
    before = packs(tmp_path)
    data = pack.read_bytes()
    at = data.index(live)
    pack.write_bytes(data[:at] + b"\0\0\0\0" + data[at + 4 :])
    code, _, err = cas("gc", "--grace", "0")
    assert code == 3
    assert "its bytes are damaged; it was not changed" in err
    assert packs(tmp_path) == before


def test_orphans_are_told_and_removed_on_request(deleted, tmp_path):
    name = "packs/ab/" + "ab" * 32 + ".pack"
    path = tmp_path / ".cas" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"?")
    for options in ([], ["--dry-run"], ["--dry-run", "--remove-orphans"]):
        assert f"{name}  1 B  orphan, found" in deleted("gc", *options)[1]
    assert f"{name}  1 B  orphan, removed" in deleted("gc", "--remove-orphans")[1]
    assert not path.exists()


def test_a_store_that_is_not_there_is_not_made(cas, tmp_path):
    assert cas("gc")[0] == 4
    assert not Path(tmp_path / ".cas").exists()


@pytest.mark.parametrize("span", ["", "1", "1y", "-1h", "1.5h", "999999999w", "h", "0x"])
def test_what_is_no_span_of_time_is_refused(deleted, span):
    code, _, err = deleted("gc", f"--grace={span}")
    assert code == 2
    assert "is no span of time; write it as 24h" in err


@pytest.mark.parametrize("text", SPANS)
def test_spans_of_time_are_read_and_shown(text):
    assert parse_duration(text) == SPANS[text]
    assert parse_duration(show_duration(SPANS[text])) == SPANS[text]


def test_stats_name_what_is_dead(deleted):
    out = deleted("stats")[1]
    assert "condemned_bytes" in out
    assert "dead_bytes" in out
