"""Python's garbage collector runs less often during a scan; then its setting is restored."""

from __future__ import annotations

import gc
import threading

import pytest
from trees import write

from index.decorators import COLLECT_EVERY, relaxed_gc


@pytest.fixture(autouse=True)
def threshold():
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_a_block_collects_seldom_and_the_threshold_comes_back():
    with relaxed_gc():
        assert gc.get_threshold() == (COLLECT_EVERY, 10, 10)
    assert gc.get_threshold() == (700, 10, 10)


def test_the_threshold_comes_back_after_an_error():
    with pytest.raises(KeyError), relaxed_gc():
        raise KeyError
    assert gc.get_threshold() == (700, 10, 10)


def test_the_last_of_overlapping_blocks_brings_it_back():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with relaxed_gc():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with relaxed_gc():
        thread.start()
        inside.wait()
    assert gc.get_threshold()[0] == COLLECT_EVERY
    leave.set()
    thread.join()
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("own", [(0, 10, 10), (COLLECT_EVERY * 2, 5, 5)])
def test_a_collector_that_is_off_or_seldom_runs_already_is_left_alone(own):
    gc.set_threshold(*own)
    with relaxed_gc():
        assert gc.get_threshold() == own
    assert gc.get_threshold() == own


def test_what_the_application_sets_meanwhile_stays():
    with relaxed_gc():
        gc.set_threshold(5_000, 10, 10)
    assert gc.get_threshold() == (5_000, 10, 10)


def test_a_scan_and_a_restore_collect_seldom(run, work, tmp_path):
    thresholds = []
    write(work, {"a": b"a"})
    run.track(work, progress=lambda _: thresholds.append(gc.get_threshold()[0]))
    run.restore(tmp_path / "out", progress=lambda _: thresholds.append(gc.get_threshold()[0]))
    assert set(thresholds) == {COLLECT_EVERY}
    assert gc.get_threshold() == (700, 10, 10)
