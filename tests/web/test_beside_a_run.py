"""Fifty readers beside a run that tracks, and readers that stop or go away in the middle."""

from __future__ import annotations

import http.client
import io
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

import pytest
from blake3 import blake3
from cas_server import cas_server
from places import EACH_INDEX, on_one, places
from served import served

import index.web.streaming
from index import ArtifactStore
from index.web import Grant, application
from index.web.asgi import ARCHIVES
from index.web.downloads import PIECE

pytestmark = pytest.mark.slow

place = places(EACH_INDEX)

MIB = 1 << 20

READERS = 50

TRACKS = 10
"""Scans whose times are compared, with readers and without."""

MOST_TIMES = 12
"""How much longer a scan may take. The readers, the server and the run share the processors; a scan
that waits for a lock takes seconds."""

STREAM = 2 * 8 * MIB + 4 * PIECE
"""Bytes that the server holds for a download at the most. A stream of the library keeps 8 MiB of
chunks, which may be views of two reads of as much. Pieces are on their way into the socket."""

PATIENCE_S = 60

RUN = "/sessions/session-1/runs/run-1"

WRITER = """
import json, sys, time
from pathlib import Path
from index import ArtifactStore
place, work = json.loads(sys.argv[1]), Path(sys.argv[2])
step = 0
with ArtifactStore.open(**place) as store:
    run = store.session("session-1").run("run-1")
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            folder = work / f"step-{step}"
            folder.mkdir()
            for name in ("a.txt", "b.txt"):
                (folder / name).write_text(f"{step} {name}\\n" * 500)
            (work / "state.json").write_text(json.dumps({"step": step}))
            begun = time.perf_counter()
            run.track(work, phase="control", agent="engineer", node_id=f"node-{step}")
            times.append(time.perf_counter() - begun)
            step += 1
        print(json.dumps(times), flush=True)
"""
"""A run in a process of its own. Each step writes two files that belong together."""


class Reader:
    """A connection that is kept, and what was read through it."""

    def __init__(self, address, token=None):
        self.line = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE_S)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.answer = None

    def open(self, path):
        self.line.request("GET", path, headers=self.headers)
        self.answer = self.line.getresponse()
        return self.answer

    def get(self, path):
        answer = self.open(path)
        body = answer.read()
        assert answer.status == 200, (path, answer.status, body[:500])
        return answer, body

    def api(self, path):
        return json.loads(self.get(f"/api/v1{path}")[1])

    def begins(self, path):
        """Whether an answer begins; it may be refused for now."""
        if self.open(path).status == 200:
            return True
        self.answer.read()
        return False

    def close(self):
        if self.answer is not None:
            self.answer.close()
        self.line.close()


def wait_until(is_so):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := is_so()):
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.02)
    return found


@contextmanager
def writer_of(place, work):
    """Yield a function that has the writer track so often, and returns the seconds of each."""
    named = {name: str(value) for name, value in place.items()}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, json.dumps(named), str(work)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def track(times):
            process.stdin.write(f"{times}\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        try:
            yield track
        finally:
            process.stdin.close()


def check_pages(reader, seen):
    for place in (RUN, f"{RUN}/timeline", f"{RUN}/file?path=state.json", "/"):
        answer, body = reader.get(place)
        assert answer.headers["content-type"].startswith("text/html")
        assert body.endswith(b"</html>\n") or body.rstrip().endswith(b"</html>")
        assert b"run-1" in body
    seen["pages"] += 1


def check_api(reader, seen):
    newest = reader.api(RUN)["snapshots"]
    assert newest >= seen["newest"]
    seen["newest"] = newest
    files = {each["path"] for each in reader.api(f"{RUN}/files?limit=1000")["items"]}
    assert pairs_are_whole(files)
    at = reader.api(f"{RUN}/files?limit=1000&at={newest}")["items"]
    state = next(each for each in at if each["path"] == "state.json")
    assert state["first_snapshot"] == newest
    folders = [each for each in reader.api(f"{RUN}/entries")["items"] if each["version"] is None]
    assert {each["files"] for each in folders} == {2}
    listed = reader.api(f"{RUN}/snapshots")["items"]
    numbers = [each["snapshot"] for each in listed]
    assert numbers == [*range(numbers[0], numbers[0] - len(numbers), -1)]
    assert numbers[0] >= newest
    seen["answers"] += 1


def check_downloads(reader, seen):
    version = reader.api(f"{RUN}/file?path=state.json")
    answer, body = reader.get(f"/api/v1/sessions/session-1/files/{version['id']}/content")
    assert answer.headers["etag"] == f'"{blake3(body).hexdigest()}"' == f'"{version["digest"]}"'
    assert json.loads(body)["step"] + 1 == version["first_snapshot"]
    seen["downloads"] += 1


def check_archives(reader, seen):
    _, body = reader.get(f"/api/v1{RUN}/archive?format=zip")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert pairs_are_whole(set(archive.namelist()))
    seen["archives"] += 1


def follow(address, token, seen):
    """Read events until the server ends; snapshots only grow."""
    with closing(Reader(address, token)) as reader, suppress(OSError, http.client.HTTPException):
        newest = 0
        for line in reader.open(f"/api/v1{RUN}/events"):
            seen["connected"] |= line == b": connected\n"
            if line.startswith(b"data: "):
                number = json.loads(line[6:])["snapshot"]
                assert number >= newest
                newest = number
                seen["events"] += 1


def pairs_are_whole(paths):
    folders = {path.partition("/")[0] for path in paths if "/" in path}
    return all({f"{each}/a.txt", f"{each}/b.txt"} <= paths for each in folders)


def ask_until(stop, check, address, token):
    seen = dict.fromkeys(("newest", "pages", "answers", "downloads", "archives"), 0)
    with closing(Reader(address, token)) as reader:
        while not stop.is_set():
            check(reader, seen)
    return seen


def test_fifty_readers_see_whole_states_and_no_scan_waits_for_them(place, work):
    ArtifactStore.open(**place).close()
    # An archive still counts for a moment after its last byte was read.
    checks = [check_archives] * (ARCHIVES // 2) + [check_pages, check_api, check_downloads] * 14
    events = [{"connected": False, "events": 0} for _ in range(READERS - len(checks))]
    stop = threading.Event()
    with writer_of(place, work) as track, ThreadPoolExecutor(READERS) as threads:
        track(3)  # the first ones also load what they need
        with cas_server(place) as server:
            alone = track(TRACKS)
            (token,) = server.tokens
            try:
                following = [threads.submit(follow, server.address, token, each) for each in events]
                asking = [
                    threads.submit(ask_until, stop, check, server.address, token)
                    for check in checks
                ]
                wait_until(lambda: all(each["connected"] for each in events))
                beside = track(TRACKS)
                wait_until(lambda: all(each["events"] for each in events))
            finally:
                stop.set()
            found = [each.result() for each in asking]
        for each in following:  # they end with the server
            each.result()
    for kind in ("pages", "answers", "downloads", "archives"):
        assert sum(seen[kind] for seen in found) > 0, kind
    assert statistics.median(beside) <= MOST_TIMES * statistics.median(alone)


@pytest.fixture
def join():
    """Makes readers, which go away at the end."""
    with ExitStack() as stack:

        def make(*where):
            reader = Reader(*where)
            stack.callback(reader.close)
            return reader

        yield make


@pytest.fixture
def large(place, tmp_path):
    """A file of 64 MiB, recorded; its bytes and its URL in the API."""
    data = os.urandom(64 * MIB)
    with ArtifactStore.open(**place) as store:
        run = store.session("session-1").run("run-1")
        version = run.put("large.bin", data)
        run.put_many([(f"small/{n}.bin", os.urandom(64 << 10)) for n in range(200)])
    return data, f"/api/v1/sessions/session-1/files/{version.id}/content"


@on_one(because="the server holds the same for streams from each index")
def test_fifty_downloads_that_stop_in_the_middle_cost_a_few_pieces_each(place, large, join):
    data, url = large
    begin = 24 * MIB
    with cas_server(place) as server, ThreadPoolExecutor(READERS) as threads:
        where = (server.address, *server.tokens)
        first = join(*where)
        assert first.get(url)[1] == data
        first.get(RUN)
        before = server.memory()
        readers = [join(*where) for _ in range(READERS)]

        def read_some(reader):
            assert reader.open(url).status == 200
            return reader.answer.read(begin) == data[:begin]

        assert all(threads.map(read_some, readers))  # and then none of them reads on
        peak = server.memory()
        assert peak - before <= READERS * STREAM
        other = join(*where)
        assert other.get(url)[1] == data  # none of them holds a thread
        other.get(RUN)
        # Nor does it read ahead of them: that takes 8 MiB and more for each.
        assert server.memory() - peak <= 8 * STREAM < READERS * 8 * MIB
        for reader in readers:
            reader.close()
        wait_until(lambda: not [each for each in server.open_files() if "/packs/" in each])


class TestReadersThatGoAway:
    """The application is in this process, where its threads and files can be seen."""

    ARCHIVE = f"/api/v1{RUN}/archive?format=tar"

    @pytest.fixture
    def address(self, place, large):
        with ArtifactStore.open(**place) as store:
            app = application(store, authorize=lambda _request: Grant())
            with served(app) as address:
                yield address
                app.state.close()

    @on_one(because="files are those of local blobs")
    def test_the_places_of_archives_and_their_files_are_free_again(self, place, address, join):
        join(address).get(RUN)
        files = len(os.listdir("/proc/self/fd"))
        for _ in range(2):
            readers = [join(address) for _ in range(ARCHIVES)]
            for reader in readers:
                wait_until(partial(reader.begins, self.ARCHIVE))
                assert len(reader.answer.read(MIB)) == MIB
            refused = join(address)
            answer = refused.open(self.ARCHIVE)
            assert answer.status == 503
            assert answer.headers["retry-after"] == "10"
            for reader in (refused, *readers):
                reader.close()
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= files)

    @on_one(because="streams are sent alike from each store")
    def test_a_reader_that_takes_nothing_loses_its_place(self, place, address, join, monkeypatch):
        monkeypatch.setattr(index.web.streaming, "STALLED_S", 0.3)
        readers = [join(address) for _ in range(ARCHIVES)]
        assert all(reader.begins(self.ARCHIVE) for reader in readers)
        wait_until(partial(join(address).begins, self.ARCHIVE))
        with pytest.raises(http.client.IncompleteRead):
            readers[0].answer.read()

    @on_one(because="the thread is the same for each index")
    def test_nobody_follows_the_store_after_the_last_reader_of_events(self, place, address, join):
        def following():
            return [each.name for each in threading.enumerate()].count("cas-feed")

        readers = [join(address) for _ in range(3)]
        for reader in readers:
            assert reader.open(f"/api/v1{RUN}/events").readline() == b"retry: 2000\n"
        assert following() == 1
        for reader in readers:
            reader.close()
        wait_until(lambda: not following())
