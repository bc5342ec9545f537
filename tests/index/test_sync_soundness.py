"""A source whose index was damaged or made up: what can't be so is refused, and the rest goes on."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from trees import write

from index import ArtifactStore, SyncOutcome

MIB = 1 << 20


@pytest.fixture
def roots(empty_store, tmp_path, work):
    """A store with two runs, whose files are small, linked and large; and an empty one."""
    for name in ("ours", "theirs"):
        shutil.copytree(empty_store, tmp_path / name)
    write(work, {"a": b"four", "b": b"b", "large": bytes(range(256)) * 16 * 1024})
    (work / "link").symlink_to("a")
    with ArtifactStore.open(tmp_path / "ours") as store:
        for name in ("r", "whole"):
            store.session("s").run(name).track(work)
    return tmp_path / "ours", tmp_path / "theirs"


def damaged(root, statement):
    """Change the rows of run r as its owner could, past every constraint."""
    connection = sqlite3.connect(root / "index.db")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    with connection:
        connection.execute(statement)
    connection.close()


def synced(roots):
    with ArtifactStore.open(roots[0]) as ours, ArtifactStore.open(roots[1]) as theirs:
        report = ours.sync_to(theirs)
        return {run.run: run for run in report.runs}, [each.run for each in theirs.runs()]


OF_A = "WHERE path = 'a' AND run_id = (SELECT id FROM cas_runs WHERE name = 'r')"


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (f"UPDATE cas_files SET path = '../../evil' {OF_A}", "contains '..'"),
        (f"UPDATE cas_files SET path = '/evil' {OF_A}", "absolute"),
        (f"UPDATE cas_files SET path = '' {OF_A}", "names no file"),
        (f"UPDATE cas_files SET path = 'x//y' {OF_A}", "plain spelling"),
        (f"UPDATE cas_files SET path = x'610062' {OF_A}", "can't be read"),
        (f"UPDATE cas_files SET size = 999 {OF_A}", "999 bytes, and has 4 bytes"),
        (f"UPDATE cas_files SET size = 999999999999 {OF_A}", "and has 4 bytes"),
        (f"UPDATE cas_files SET size = -5 {OF_A}", "-5 bytes"),
        (f"UPDATE cas_files SET digest = x'0102' {OF_A}", "no row of its blob"),
        (f"UPDATE cas_files SET mode = -1 {OF_A}", "no mode"),
        (f"UPDATE cas_files SET meta = 'not json' {OF_A}", "can't be read"),
        (f"UPDATE cas_files SET created_at = 'hello' {OF_A}", "can't be read"),
        (f"UPDATE cas_files SET priority = 'odd' {OF_A}", "CHECK constraint failed"),
        (f"UPDATE cas_files SET first_snapshot = 77, appeared_in = 77 {OF_A}", "snapshots of 'a'"),
        (
            "UPDATE cas_snapshots SET number = 3"
            " WHERE run_id = (SELECT id FROM cas_runs WHERE name = 'r')",
            "snapshot 1 is missing",
        ),
    ],
)
def test_a_row_that_can_not_be_is_told_and_other_runs_are_copied(roots, statement, reason):
    damaged(roots[0], statement)
    found, there = synced(roots)
    assert found["r"].outcome is SyncOutcome.DAMAGED
    assert reason in found["r"].reason
    assert "the source's index is damaged" in found["r"].reason
    assert found["whole"].outcome is SyncOutcome.COPIED
    assert there == ["whole"]


@pytest.mark.parametrize("name", ["'r'||char(27)||'[2J'", "''", "hex(zeroblob(2500))"])
def test_an_id_that_no_command_takes_is_refused(roots, name):
    damaged(roots[0], f"UPDATE cas_runs SET name = {name} WHERE name = 'r'")
    found, there = synced(roots)
    assert there == ["whole"]
    assert {run.outcome for run in found.values()} == {SyncOutcome.COPIED, SyncOutcome.DAMAGED}


@pytest.mark.parametrize(
    "parent", ["id", "(SELECT o.id FROM cas_runs o WHERE o.id != cas_runs.id)"]
)
def test_runs_that_stem_from_each_other_come_to_an_end(roots, parent):
    damaged(roots[0], f"UPDATE cas_runs SET parent_run_id = {parent}, parent_snapshot = 1")
    found, there = synced(roots)
    assert set(found) == {"r", "whole"}
    assert sorted(there) == ["r", "whole"]
