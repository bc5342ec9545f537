"""What scans, restores and reads cost, in figures that no other load on the machine moves.

Each is the difference between a directory of few and one of many files, so that what is paid once
is not counted. Statements are counted in `test_statements.py`, requests in `test_remote_blobs.py`,
`test_remote_cache.py` and `test_sync_remote.py`.
"""

from __future__ import annotations

import random
import time

import pytest
from costs import blocks_kept, bytes_written, peak_memory, system_calls
from places import on_one, packs_of
from trees import write

FEW, MANY = 500, 2_500
MORE = MANY - FEW

local = on_one(because="system calls and bytes are those of a local store")


@pytest.fixture(autouse=True)
def aged(monkeypatch):
    """Let scans happen long after the files were written, so that signatures are trusted."""
    present = time.time_ns
    monkeypatch.setattr("index.commit.track.time.time_ns", lambda: present() + 3600 * 10**9)


@pytest.fixture
def sized(store, tmp_path):
    """For each number of files, a run and a directory with so many small ones in five folders."""
    found = {}
    for count in (FEW, MANY):
        work = tmp_path / f"work-{count}"
        write(work, {f"d{n % 5}/f{n}": b"%d of %d, " % (n, count) * 9 for n in range(count)})
        found[count] = store.session("s").run(f"r{count}"), work
    return found


def calls_of(work):
    with system_calls() as calls:
        work()
    return calls


def for_one_more(calls):
    """Return the calls that each further file costs, by name, without what packs cost."""
    found = {n: round((calls[MANY][n] - calls[FEW][n]) / MORE, 2) for n in calls[MANY]}
    return {name: each for name, each in found.items() if each}


@local
def test_an_unchanged_file_costs_one_system_call(sized):
    calls = {}
    for count, (run, work) in sized.items():
        run.track(work)
        calls[count] = calls_of(lambda run=run, work=work: run.track(work))
    assert for_one_more(calls) == {"stat": 1}
    assert calls[FEW].total() - FEW < 120


@local
def test_a_new_file_is_opened_and_read_once(sized):
    calls = {n: calls_of(lambda r=run, w=work: r.track(w)) for n, (run, work) in sized.items()}
    each = for_one_more(calls)
    assert each.pop("fstat") <= 2
    assert each == {"open": 1, "pread": 1, "close": 1}
    assert max(made["fsync"] for made in calls.values()) < 6


@local
def test_a_restored_file_costs_four_system_calls(sized, tmp_path):
    calls = {}
    for count, (run, work) in sized.items():
        run.track(work)
        out = tmp_path / f"out-{count}"
        calls[count] = calls_of(lambda run=run, out=out: run.restore(out))
    assert for_one_more(calls) == {"open": 1, "write": 1, "utime": 1, "close": 1}


@local
def test_reading_a_file_costs_four_system_calls_in_a_run_of_any_size(sized):
    for run, work in sized.values():
        run.track(work)
        run.read_bytes("d1/f1")
        name = f"d4/f{FEW - 1}"  # one that may lie beside the first is already there
        assert calls_of(lambda run=run, name=name: run.read_bytes(name)).total() <= 4


@local
def test_a_scan_writes_each_stored_byte_once_and_a_short_row(store, objects, tmp_path):
    draw = random.Random(1)
    write(tmp_path / "few", {"f": b"1"})
    run = store.session("s").run("r")
    run.track(tmp_path / "few")
    work = tmp_path / "work"
    write(work, {f"d{n % 5}/f{n}": draw.randbytes(1_000) for n in range(2_000)})
    before, packed = bytes_written(), size_of_packs(objects)
    run.track(work)
    written, stored = bytes_written() - before, size_of_packs(objects) - packed
    assert stored < 2_000 * 1_100
    assert (written - stored) / 2_000 < 500


@local
def test_a_large_file_is_written_once(store, objects, tmp_path):
    work = tmp_path / "work"
    write(work, {"large": random.Random(2).randbytes(8 << 20)})
    before = bytes_written()
    store.session("s").run("r").track(work)
    written = bytes_written() - before
    assert size_of_packs(objects) < 1.01 * (8 << 20)
    assert written < 1.03 * (8 << 20)


@local
def test_an_unchanged_scan_writes_nothing(sized):
    run, work = sized[FEW]
    run.track(work)
    before = bytes_written()
    run.track(work)
    assert bytes_written() == before


@local
def test_a_restore_writes_the_bytes_of_its_files(sized, tmp_path):
    run, work = sized[MANY]
    run.track(work)
    size = sum(version.size for version in run.files())
    before = bytes_written()
    run.restore(tmp_path / "out")
    assert bytes_written() - before == size


def size_of_packs(objects):
    return sum(len(objects.read(name)) for name in packs_of(objects))


def grown(figures):
    return (figures[MANY] - figures[FEW]) / MORE


@local
@pytest.mark.parametrize(
    ("work", "most"),
    [
        ("first", 1_400),
        ("twice", 1_250),
        ("files", 1_200),
        ("restore", 1_700),
    ],
)
def test_memory_grows_by_so_many_bytes_a_file(sized, tmp_path, work, most):
    peaks = {}
    for count, (run, directory) in sized.items():
        ways = {
            "first": lambda r=run, d=directory: r.track(d),
            "twice": lambda r=run, d=directory: (r.track(d), r.track(d)),
            "files": run.files,
            "restore": lambda r=run, n=count: r.restore(tmp_path / f"out-{n}"),
        }
        if work in ("files", "restore"):
            run.track(directory)
        peaks[count] = peak_memory(ways[work])
    assert grown(peaks) < most


@local
def test_a_first_scan_of_many_files_holds_few_bytes_of_each(sized, tmp_path, store, monkeypatch):
    write(tmp_path / "one", {"f": b"1"})
    store.session("s").run("one").track(tmp_path / "one")  # imports
    # As with hundreds of thousands of files: what is done piece by piece counts for nothing.
    monkeypatch.setattr("cas.digest_table._FEW", 50)
    monkeypatch.setattr("cas.catalog._ROWS_AT_ONCE", 50)
    monkeypatch.setattr("cas.writer._GROUP_BLOBS", 50)
    monkeypatch.setattr("index.commit.describe._PART_SIZE", 10_000)
    monkeypatch.setattr("index.db.bulk._ROWS_AT_ONCE", 50)
    monkeypatch.setattr("index.db.queries.counts._ROWS_AT_ONCE", 50)
    peaks = {n: peak_memory(lambda r=run, w=work: r.track(w)) for n, (run, work) in sized.items()}
    assert grown(peaks) < 450


@local
def test_what_a_store_keeps_of_a_run_is_a_few_blocks_a_file(sized):
    kept = {}
    for count, (run, directory) in sized.items():
        # The second scan makes the state of the run. After the first one the store keeps what that
        # found: more blocks, and fewer bytes.
        kept[count] = blocks_kept(lambda r=run, d=directory: (r.track(d), r.track(d)))
    assert grown(kept) < 8
