"""A relay between a client and a server on loopback. It can cut a connection at a message."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class Relay:
    """Passes on bytes both ways; a context manager that stops with the block."""

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends = []
        self._threads = []
        self._marker = None
        self._deliver = True
        self._for_good = False
        self.cuts = 0

    def cut_at(self, marker, *, deliver, for_good=False):
        """Cut the next connection that sends `marker`, before or after the server gets it.

        With `for_good`, further connections are refused.
        """
        self._marker, self._deliver, self._for_good = marker, deliver, for_good

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *error):
        self._shut(self._listener)
        while self._threads:
            for end in self._ends:
                self._shut(end)
            self._threads.pop().join()
        for end in (self._listener, *self._ends):
            end.close()

    def _start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._ends.append(near)
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends.append(far)
                self._start(self._pass_on, near, far, self._cut_if_marked)
                self._start(self._pass_on, far, near, lambda *_: False)

    def _pass_on(self, source, sink, ends_with):
        with suppress(OSError):
            while (data := source.recv(1 << 16)) and not ends_with(source, sink, data):
                sink.sendall(data)
        self._shut(source)
        self._shut(sink)

    def _cut_if_marked(self, client, server, data):
        if self._marker is None or self._marker not in data:
            return False
        self._marker = None
        self.cuts += 1
        if self._for_good:
            self._shut(self._listener)
        self._shut(client)
        if self._deliver:
            server.sendall(data)
            time.sleep(0.2)  # until the server has committed; its answer is dropped
        return True

    @staticmethod
    def _shut(end):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
