"""Threads that run tasks, and the calling thread where no thread can start.

`ThreadPoolExecutor` refuses tasks once the main thread has ended, even though other threads and
exit handlers go on, and it can't be imported any more then. These threads start as long as Python
and the system let any start. Otherwise the thread that submits a task runs it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from concurrent.futures import Executor, Future
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from cas.waiting import Stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Threads"]

P = ParamSpec("P")
R = TypeVar("R")


class Threads(Executor):
    """An executor of at most `most` threads, started as needed. Safe for use by several threads.

    `shutdown` with `cancel_futures` also ends what running tasks wait for (`cas.waiting`). An error
    in the ``with`` block does so, too.

    Parameters
    ----------
    stay
        Whether threads wait for further tasks until `shutdown`; the end of the process does not
        wait for them. Otherwise they end when no task is left, and the process waits for that.
    """

    def __init__(self, most: int, name: str, *, stay: bool = True) -> None:
        self._most = most
        self._name = name
        self._stay = stay
        self._changed = threading.Condition()
        self._tasks: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._started: set[threading.Thread] = set()
        self._idle = 0
        self._closed = False
        self._process = os.getpid()
        self._stop = Stop()

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        future: Future[R] = Future()
        task = (future, self._stop.ends(partial(function, *args, **kwargs)))
        with self._changed:
            if self._closed:
                raise RuntimeError(f"the threads {self._name!r} were shut down")
            self._tasks.append(task)
            if self._idle < len(self._tasks) and len(self._started) < self._most:
                self._start()
            if self._started:
                self._changed.notify()
                return future
            self._tasks.remove(task)
        _run(*task)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature of Executor
        if os.getpid() != self._process or sys.is_finalizing():
            return  # the threads are those of a parent, or have ended wherever they were
        if cancel_futures:
            self._stop.set()
        with self._changed:
            self._closed = True
            while cancel_futures and self._tasks:
                self._tasks.popleft()[0].cancel()
            self._changed.notify_all()
            threads = list(self._started)
        for thread in threads:
            if wait and thread.is_alive():
                thread.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown(cancel_futures=error is not None)

    def _start(self) -> None:
        """Start a thread, unless the interpreter is ending or the system has none left."""
        thread = threading.Thread(target=self._work, name=self._name, daemon=self._stay)
        self._started.add(thread)  # before start: Ctrl-C may come meanwhile
        try:
            thread.start()
        except RuntimeError:
            self._started.discard(thread)

    def _work(self) -> None:
        while (task := self._next()) is not None:
            _run(*task)
            del task  # it holds the arguments and the result

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            while not self._tasks:
                if self._closed or not self._stay:
                    self._started.discard(threading.current_thread())
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return self._tasks.popleft()


def _run(future: Future[R], work: Callable[[], R]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
        future.set_exception(error)
    else:
        future.set_result(result)
