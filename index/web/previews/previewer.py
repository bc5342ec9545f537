"""Previews of file versions, made by a few worker processes and kept for a while."""

from __future__ import annotations

import math
import threading
import time
from codecs import getincrementaldecoder
from collections import OrderedDict
from contextlib import closing, contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from index.web.previews.hexadecimal import SHOWN_BYTES, hex_lines
from index.web.previews.preview import KINDS, Preview
from index.web.previews.process import TimedOutError, WorkerProcess
from index.web.previews.protocol import WorkerLostError
from index.web.previews.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import BinaryIO, Self

    from index import FileVersion

__all__ = ["Previewer"]

_LONGEST_TARGET: Final = 4096
"""Bytes of the target of a link. Source: PATH_MAX of Linux."""

_LONGEST_HINT: Final = 32
_FALLBACK_TEXT: Final = 64 << 10

_QUEUE: Final = 6
"""Previews that wait for a worker at most; more are refused. With those that are made, they hold
half of the requests that read the store at once: slow files do not keep the others waiting."""

_KEPT_PREVIEWS: Final = 256
_KEPT_BYTES: Final = 64 << 20


class Previewer:
    """Makes previews of file versions. One serves a whole application, from any thread.

    Parameters
    ----------
    timeout
        Seconds that a preview takes at most, and that it waits for a worker at most.
    memory
        Bytes of address space of a worker.
    workers
        Processes at most. They start when they are needed, and stay.
    retry
        Seconds until a file that a parser was stopped at may be tried again: storage may have been
        slow. Without a pause, one such file would keep all workers busy.
    """

    def __init__(
        self,
        *,
        timeout: float = 10.0,
        memory: int = 1 << 30,
        workers: int = 2,
        retry: float = 60.0,
    ) -> None:
        self._timeout, self._retry = timeout, retry
        self._memory = memory
        self._lock = threading.Lock()
        self._free = threading.Semaphore(workers)
        self._waiting = 0
        self._idle: list[WorkerProcess] = []
        self._all: set[WorkerProcess] = set()
        self._is_closed = False
        self._kept = _Kept()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all worker processes. Previews that are being made are refused."""
        with self._lock:
            self._is_closed = True
            workers = [*self._all]
            self._all.clear()
            self._idle.clear()
        for worker in workers:
            worker.close()

    def preview(self, version: FileVersion, open_content: Callable[[], BinaryIO]) -> Preview:
        """Return a preview of a file version.

        A file that can't be parsed, or not within the limits, has a preview too: of kind ``hex``,
        ``text`` or ``refused``, with a note that says why.

        Parameters
        ----------
        open_content
            Opens the verified bytes. It is not called if the preview is known. What it raises, and
            what reading raises, goes to the caller.
        """
        if version.loss is not None:
            return Preview("gone", note=f"There is none: {version.loss}.")
        if version.size == 0:
            return Preview("empty")
        if version.is_link:
            with closing(open_content()) as stream:
                return _link(stream.read(_LONGEST_TARGET))
        key = (str(version.digest), _hint(version.path))
        found = self._kept.get(key)
        if found is not None:
            return found
        with closing(open_content()) as stream:
            preview, size, seconds = self._made(key[1], version.size, stream)
        if seconds:
            self._kept.put(key, preview, size, time.monotonic() + seconds)
        return preview

    def _made(self, hint: str, size: int, stream: BinaryIO) -> tuple[Preview, int, float]:
        """Return a preview, how many bytes it takes to keep it, and for how many seconds."""

        def read(offset: int, count: int) -> bytes:
            return _read(stream, offset, count)

        with self._turn() as is_free:
            if not is_free:
                return Preview("refused", note="The server is busy. Reload to try again."), 0, 0
            worker, is_usable = self._take(), False
            try:
                answer = worker.ask({"name": hint, "size": size}, read, timeout=self._timeout)
                preview, is_usable = _checked(answer), not answer.get("last")
            except TimedOutError:
                why = f"A preview would take longer than {self._timeout:g} seconds."
            except WorkerLostError:
                why = "The parser fails on this file, or needs more memory than it may."
            else:
                return preview, len(str(answer)), math.inf
            finally:
                self._give_back(worker, is_usable=is_usable)
        head = read(0, _FALLBACK_TEXT)
        return _fallback(why, head, size), len(head), self._retry

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Wait until a worker may be used; False if too many wait already, or it takes too long."""
        with self._lock:
            is_refused = self._waiting >= _QUEUE or self._is_closed
            self._waiting += not is_refused
        if is_refused:
            yield False
            return
        try:
            is_free = self._free.acquire(timeout=self._timeout)
        finally:
            with self._lock:
                self._waiting -= 1
        try:
            yield is_free
        finally:
            if is_free:
                self._free.release()

    def _take(self) -> WorkerProcess:
        while True:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None:
                break
            if worker.is_alive:
                return worker
            self._give_back(worker, is_usable=False)
        worker = WorkerProcess(timeout=self._timeout, memory=self._memory)
        with self._lock:
            self._all.add(worker)
        return worker

    def _give_back(self, worker: WorkerProcess, *, is_usable: bool) -> None:
        with self._lock:
            if is_usable and not self._is_closed:
                self._idle.append(worker)
                return
            self._all.discard(worker)
        worker.close()


class _Kept:
    """The previews that were used last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._previews: OrderedDict[tuple[str, str], tuple[Preview, int, float]] = OrderedDict()
        self._size = 0

    def get(self, key: tuple[str, str]) -> Preview | None:
        with self._lock:
            found = self._previews.get(key)
            if found is None or found[2] < time.monotonic():
                return None
            self._previews.move_to_end(key)
            return found[0]

    def put(self, key: tuple[str, str], preview: Preview, size: int, until: float) -> None:
        with self._lock:
            self._size += size - self._previews.pop(key, (None, 0))[1]
            self._previews[key] = (preview, size, until)
            while len(self._previews) > _KEPT_PREVIEWS or self._size > _KEPT_BYTES:
                _, (_, dropped, _) = self._previews.popitem(last=False)
                self._size -= dropped


def _hint(path: str) -> str:
    """Return what of a name counts: its ending, or all of a name without one."""
    name = PurePosixPath(path).name
    hint = PurePosixPath(name).suffix or name
    return hint if len(hint) <= _LONGEST_HINT and hint.isascii() and hint.isprintable() else ""


def _read(stream: BinaryIO, offset: int, count: int) -> bytes:
    """Return bytes of a stream, fewer only at its end."""
    stream.seek(offset)
    pieces = []
    while count and (piece := stream.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _checked(answer: dict[str, Any]) -> Preview:
    """Return the preview of an answer, if it is one."""
    kind, truncated, note = (answer.get(name) for name in ("kind", "truncated", "note"))
    content = answer.get("content")
    if kind not in KINDS or not isinstance(content, dict) or not isinstance(note, str | None):
        raise WorkerLostError
    return Preview(kind, truncated is True, note, content)


def _link(target: bytes) -> Preview:
    return Preview("link", content={"target": visible(target.decode("utf-8", "surrogateescape"))})


def _fallback(note: str, head: bytes, size: int) -> Preview:
    """Return the beginning of a file that no parser gets through."""
    try:
        text = getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text:
        content: dict[str, Any] = {"text": visible(text.replace("\r\n", "\n"))}
        return Preview("refused", len(head) < size, note, content)
    shown = head[:SHOWN_BYTES]
    return Preview("refused", len(shown) < size, note, {"lines": hex_lines(shown)})
