"""Eight processes track overlapping trees into one store; one of them is killed."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from forks import Forked
from places import as_json
from sqlalchemy import text
from trees import contents, read

from index import ArtifactStore

WRITERS = 8
SHARING = 4
"""Number of writers that track one directory into one run; the others have one of each."""

TURNS = 3

WRITE_AND_TRACK = """
import json, os, random, signal, sys
from sqlalchemy import event
from index import ArtifactStore

place, work, run, number, turns, dies_at = sys.argv[1:]
passed = 0

def count(*_):
    global passed
    passed += 1
    if passed == int(dies_at):
        os.kill(os.getpid(), signal.SIGKILL)

def write(path, data):
    target = os.path.join(work, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(f"{target}.{number}.new", "wb") as file:
        file.write(data)
    os.rename(f"{target}.{number}.new", target)

with ArtifactStore.open(**json.loads(place)) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    event.listen(store.context.database.engine, "before_cursor_execute", count)
    for turn in range(int(turns)):
        for name in range(4):
            mine = f"{number}/{name}"
            write(mine, f"{mine} {turn} ".encode() * 200)
            # The same bytes in every tree, written by all of them at about the same time.
            write(f"common/{name}", f"common/{name} {turn} ".encode()
                  + random.Random(10 * turn + name).randbytes(100_000))
        store.session("s").run(run).track(work, agent=f"agent-{number}", ignore=("*.new",))
"""


def folder_of(number, root):
    return root / ("shared" if number < SHARING else f"own-{number}")


def run_of(number):
    return "shared" if number < SHARING else f"run-{number}"


def start(place, root, number, dies_at):
    folder = folder_of(number, root)
    folder.mkdir(exist_ok=True)
    return Forked(WRITE_AND_TRACK, as_json(place), folder, run_of(number), number, TURNS, dies_at)


def all_at_once(place, root, victim, dies_at):
    """Start all writers at the same moment; return their exit codes and error output."""
    processes = [start(place, root, n, dies_at if n == victim else 0) for n in range(WRITERS)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=120)[1] for process in processes]
    return [process.returncode for process in processes], errors


def stamp(data):
    """Return the path and the turn that a writer put into a file."""
    path, turn, _ = data.split(b" ", 2)
    return path.decode(), int(turn)


def assert_nothing_is_half(store):
    """Check in the tables that no reader can see a partial commit."""
    with store.context.database.reading() as connection:
        for question in (
            "SELECT run_id, path FROM cas_files WHERE end_snapshot IS NULL"
            " GROUP BY run_id, path HAVING count(*) > 1",
            "SELECT run_id, path, version FROM cas_files"
            " GROUP BY run_id, path, version HAVING count(*) > 1",
            "SELECT digest FROM cas_blobs JOIN cas_packs ON pack_id = cas_packs.id"
            " WHERE state <> 'live'",
            "SELECT f.id FROM cas_files f LEFT JOIN cas_snapshots s"
            " ON s.run_id = f.run_id AND s.number = f.first_snapshot WHERE s.number IS NULL",
        ):
            assert connection.execute(text(question)).all() == []


def assert_history_is_whole(run):
    """Check that every version has bytes that were once written to its path."""
    numbers = [snapshot.number for snapshot in run.snapshots()]
    assert numbers == list(range(1, len(numbers) + 1))
    paths = {version.path for number in numbers for version in run.files(at=number)}
    for path in paths:
        versions = run.history(path)
        assert [v.version for v in versions] == list(range(1, len(versions) + 1))
        for version in versions:
            assert stamp(run.read_bytes(path, version=version.version))[0] == path
        for older, newer in pairwise(versions):
            assert older.end_snapshot is not None
            assert older.end_snapshot <= newer.first_snapshot
            assert older.digest != newer.digest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "seed"), [(0, 1), (WRITERS - 1, 2)], ids=["shares-its-run", "has-its-own-run"]
)
def test_one_of_eight_is_killed_and_nothing_is_lost(place, tmp_path, victim, seed):
    # Between the first read of the run and the last turn: each turn takes more than ten statements.
    dies_at = random.Random(seed).randrange(1, 10 * TURNS)
    codes, errors = all_at_once(place, tmp_path, victim, dies_at)
    assert [n for n, code in enumerate(codes) if code != 0] == [victim], errors
    assert codes[victim] == -9
    assert [error for error in errors if error] == []
    with ArtifactStore.open(**place) as store:
        session = store.session("s")
        assert_nothing_is_half(store)
        for run in session.runs():
            assert_history_is_whole(session.run(run.run))
        for number in range(SHARING, WRITERS):
            if number == victim and run_of(number) not in {r.run for r in session.runs()}:
                continue  # it died before its first commit
            run = session.run(run_of(number))
            for snapshot in run.snapshots():  # a turn is whole or absent
                turns = {stamp(data)[1] for data in contents(run, at=snapshot.number).values()}
                assert turns == {snapshot.number - 1}
        for number in (0, *range(SHARING, WRITERS)):
            run, folder = session.run(run_of(number)), folder_of(number, tmp_path)
            run.track(folder, ignore=("*.new",))
            expected = {p: d for p, d in read(folder).items() if not p.endswith(".new")}
            assert contents(run) == expected
            assert_history_is_whole(run)
        assert_nothing_is_half(store)
