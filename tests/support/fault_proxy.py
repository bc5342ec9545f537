"""An HTTP proxy between a client and S3. It counts requests, and adds network faults to some."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager, nullcontext, suppress
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Fault(Enum):
    INTERNAL_ERROR = auto()
    BAD_GATEWAY = auto()  # as load balancers answer: no XML
    SLOW_DOWN = auto()
    TOO_MANY_REQUESTS = auto()
    RESET = auto()  # the request never arrives
    LOST_ANSWER = auto()  # the request arrives, its answer does not
    HANG = auto()
    TRUNCATED = auto()  # half the body, then the connection ends
    SHORT = auto()  # half the body, with a Content-Length that says so
    CORRUPTED = auto()  # one byte of the body differs; of a PUT, on the way to the service
    EXPIRED_TOKEN = auto()
    NO_BUCKET = auto()
    NO_CONDITIONS = auto()  # a service that does not know If-None-Match


ANSWERS = {
    Fault.INTERNAL_ERROR: (500, "InternalError"),
    Fault.BAD_GATEWAY: (502, None),
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.TOO_MANY_REQUESTS: (429, "TooManyRequests"),
    Fault.EXPIRED_TOKEN: (403, "ExpiredToken"),
    Fault.NO_BUCKET: (404, "NoSuchBucket"),
    Fault.NO_CONDITIONS: (501, "NotImplemented"),
}


class Planned:
    """A fault in the next `times` matching requests, after `skip` of them have passed."""

    def __init__(self, fault, method, path, times, skip):
        self.fault = fault
        self.fired = 0
        self._skip = skip
        self.over = threading.Event()
        self._method = method
        self._path = path
        self._times = times

    def takes(self, kind, path):
        fits = self._method in (None, kind) and self._path in path
        if not fits or self.over.is_set() or self.fired == self._times:
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.fired += 1
        return True


class Gate:
    """Holds back the requests of a method until it is opened, and counts the pending ones.

    A request is pending from its arrival until its answer.
    """

    def __init__(self, method):
        self.most = 0
        self._method = method
        self._on_their_way = 0
        self._tickets = 0
        self._is_open = False
        self._changed = threading.Condition()

    def wait_for(self, count):
        """Return when that many requests are pending."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: self._on_their_way >= count, 60)
        assert arrived, f"of {count} requests {self._on_their_way} came"

    def let_pass(self, count):
        """Let that many requests pass, and return when they are answered."""
        with self._changed:
            left = self._on_their_way - count
            self._tickets += count
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._on_their_way <= left, 60)

    def open(self):
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    @contextmanager
    def passing(self, kind):
        if kind != self._method:
            yield
            return
        with self._changed:
            self._on_their_way += 1
            self.most = max(self.most, self._on_their_way)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_open or self._tickets)
            if not self._is_open:
                self._tickets -= 1
        try:
            yield
        finally:
            with self._changed:
                self._on_their_way -= 1
                self._changed.notify_all()


class FaultProxy:
    """Listens on loopback. `counts` has the requests by method; LIST is apart from GET."""

    def __init__(self, endpoint):
        self.counts = Counter()
        self.bodies = Counter()
        """Bytes of request bodies by method."""
        self._target = urlsplit(endpoint).netloc
        self._planned = []
        self._gate = None
        self._death = None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @contextmanager
    def fault(self, fault, *, method=None, path="", times=1, skip=0, must_fire=True):
        """Let a fault happen, or raise if it does not. `times` None means every request."""
        planned = Planned(fault, method, path, times, skip)
        with self._lock:
            self._planned.append(planned)
        try:
            yield planned
        finally:
            planned.over.set()
            with self._lock:
                self._planned.remove(planned)
        assert planned.fired or not must_fire, f"{fault} did not happen"

    @contextmanager
    def counting(self):
        """Yield a Counter. After the block it has the block's requests."""
        before = self.counts.copy()
        found = Counter()
        yield found
        found.update(self.counts - before)

    @contextmanager
    def gate(self, method):
        """Hold back the requests of a method until the gate is opened or the block ends."""
        self._gate = gate = Gate(method)
        try:
            yield gate
        finally:
            self._gate = None
            gate.open()

    @contextmanager
    def death(self, kill, *, at, after):
        """Call `kill` at the request of that number, counted from 0, before or after it arrives.

        The client gets no answer. Yields a list, which is empty if there was no such request.
        """
        died = []

        def strike():
            died.append(True)
            kill()

        self._death = (self.counts.total() + at, after, strike)
        try:
            yield died
        finally:
            self._death = None

    def close(self):
        for planned in self._planned:
            planned.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self, kind, path, size):
        with self._lock:
            self.counts[kind] += 1
            self.bodies[kind] += size
            if self._death is not None and self.counts.total() == self._death[0] + 1:
                return self._death
            return next((p for p in self._planned if p.takes(kind, path)), None)

    def _passing(self, kind):
        gate = self._gate
        return nullcontext() if gate is None else gate.passing(kind)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        if len(body) < size:
            self.close_connection = True
            return
        path, _, query = self.path.partition("?")
        kind = "LIST" if "list-type=" in query else self.command
        with self.server.proxy._passing(kind):
            planned = self.server.proxy._next(kind, path, size)
            if planned is None:
                self.answer(*self.forward(body))
            elif isinstance(planned, Planned):
                self.misbehave(planned, body)
            else:
                self.let_die(planned, body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815

    def let_die(self, death, body):
        _, after, strike = death
        if after:
            self.forward(body)
        strike()
        self.reset()

    def misbehave(self, planned, body):
        fault = planned.fault
        if fault in ANSWERS:
            self.answer(*_refusal(*ANSWERS[fault]))
        elif fault is Fault.HANG:
            planned.over.wait()
            self.reset()
        elif fault is Fault.RESET:
            self.reset()
        elif fault is Fault.LOST_ANSWER:
            self.forward(body)
            self.reset()
        elif fault is Fault.CORRUPTED and body:
            self.answer(*self.forward(_flipped(body)))
        else:
            status, headers, data = self.forward(body)
            half = data[: len(data) // 2]
            if fault is Fault.CORRUPTED:
                self.answer(status, headers, _flipped(data))
            elif fault is Fault.SHORT:
                self.answer(status, headers, half)
            else:
                self.answer(status, headers, half, claimed=len(data))
                self.close_connection = True

    def forward(self, body):
        upstream = http.client.HTTPConnection(self.server.proxy._target)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def answer(self, status, headers, body, claimed=None):
        self.send_response_only(status)
        length = len(body) if claimed is None else claimed
        for name, value in headers:
            if name.lower() == "content-length":
                length = int(value) if self.command == "HEAD" else length
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def reset(self):
        linger = struct.pack("ii", 1, 0)  # closing sends RST instead of FIN
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True

    def handle(self):
        try:
            super().handle()
        except (OSError, ValueError):  # the client gave up, or we reset the connection
            self.close_connection = True

    def finish(self):
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *arguments):
        pass


def _refusal(status, code):
    if code is None:
        return status, [("Content-Type", "text/html")], b"<html><h1>Bad gateway</h1>"
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}, says the proxy"
    return status, [("Content-Type", "application/xml")], f"{text}</Message></Error>".encode()


def _flipped(data):
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 0x40
    return bytes(changed)
