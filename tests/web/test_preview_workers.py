"""The processes that make previews: what they inherit, and what their failures cost."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import corpus
import pytest
from previewed import (
    Stream,
    assert_harmless,
    table_of,
    version_of,
)

from index.web.previews import Previewer


@pytest.fixture(scope="module")
def previewer():
    with Previewer(timeout=30) as previewer:
        yield previewer


def pids(previewer):
    return {worker.pid for worker in previewer._all}


def signalled(previewer, number):
    def send():
        for pid in pids(previewer):
            os.kill(pid, number)

    return send


def test_a_worker_is_used_again():
    seen = []
    with Previewer(workers=1) as previewer:
        for number in range(3):
            data = f"text {number}".encode()
            previewer.preview(version_of("a.txt", data), lambda d=data: io.BytesIO(d))
            seen.append(pids(previewer))
        assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize(
    ("number", "note"),
    [(signal.SIGKILL, "fails"), (signal.SIGSEGV, "fails"), (signal.SIGSTOP, "longer than 2 sec")],
)
def test_a_worker_that_dies_or_hangs_costs_its_own_preview_only(number, note):
    with Previewer(workers=1, timeout=2, retry=0) as previewer:
        warm = previewer.preview(version_of("a.txt", b"warm"), lambda: io.BytesIO(b"warm"))
        assert warm.kind == "text"
        stream = Stream(b"<b>beginning\n", signalled(previewer, number))
        shown = previewer.preview(version_of("b.txt", b"beginning"), lambda: stream)
        assert shown.kind == "refused"
        assert note in shown.note
        assert "<b>beginning" in assert_harmless(shown)
        later = previewer.preview(version_of("c.txt", b"later"), lambda: io.BytesIO(b"later"))
        assert later.kind == "text"
        again = previewer.preview(version_of("b.txt", b"beginning"), lambda: io.BytesIO(b"again"))
        assert again.kind == "text"


def test_a_file_that_a_parser_was_stopped_at_is_not_tried_again_at_once():
    with Previewer(workers=1) as previewer:
        stream = Stream(b"stops", signalled(previewer, signal.SIGKILL))
        first = previewer.preview(version_of("b.txt", b"stops"), lambda: stream)
        assert first.kind == "refused"
        assert previewer.preview(version_of("c.txt", b"stops"), pytest.fail) is first


def test_bytes_are_shown_if_a_parser_fails_on_what_is_no_text():
    with Previewer(workers=1) as previewer:
        stream = Stream(b"\0\1binary", signalled(previewer, signal.SIGKILL))
        shown = previewer.preview(version_of("a.bin", b"\0\1binary"), lambda: stream)
        assert (shown.kind, shown.content["lines"][0]["ascii"]) == ("refused", "..binary")
        assert_harmless(shown)


def test_a_worker_that_died_while_idle_is_replaced():
    with Previewer(workers=1) as previewer:
        previewer.preview(version_of("a.txt", b"one"), lambda: io.BytesIO(b"one"))
        (worker,) = previewer._all
        os.kill(worker.pid, signal.SIGKILL)
        worker._process.wait()
        shown = previewer.preview(version_of("a.txt", b"two"), lambda: io.BytesIO(b"two"))
        assert shown.kind == "text"


def test_a_parser_that_needs_too_much_memory_costs_its_own_preview_only():
    data = b"[" + b'{"a":0},' * 500_000 + b"0]"
    with Previewer(workers=1, memory=120 << 20) as previewer:
        shown = previewer.preview(version_of("a.json", data), lambda: io.BytesIO(data))
        assert shown.kind == "refused"
        assert "more memory than it may" in shown.note
        later = previewer.preview(version_of("a.txt", b"later"), lambda: io.BytesIO(b"later"))
        assert later.kind == "text"


def test_slow_code_is_refused_in_time_and_shown_without_highlighting():
    slow = corpus.files()["slow.rb"]
    with Previewer(workers=1, timeout=1) as previewer:
        shown = previewer.preview(version_of("a.rb", slow), lambda: io.BytesIO(slow))
        assert shown.kind == "refused"
        assert shown.content["text"]
        assert shown.truncated


def test_more_previews_than_may_wait_are_refused():
    release, entered = threading.Event(), threading.Semaphore(0)

    class Slow(io.BytesIO):
        def read(self, size=-1):
            entered.release()
            release.wait(60)
            return super().read(size)

    with Previewer(workers=1, timeout=60) as previewer, ThreadPoolExecutor(7) as pool:
        waiting = [
            pool.submit(previewer.preview, version_of("a.txt", b"%d" % n), lambda: Slow(b"text"))
            for n in range(7)
        ]
        entered.acquire()
        while previewer._waiting < 6:
            time.sleep(0.01)
        shown = previewer.preview(version_of("a.txt", b"more"), lambda: io.BytesIO(b"more"))
        release.set()
        assert (shown.kind, "busy" in shown.note) == ("refused", True)
        assert {each.result().kind for each in waiting} == {"text"}
        assert len(pids(previewer)) == 1


def test_an_error_of_storage_goes_to_the_caller_and_the_next_preview_works(previewer):
    class Damaged(io.BytesIO):
        def read(self, size=-1):
            raise sqlite3.OperationalError("damaged")

    with pytest.raises(sqlite3.OperationalError):
        previewer.preview(version_of("a.txt", b"damaged"), Damaged)
    assert previewer.preview(version_of("a.txt", b"x"), lambda: io.BytesIO(b"x")).kind == "text"


def test_workers_inherit_no_secrets_and_load_no_database(monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    with Previewer(workers=1) as previewer:
        data = table_of({"a": [1]})
        previewer.preview(version_of("a.parquet", data), lambda: io.BytesIO(data))
        (pid,) = pids(previewer)
        assert b"SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert "sqlalchemy" not in Path(f"/proc/{pid}/maps").read_text()
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert f"Max address space         {1 << 30}" in limits
        assert "Max file size             0 " in limits
        assert len(os.listdir(f"/proc/{pid}/fd")) == 5


def test_workers_end_when_their_previewer_is_closed_or_its_process_dies():
    with Previewer() as previewer:
        previewer.preview(version_of("a.txt", b"x"), lambda: io.BytesIO(b"x"))
        (pid,) = pids(previewer)
    assert not Path(f"/proc/{pid}").exists()
    assert previewer.preview(version_of("a.txt", b"y"), lambda: io.BytesIO(b"y")).kind == "refused"

    program = (
        "import io, os, sys, time\n"
        "from index.web.previews.process import WorkerProcess\n"
        "worker = WorkerProcess(timeout=10, memory=1 << 30)\n"
        "worker.ask({'name': '.txt', 'size': 1}, lambda *_: b'x', timeout=10)\n"
        "print(worker.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    pid = int(done.stdout)
    deadline = time.monotonic() + 30
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_version_of_a_run_has_a_preview(run, previewer):
    run.put("plots/table.csv", b"a,b\n1,2\n")
    version = run.file("plots/table.csv")
    shown = previewer.preview(version, lambda: run.open("plots/table.csv"))
    assert shown.to_dict()["rows"] == [["1", "2"]]


def test_without_their_libraries_files_are_bytes_with_a_note(tmp_path):
    for name in ("pyarrow", "h5py"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    program = (
        "import io, sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from index.web.previews.process import WorkerProcess\n"
        "worker = WorkerProcess(timeout=10, memory=1 << 30)\n"
        "for data in (b'PAR1' + bytes(64), b'\\x89HDF\\r\\n\\x1a\\n' + bytes(64)):\n"
        "    job = {'name': '', 'size': len(data)}\n"
        "    answer = worker.ask(job, lambda at, n: data[at:at + n], timeout=10)\n"
        "    print(answer['kind'], answer['note'])\n"
        "worker.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "hex To show Parquet here, install pyarrow.",
        "hex To show HDF5 here, install h5py.",
    ], done.stderr
