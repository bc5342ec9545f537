"""Servers of HTTP that are measured, each a process of its own on the loopback interface."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contenders import cas_command
from machine import output_of
from web_client import Work

if TYPE_CHECKING:
    from collections.abc import Iterator

_KNOWN: Final = "what-the-client-knows"
_PATIENCE_S: Final = 60

_NGINX: Final = """\
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes auto;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; autoindex on; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """The times of some answers."""

    seconds: float
    """Of all of them, from the first request to the last byte."""
    samples: list[float]
    """Of each, from its request to its last byte."""

    @property
    def per_answer(self) -> float:
        """The time of all, divided by how many they are."""
        return self.seconds / len(self.samples)

    @property
    def percentile_99(self) -> float:
        """The 99th percentile; the longest sample if they are few."""
        if len(self.samples) < 100:
            return max(self.samples)
        return statistics.quantiles(self.samples, n=100)[98]


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    address: str
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self,
        *paths: str,
        connections: int = 1,
        requests: int = 1,
        size: int | None = None,
        opening: str | None = None,
    ) -> Found:
        """Have a process ask for paths in turns; see `Work` for the parameters."""
        work = Work(
            self.address, self.headers, [*paths], connections, requests, size, opening or paths[0]
        )
        client = [sys.executable, str(Path(__file__).with_name("web_client.py"))]
        done = subprocess.run(
            [*client, json.dumps(asdict(work))], check=True, stdout=subprocess.PIPE, text=True
        )
        return Found(**json.loads(done.stdout))


@contextmanager
def cas_serve(store: Path) -> Iterator[Server]:
    """Run ``cas serve``."""
    command = cas_command(store, "serve", "--token", _KNOWN)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            link = process.stdout.readline().rpartition(" ")[2]
            if not link.startswith("http"):
                raise SystemExit("cas serve did not start")
            yield Server(link.partition("/login")[0], {"Authorization": f"Bearer {_KNOWN}"})
        finally:
            process.terminate()


@contextmanager
def http_server(root: Path) -> Iterator[Server]:
    """Run Python's own server of a directory, which keeps connections as version 1.1 does."""
    port = _free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with _running([*command, "--protocol", "HTTP/1.1", "--directory", str(root)], port) as server:
        yield server


@contextmanager
def nginx(root: Path, folder: Path) -> Iterator[Server]:
    """Run nginx with a worker for each core; `folder` takes its own files."""
    folder.mkdir()
    user = "root" if os.geteuid() == 0 else "nobody"
    port, settings = _free_port(), folder / "nginx.conf"
    settings.write_text(_NGINX.format(folder=folder, root=root, port=port, user=user))
    error_log = str(folder / "error.log")
    with _running(["nginx", "-c", str(settings), "-e", error_log], port) as server:
        yield server


def nginx_version() -> str | None:
    """Return the version of nginx; None if it is not installed."""
    if shutil.which("nginx") is None:
        return None
    return output_of(["sh", "-c", "nginx -v 2>&1"]).rpartition("/")[2] or "?"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@contextmanager
def _running(command: list[str], port: int) -> Iterator[Server]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            _wait_for(port, process)
            yield Server(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        line = http.client.HTTPConnection("127.0.0.1", port)
        try:
            line.request("HEAD", "/")
            line.getresponse()
        except OSError:
            time.sleep(0.05)
        else:
            return
        finally:
            line.close()
    raise SystemExit(f"{process.args} does not answer")
