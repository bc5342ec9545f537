"""The racy rule: a signature is trusted only if a later write would change it."""

from __future__ import annotations

import os
import time

import pytest
from places import EACH_INDEX, places
from trees import write

from index.domain.run_state import signature_of
from index.scan.ingest import RACY_WINDOW_NS

place = places(EACH_INDEX)


@pytest.fixture
def reads(monkeypatch):
    """The names of files that were opened for reading."""
    opened = []
    original = os.open

    def record(path, flags, *args, dir_fd=None, **kwargs):
        if dir_fd is not None and not flags & os.O_DIRECTORY:
            opened.append(path)
        return original(path, flags, *args, dir_fd=dir_fd, **kwargs)

    monkeypatch.setattr(os, "open", record)
    return opened


@pytest.fixture
def clock(monkeypatch):
    """An offset in nanoseconds from the real time to the scanner's."""
    offset = [0]
    original = time.time_ns
    monkeypatch.setattr("index.commit.track.time.time_ns", lambda: original() + offset[0])
    return offset


def test_a_file_written_just_before_the_scan_is_read_again_by_the_next(run, work, reads):
    write(work, {"f": b"1"})  # its mtime is old, its ctime is now
    run.track(work)
    reads.clear()
    assert run.track(work).recorded is False
    assert reads == ["f"]


def test_a_file_that_was_old_when_it_was_scanned_is_not_read_again(run, work, reads, clock):
    write(work, {"f": b"1"})
    clock[0] = 2 * RACY_WINDOW_NS
    run.track(work)
    reads.clear()
    run.track(work)
    assert reads == []


def test_a_file_of_the_future_is_recognised_by_its_change_time(run, work, reads, clock):
    write(work, {"f": b"1"}, age_s=-1000)
    clock[0] = 2 * RACY_WINDOW_NS
    run.track(work)
    reads.clear()
    run.track(work)
    assert reads == []


def test_a_file_whose_modification_time_is_about_now_is_read_again(run, work, reads, clock):
    """Where change times are not kept, a write in the same tick would leave this one as it is."""
    clock[0] = 2 * RACY_WINDOW_NS
    write(work, {"f": b"1"}, age_s=-clock[0] / 1e9)
    run.track(work)
    reads.clear()
    run.track(work)
    assert reads == ["f"]


def test_a_same_size_write_within_one_tick_is_found(run, work, monkeypatch):
    """The filesystem's clock stands still: the second write leaves the same signature."""
    write(work, {"f": b"one"})
    frozen = (work / "f").stat()
    for module in ("scanner", "ingest"):
        monkeypatch.setattr(
            f"index.scan.{module}.signature_of",
            lambda _status: signature_of(frozen),
        )
    run.track(work)
    # The signature was taken within the window, so it is not recorded.
    assert run._context.states.get("session-1", "run-1").find("f").signature is None
    (work / "f").write_bytes(b"two")
    assert [v.path for v in run.track(work).changed] == ["f"]


def test_trust_comes_with_the_first_scan_that_is_late_enough(run, work, reads, clock):
    write(work, {"f": b"1"})
    run.track(work)
    clock[0] = 2 * RACY_WINDOW_NS
    run.track(work)
    reads.clear()
    run.track(work)
    assert reads == []


def test_a_clock_that_is_set_back_only_costs_reading(run, work, reads, clock):
    write(work, {"f": b"1"})
    clock[0] = -1000 * RACY_WINDOW_NS
    run.track(work)
    reads.clear()
    assert run.track(work).recorded is False
    assert reads == ["f"]


def test_a_file_that_changed_while_it_was_read_is_read_again(run, work, monkeypatch, clock):
    write(work, {"f": b"x" * 100})
    clock[0] = 2 * RACY_WINDOW_NS
    original = os.pread

    def touch(fd, size, offset):
        data = original(fd, size, offset)
        os.utime(fd, (1, 1))
        return data

    monkeypatch.setattr(os, "pread", touch)
    run.track(work)
    monkeypatch.setattr(os, "pread", original)
    assert run._context.states.get("session-1", "run-1").find("f").signature is None
