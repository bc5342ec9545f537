"""Tasks run on a few threads, and on the calling thread where none can start."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from concurrent.futures import CancelledError, Future

import pytest

from cas.threads import Threads
from cas.waiting import Stop, check_stop, pause, result_of

SECONDS = 30


def none_starts(_thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")


def test_all_tasks_run_and_no_more_threads_than_allowed():
    names = set()

    def work(number):
        names.add(threading.current_thread())
        return number

    with Threads(3, "cas-test") as threads:
        assert list(threads.map(work, range(200))) == list(range(200))
    assert 1 <= len(names) <= 3
    assert threading.current_thread() not in names
    assert not any(thread.is_alive() for thread in names)


def test_tasks_run_at_the_same_time():
    met = threading.Barrier(3)
    with Threads(3, "cas-test") as threads:
        for met_at in [threads.submit(met.wait, SECONDS) for _ in range(3)]:
            met_at.result(SECONDS)


def test_an_error_is_raised_where_the_result_is_asked_for():
    with Threads(1, "cas-test") as threads:
        failed = threads.submit(int, "x")
        assert threads.submit(int, "7").result(SECONDS) == 7
        with pytest.raises(ValueError, match="'x'"):
            failed.result(SECONDS)


def test_shutting_down_ends_what_was_submitted_or_cancels_it():
    started, go_on = threading.Event(), threading.Event()
    threads = Threads(1, "cas-test")

    def first():
        started.set()
        assert go_on.wait(SECONDS)

    running, waiting = threads.submit(first), threads.submit(int)
    assert started.wait(SECONDS)
    threads.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        waiting.result(SECONDS)
    go_on.set()
    running.result(SECONDS)
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(int)
    with Threads(1, "cas-test") as others:
        ended = [others.submit(int) for _ in range(20)]
    assert all(future.done() for future in ended)


def test_threads_that_do_not_stay_end_and_start_again():
    threads = Threads(2, "cas-test", stay=False)
    for _ in range(50):
        seen = threads.submit(threading.current_thread).result(SECONDS)
        assert not seen.daemon  # so the process waits for what it does
        seen.join(SECONDS)
        assert not seen.is_alive()


def test_a_task_keeps_neither_its_arguments_nor_its_result():
    class Large:
        pass

    with Threads(1, "cas-test") as threads:
        large = Large()
        held = weakref.ref(large)
        future = threads.submit(lambda given: given, large)
        future.result(SECONDS)
        threads.submit(int).result(SECONDS)
        del large, future
        assert held() is None


class TestWaitsOfTasks:
    """They end when nobody needs the task any more."""

    @pytest.fixture
    def waits(self):
        return threading.Event()

    @pytest.mark.parametrize("kind", ["pause", "result"])
    def test_a_running_task_waits_no_longer(self, waits, kind):
        answer = Future()
        answer.set_running_or_notify_cancel()

        def work():
            waits.set()
            pause(2 * SECONDS) if kind == "pause" else result_of(answer, 2 * SECONDS)

        with Threads(1, "cas-test") as threads:
            task = threads.submit(work)
            assert waits.wait(SECONDS)
            threads.shutdown(wait=False, cancel_futures=True)
            with pytest.raises(CancelledError):
                task.result(SECONDS)

    def test_nor_does_one_that_it_waits_for(self, waits):
        def inner():
            waits.set()
            pause(2 * SECONDS)

        others = Threads(1, "cas-test")  # of somebody else, who goes on
        with Threads(1, "cas-test") as threads:
            task = threads.submit(lambda: others.submit(inner).result())
            assert waits.wait(SECONDS)
            threads.shutdown(wait=False, cancel_futures=True)
            with pytest.raises(CancelledError):
                task.result(SECONDS)
        assert others.submit(check_stop).result(SECONDS) is None
        others.shutdown()

    def test_an_error_in_the_block_ends_them(self, waits):
        def work():
            waits.set()
            pause(2 * SECONDS)

        with pytest.raises(KeyboardInterrupt), Threads(1, "cas-test") as threads:
            task = threads.submit(work)
            assert waits.wait(SECONDS)
            raise KeyboardInterrupt
        assert isinstance(task.exception(0), CancelledError)

    def test_a_block_without_an_error_ends_none(self):
        with Threads(1, "cas-test") as threads:
            task = threads.submit(pause, 0.3)
        assert task.exception(0) is None

    def test_a_stop_ends_no_wait_of_the_thread_that_made_it(self):
        stop = Stop()
        stop.set()
        with pytest.raises(CancelledError):
            stop.ends(check_stop)()
        check_stop()
        pause(0)

    def test_a_result_that_comes_too_late_is_not_waited_for(self):
        answer = Future()
        with pytest.raises(TimeoutError):
            result_of(answer, 0.1)
        assert answer.cancelled()


class TestWhereNoThreadStarts:
    @pytest.fixture
    def no_threads(self, monkeypatch):
        monkeypatch.setattr(threading.Thread, "start", none_starts)

    @pytest.mark.parametrize("stay", [True, False])
    def test_the_caller_runs_the_task(self, no_threads, stay):
        threads = Threads(2, "cas-test", stay=stay)
        done = threads.submit(threading.current_thread)
        assert done.done()
        assert done.result() is threading.current_thread()
        failed = threads.submit(int, "x")
        with pytest.raises(ValueError, match="'x'"):
            failed.result()
        threads.shutdown()

    def test_a_task_may_submit_another(self, no_threads):
        threads = Threads(2, "cas-test")
        assert threads.submit(lambda: threads.submit(int, "7").result()).result() == 7

    def test_a_task_runs_once_where_one_thread_started_and_no_other_does(self, monkeypatch):
        go_on, ran = threading.Event(), []
        with Threads(2, "cas-test") as threads:
            threads.submit(go_on.wait, SECONDS)
            monkeypatch.setattr(threading.Thread, "start", none_starts)
            future = threads.submit(ran.append, 1)
            assert not ran
            go_on.set()
            future.result(SECONDS)
        assert ran == [1]


def test_tasks_run_after_the_main_thread_has_ended():
    code = """
import threading
def late():
    threading.main_thread().join()
    from cas.threads import Threads  # `concurrent.futures.thread` can't be imported now
    with Threads(2, "cas-test") as threads:
        print(list(threads.map(int, "12")))
threading.Thread(target=late).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert (done.stdout, done.stderr) == ("[1, 2]\n", "")
