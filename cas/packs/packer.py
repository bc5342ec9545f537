"""Writing of encoded blobs to packs, in the background.

Each of a few threads appends to its own pack. Other threads sync and publish full packs, as many at
once as the backend allows. The journal records of a batch refer to all other entries, so their pack
is published after all other packs.
"""

from __future__ import annotations

import logging
import queue
import threading
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from cas.catalog import Places
from cas.packs.pack import PackWriter, pack_object_name
from cas.threads import Threads
from cas.waiting import Stop

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable, Sequence

    from cas.backend import Backend, StagedObject
    from cas.catalog import Catalog
    from cas.digest_table import Row
    from cas.packs.frames import Frame
    from cas.packs.pack import EntryKind, SealedPack

__all__ = ["PACK_SIZE", "Encoded", "Packer"]

_LOG: Final = logging.getLogger("cas.packs")

PACK_SIZE: Final = 64 << 20
"""Bytes at which a pack is sealed: large enough that 10,000 steps create few objects, and small
enough that rewriting a pack or sending it again is cheap."""

_IN_FLIGHT: Final = 6
"""Tasks that may wait for compression and writing: about 24 MiB before compression. Four tasks of
8 MiB take 20 MiB more memory at the peak, and as much time."""

Encoded: TypeAlias = "tuple[EntryKind, Sequence[Frame]]"
"""Entries of one kind."""


class Packer:
    """Writer of encoded blobs to packs, for one thread. Not usable after `finish`."""

    def __init__(self, backend: Backend, catalog: Catalog) -> None:
        self._backend = backend
        self._queue: queue.SimpleQueue[Future[Encoded] | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_IN_FLIGHT)
        self._threads: list[threading.Thread] = []
        self._publisher = _Publisher(catalog, backend.publishes_at_once)
        self._error: BaseException | None = None
        self._stop = Stop()
        self._open: _OpenPack | None = None
        self._lock = threading.Lock()
        self._packs: list[SealedPack] = []
        self._places = Places()

    def wait_for_room(self) -> None:
        """Wait until the queue has room. Raise an earlier error of a thread."""
        self._room.acquire()
        if self._error is not None:
            raise self._error

    def put(self, encoded: Future[Encoded]) -> None:
        """Queue entries, after `wait_for_room`."""
        # A batch that fills no pack writes one. Each full pack justifies another thread.
        if len(self._threads) < min(self._backend.writes_at_once, len(self._packs) + 1):
            self._begin_thread(self._run)
        self._queue.put(encoded)
        if not self._threads:  # none can start: this one does the work
            self._queue.put(None)
            pack, self._open = self._open, None
            self._run(pack)

    def _begin_thread(self, target: Callable[[], None]) -> bool:
        """Start a thread; return whether one could start. If not, see `cas.threads`."""
        thread = threading.Thread(target=self._stop.ends(target), name="cas-pack", daemon=True)
        try:
            self._threads.append(thread)  # before start: Ctrl-C may come meanwhile
            thread.start()
        except RuntimeError:
            self._threads.remove(thread)
            return False
        except BaseException as error:
            self._error = error
            raise
        return True

    def finish(self, last: deque[Future[Encoded]]) -> tuple[tuple[SealedPack, ...], Places]:
        """Return the packs and the places in them once every pack is published.

        Parameters
        ----------
        last
            Entries to publish in this order, after all entries that were put. It is empty then.
        """
        self._settle()
        if last or self._open is not None:
            # On a thread: here, Ctrl-C may come between staging a pack and keeping it.
            if not self._begin_thread(partial(self._run_last, last)):
                self._run_last(last)
            self._settle()
        self._publisher.finish()
        return tuple(self._packs), self._places

    def abort(self) -> None:
        """Stop and discard unpublished packs. Has no effect after `finish`.

        What a thread waits for ends now (`cas.waiting`); what it writes, it writes first.
        """
        self._stop.set()
        self._join()
        if self._open is not None:
            self._open.discard()
        self._publisher.close()

    def _settle(self) -> None:
        """Wait for the threads; raise their error, if any."""
        self._join()
        if self._error is not None:
            raise self._error

    def _join(self) -> None:
        """Wait for the threads. One that has not started yet will find no work."""
        self._queue.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self, pack: _OpenPack | None = None) -> None:
        """Write what is queued, up to None, to a new pack or the given one."""
        pack = pack or _OpenPack(self._backend)
        try:
            while (encoded := self._queue.get()) is not None:
                try:
                    if not self._stopped:
                        self._append(pack, encoded.result(), self._seal)
                except CancelledError:
                    return  # the pool was shut down: the batch is being abandoned
                finally:
                    self._room.release()
            if self._threads:
                self._queue.put(None)  # for the next thread
            if not self._stopped:
                self._leave(pack)
        except BaseException as error:  # noqa: BLE001 - raised on the thread that adds and finishes
            self._error = error
            # The adding thread must see the error instead of waiting for room.
            self._room.release(_IN_FLIGHT)
        finally:
            if pack is not self._open:
                pack.discard()

    def _run_last(self, last: deque[Future[Encoded]]) -> None:
        """Append the last entries to the pack that is still open, and publish it last."""
        if self._stopped:
            return
        pack, self._open = self._open or _OpenPack(self._backend), None
        try:
            while last:
                self._append(pack, last.popleft().result(), self._seal_last)
            self._seal_last(pack)
        except BaseException as error:  # noqa: BLE001 - raised on the thread that finishes
            self._error = error
        finally:
            pack.discard()

    @property
    def _stopped(self) -> bool:
        return self._stop.is_set or self._error is not None

    def _append(self, pack: _OpenPack, encoded: Encoded, seal: Callable[[_OpenPack], None]) -> None:
        kind, frames = encoded
        for frame in frames:
            if pack.append(kind, frame) >= PACK_SIZE:
                seal(pack)

    def _leave(self, pack: _OpenPack) -> None:
        """Keep one pack open for the last entries; seal all others."""
        with self._lock:
            if self._open is None and not pack.is_empty:
                self._open = pack
                return
        self._seal(pack)

    def _seal_last(self, pack: _OpenPack) -> None:
        """Publish a pack after all packs that were sealed before."""
        self._publisher.finish()
        self._seal(pack)

    def _seal(self, pack: _OpenPack) -> None:
        if not pack.is_empty:
            sealed, places = pack.publish(self._publisher)
            with self._lock:
                self._places.add(sealed.name, places)
                self._packs.append(sealed)


class _OpenPack:
    """The pack that one thread appends to. Its first entry stages it. Reused after `publish`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._staged: StagedObject | None = None
        self._writer: PackWriter | None = None

    @property
    def is_empty(self) -> bool:
        return self._writer is None or not self._writer.count

    def append(self, kind: EntryKind, frame: Frame) -> int:
        """Append entries; return the size of the pack."""
        if self._writer is None:
            self._staged = self._backend.stage()
            self._writer = PackWriter(self._staged)
        self._writer.append(kind, *frame)
        return self._writer.size

    def publish(self, publisher: _Publisher) -> tuple[SealedPack, Iterable[Row]]:
        """Seal the pack and queue it for publishing; return it and `PackWriter.places`."""
        assert self._writer is not None, "published without an entry"  # noqa: S101
        assert self._staged is not None, "published without an entry"  # noqa: S101
        sealed, places = self._writer.seal(), self._writer.places()
        publisher.publish(self._staged, sealed)
        self._staged = self._writer = None
        return sealed, places

    def discard(self) -> None:
        """Discard the pack unless it was published."""
        if self._staged is not None:
            self._staged.discard()
            self._staged = None


class _Publisher:
    """Publishes packs on its own threads, a bounded number at once."""

    def __init__(self, catalog: Catalog, at_once: int) -> None:
        self._catalog = catalog
        self._at_once = at_once
        self._threads = Threads(at_once, "cas-publish")
        self._running: set[Future[None]] = set()
        self._lock = threading.Lock()

    def publish(self, staged: StagedObject, sealed: SealedPack) -> None:
        """Start to publish a pack once there is room. Raise an earlier error, if any.

        On raise the pack still belongs to the caller.
        """
        with self._lock:
            self._settle(self._at_once - 1)
            self._running.add(self._threads.submit(self._publish, staged, sealed))

    def finish(self) -> None:
        """Wait until all packs are published; raise their error, if any."""
        with self._lock:
            self._settle(0)

    def close(self) -> None:
        """Wait until publishing has ended, successfully or not; idempotent."""
        self._threads.shutdown()

    def _settle(self, most: int) -> None:
        """Wait until at most `most` packs are being published."""
        while True:
            done = {future for future in self._running if future.done()}
            self._running -= done
            for future in done:
                future.result()
            if len(self._running) <= most:
                return
            wait(self._running, return_when=FIRST_COMPLETED)

    def _publish(self, staged: StagedObject, sealed: SealedPack) -> None:
        with staged:
            self._catalog.register_pack(sealed)
            staged.publish(pack_object_name(sealed.name))
        extra = {"pack": str(sealed.name), "bytes": sealed.size}
        _LOG.debug("pack %s is durable: %d bytes", sealed.name, sealed.size, extra=extra)
