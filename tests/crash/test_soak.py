"""Eight writers, with readers and collectors without a grace period, work at once for a while.

Each writer notes its commits as soon as they return. At the end every byte of the store is
verified, and every run is compared with its writer's notes.

`CAS_SOAK_SECONDS` is the duration; with some minutes this is the soak of docs/reliability.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from datetime import timedelta

import pytest
from forks import Forked
from garbage import collect, scalar
from places import CORNERS, as_json

from index import ArtifactStore

SECONDS = float(os.environ.get("CAS_SOAK_SECONDS", "3"))
ELSEWHERE = 0.5
"""Share of that time for PostgreSQL and S3."""
WRITERS = 8
READERS = 2
COLLECTORS = 2
LONGEST_END_S = 300
"""Seconds that the last step of a process may take after the time is over."""

START = """
import json, os, random, sys, time
from datetime import timedelta
from index import ArtifactStore
from index.errors import ArtifactIndexError, UnknownRunError

place, folder, number, seconds = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
store = ArtifactStore.open(**place)
draw = random.Random(number)
counts = {}

def did(what):
    counts[what] = counts.get(what, 0) + 1

def content():
    # Of few kinds, so that writers share most bytes and each is garbage again and again.
    kind = draw.randrange(40)
    size = (3 << 20) if kind == 0 else kind * 700
    return random.Random(kind).randbytes(size)

print("ready", flush=True)
sys.stdin.readline()
ends = time.monotonic() + float(seconds)
"""

WRITE = (
    START
    + """
import hashlib
committed = {}  # run -> the snapshots: path -> digest of the bytes
work = os.path.join(folder, f"work-{number}")
os.makedirs(work)
mine = f"session-{number % 4}"
turn = 0

def told(run, state):
    committed.setdefault(run, []).append(state)

def now(run):
    return committed[run][-1] if committed.get(run) else {}

while time.monotonic() < ends:
    turn += 1
    run = f"{number}-{draw.randrange(3)}"
    handle = store.session(mine).run(run)
    step = draw.choice(["track", "track", "track", "put", "put", "fork", "rewind", "delete"])
    if step == "track":
        for name in range(6):
            path = os.path.join(work, f"f{name}")
            if draw.random() < 0.3 and os.path.exists(path):
                os.unlink(path)
            elif draw.random() < 0.5:
                with open(path, "wb") as file:
                    file.write(content())
        snapshot = handle.track(work, agent=f"{number}-{turn}")
        disk = {}
        for name in os.listdir(work):
            with open(os.path.join(work, name), "rb") as file:
                disk[name] = hashlib.sha256(file.read()).hexdigest()
        state = {path: digest for path, digest in now(run).items() if path[0] == "p"} | disk
        before = len(committed.get(run, ()))
        assert snapshot.number == before + snapshot.recorded, (snapshot, before)
        if snapshot.recorded:
            told(run, state)
        else:
            assert state == now(run)
    elif step == "put":
        path, data = f"p{draw.randrange(4)}", content()
        handle.put(path, data, agent=f"{number}-{turn}")
        digest = hashlib.sha256(data).hexdigest()
        if now(run).get(path) != digest:
            told(run, {**now(run), path: digest})
    elif not committed.get(run):
        continue
    elif step == "fork":
        other = f"{number}-fork-{turn}"
        at = draw.randint(0, len(committed[run]))
        handle.fork(other, at=at)
        committed[other] = committed[run][:at]
        if draw.random() < 0.7:
            store.session(mine).run(other).delete()
            del committed[other]
    elif step == "rewind":
        at = draw.randint(1, len(committed[run]))
        if handle.rewind(at).recorded:
            told(run, committed[run][at - 1])
    else:
        handle.delete()
        del committed[run]
    did(step)
with open(os.path.join(folder, f"committed-{number}.json"), "w") as file:
    json.dump({"session": mine, "runs": committed}, file)
store.close()
print(json.dumps(counts))
"""
)

READ = (
    START
    + """
from index.errors import UnknownSnapshotError
from cas.errors import BlobNotFoundError

while time.monotonic() < ends:
    for summary in store.runs():
        if time.monotonic() > ends:
            break
        run = store.session(summary.session).run(summary.run)
        try:
            for version in run.files():
                data = run.read_bytes(version.path, version=version.version)
                assert len(data) == version.size
                did("read")
        except ArtifactIndexError:
            # Only what was deleted since it was listed can't be read.
            if any((s.session, s.run) == (summary.session, summary.run) and
                   s.created_at == summary.created_at for s in store.runs()):
                raise
            did("deleted meanwhile")
store.close()
print(json.dumps(counts))
"""
)

COLLECT = (
    START
    + """
while time.monotonic() < ends:
    report = store.plan_gc(grace=timedelta(0), remove_orphans=bool(draw.randrange(2))).execute()
    assert not report.damaged, report.damaged
    did("collections")
    for what in ("packs_deleted", "packs_compacted"):
        counts[what] = counts.get(what, 0) + getattr(report, what)
    counts["swept"] = counts.get("swept", 0) + report.swept.blobs
store.close()
print(json.dumps(counts))
"""
)


def start(code, place, folder, number, seconds):
    return Forked(code, as_json(place), folder, number, seconds)


def let_go_at_once(processes):
    """Start all processes at the same moment; return their counts and errors."""
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        counts, errors = Counter(), []
        for process in processes:
            out, error = process.communicate(timeout=SECONDS + LONGEST_END_S)
            if process.returncode:
                errors.append(error)
            else:
                counts.update(json.loads(out))
        return counts, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()


def held(run):
    """Return what a run holds after each of its snapshots."""
    return [
        {
            version.path: hashlib.sha256(run.read_bytes(version.path, at=number)).hexdigest()
            for version in run.files(at=number)
        }
        for number in range(1, len(run.snapshots()) + 1)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("place", CORNERS, indirect=True)
def test_nothing_that_was_committed_is_lost(place, tmp_path, request):
    on_one_machine = "sqlite-local" in request.node.callspec.id
    seconds = SECONDS if on_one_machine else SECONDS * ELSEWHERE
    codes = [WRITE] * WRITERS + [READ] * READERS + [COLLECT] * COLLECTORS
    processes = [start(code, place, tmp_path, n, seconds) for n, code in enumerate(codes)]
    counts, errors = let_go_at_once(processes)
    assert not errors, errors[0]
    assert min(counts["track"] + counts["put"], counts["collections"]) > 0
    with ArtifactStore.open(**place) as store:
        expected = {}
        for number in range(WRITERS):
            told = json.loads((tmp_path / f"committed-{number}.json").read_text())
            expected |= {(told["session"], run): states for run, states in told["runs"].items()}
        assert {(s.session, s.run) for s in store.runs()} == expected.keys()
        for after_another_collection in (False, True):
            for (session, run), states in expected.items():
                assert held(store.session(session).run(run)) == states, run
            report = store.verify(depth="bytes")
            assert report.is_sound, report.faults
            if not after_another_collection:
                collect(store, grace=timedelta(0), remove_orphans=True)
        counts["snapshots compared"] = sum(len(states) for states in expected.values())
        counts["blobs at the end"] = scalar(store, "SELECT count(*) FROM cas_blobs")
        counts["bytes verified"] = report.bytes_read
    request.node.add_report_section("call", "soak", json.dumps(counts, indent=1))
    print(json.dumps(counts))  # noqa: T201 - the figures, for `pytest -s`
