"""A source whose index is damaged or forged: impossible rows are refused, other runs are copied."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from trees import write

from index import ArtifactStore, SyncOutcome

MIB = 1 << 20


@pytest.fixture
def roots(empty_store, tmp_path, work):
    """A store with two runs of small, linked and large files, and an empty one."""
    for name in ("ours", "theirs"):
        shutil.copytree(empty_store, tmp_path / name)
    write(work, {"a": b"four", "b": b"b", "large": bytes(range(256)) * 16 * 1024})
    (work / "link").symlink_to("a")
    with ArtifactStore.open(tmp_path / "ours") as store:
        for name in ("r", "whole"):
            store.session("s").run(name).track(work)
    return tmp_path / "ours", tmp_path / "theirs"


def damaged(root, table, change, where):
    """Change rows as the owner of the database could, past every constraint."""
    connection = sqlite3.connect(root / "index.db")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    with connection:
        connection.execute(f"UPDATE {table} SET {change} WHERE {where}")  # noqa: S608 - our own
    connection.close()


def synced(roots):
    with ArtifactStore.open(roots[0]) as ours, ArtifactStore.open(roots[1]) as theirs:
        report = ours.sync_to(theirs)
        return {run.run: run for run in report.runs}, [each.run for each in theirs.runs()]


OF_R = "run_id = (SELECT id FROM cas_runs WHERE name = 'r')"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("path = '../../evil'", "contains '..'"),
        ("path = '/evil'", "absolute"),
        ("path = ''", "names no file"),
        ("path = 'x//y'", "plain spelling"),
        ("path = x'610062'", "can't be read"),
        ("size = 999", "999 bytes, and has 4 bytes"),
        ("size = 999999999999", "and has 4 bytes"),
        ("size = -5", "-5 bytes"),
        ("digest = x'0102'", "no row of its blob"),
        ("mode = -1", "no mode"),
        (f"mode = {0o40755}", "'a' has no mode of a file or link"),
        (f"mode = {0o100644 + (1 << 20)}", "no mode"),
        ("mtime_ns = 'x'", "the times of 'a', version 1, can't be so"),
        ("seen_by = -1", "the times of 'a', version 1, can't be so"),
        ("path = 'large/a'", "'large' is a file in a snapshot that also has 'large/a'"),
        ("path = 'b', version = 2, end_snapshot = 2", "'b' has two versions in snapshot 1"),
        ("meta = 'not json'", "can't be read"),
        ("created_at = 'hello'", "can't be read"),
        ("priority = 'odd'", "CHECK constraint failed"),
        ("first_snapshot = 77, appeared_in = 77", "snapshots of 'a'"),
    ],
)
def test_a_row_that_can_not_be_is_told_and_other_runs_are_copied(roots, change, reason):
    damaged(roots[0], "cas_files", change, f"path = 'a' AND {OF_R}")
    found, there = synced(roots)
    assert found["r"].outcome is SyncOutcome.DAMAGED
    assert reason in found["r"].reason
    assert found["r"].reason.startswith("its history is damaged: ")
    assert "\n" not in found["r"].reason
    assert found["whole"].outcome is SyncOutcome.COPIED
    assert there == ["whole"]


def test_a_missing_snapshot_is_told(roots):
    damaged(roots[0], "cas_snapshots", "number = 3", OF_R)
    found, there = synced(roots)
    assert "its snapshot 1 is missing" in found["r"].reason
    assert there == ["whole"]


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("cas_snapshots", "unchanged = -5"),
        ("cas_snapshots", "bytes_read = 'x'"),
        ("cas_snapshots", "scope = '5'"),
        ("cas_snapshots", "scope = '[1]'"),
        ("cas_snapshots", "torn = '[[]]'"),
        ("cas_snapshots", """skipped = '[["a"]]'"""),
        ("cas_snapshots", """skipped = '[["a", 5]]'"""),
        ("cas_runs", "forked_snapshot = -1"),
        ("cas_runs", "forked_snapshot = 99"),
        ("cas_runs", "forked_snapshot = 'x'"),
    ],
)
def test_what_no_scan_or_fork_has_left_is_told(roots, table, change):
    damaged(roots[0], table, change, OF_R if table == "cas_snapshots" else "name = 'r'")
    found, there = synced(roots)
    assert found["r"].outcome is SyncOutcome.DAMAGED
    assert "can't" in found["r"].reason
    assert there == ["whole"]


@pytest.mark.parametrize("name", ["'r'||char(27)||'[2J'", "''", "hex(zeroblob(2500))"])
def test_an_id_that_no_command_takes_is_refused(roots, name):
    damaged(roots[0], "cas_runs", f"name = {name}", "name = 'r'")
    found, there = synced(roots)
    assert there == ["whole"]
    assert {run.outcome for run in found.values()} == {SyncOutcome.COPIED, SyncOutcome.DAMAGED}


@pytest.mark.parametrize(
    "parent", ["id", "(SELECT o.id FROM cas_runs o WHERE o.id != cas_runs.id)"]
)
def test_runs_that_stem_from_each_other_come_to_an_end(roots, parent):
    damaged(roots[0], "cas_runs", f"forked_from_id = {parent}, forked_snapshot = 1", "TRUE")
    found, there = synced(roots)
    assert set(found) == {"r", "whole"}
    assert sorted(there) == ["r", "whole"]
