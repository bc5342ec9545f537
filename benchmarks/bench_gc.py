"""What garbage collection costs, and how long writers wait for it.

    python benchmarks/bench_gc.py
    python benchmarks/bench_gc.py --only sweep --rows 10000 --results /tmp/trial

Three questions: a sweep of many rows, rewriting packs against copying the same bytes, and the
longest wait of a writer while a sweep goes on.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import threading
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from measure import MIB, Answer, flush
from pages import command_line, publication
from sqlalchemy import func, select

from index import ArtifactStore
from index.db import tables
from index.db.bulk import insert_rows

if TYPE_CHECKING:
    from pathlib import Path

    from index.maintenance.gc.report import GcReport

PACKAGES: Final = ("runcas", "SQLAlchemy", "blake3", "zstandard")
_PER_PACK: Final = 10_000


def collect(store: ArtifactStore) -> GcReport:
    """Collect without grace."""
    return store.plan_gc(grace=timedelta(0)).execute()


def fill(store: ArtifactStore, rows: int) -> None:
    """Record blobs that nothing refers to, in packs whose objects are not there."""
    count = -(-rows // _PER_PACK)
    with store.context.database.writing() as connection:
        shared = {"created_at": store.context.clock()}
        columns = ("id", "name", "size", "state")
        first = 1 + (connection.scalar(select(func.max(tables.packs.c.id))) or 0)
        packs = [(first + number, os.urandom(32), 5 << 20, "live") for number in range(count)]
        insert_rows(connection, tables.packs, columns, packs, shared=shared)
        columns = ("digest", "size", "pack_id", "pack_offset", "stored_size", "codec")
        shared |= {"frame_start": 0, "frame_size": 0}
        for pack in range(count):
            some = [(os.urandom(32), 500, first + pack, 500 * n, 500, 0) for n in range(_PER_PACK)]
            insert_rows(connection, tables.blobs, columns, some, shared=shared)


def sweep(folder: Path, rows: int) -> Answer:
    """Time planning and executing for blobs that all go."""
    answer = Answer("sweep", f"{rows:,} blobs, all garbage, on SQLite", 1)
    with ArtifactStore.open(folder) as store:
        fill(store, rows)
        before = peak()
        with answer.timed("plan"):
            plan = store.plan_gc(grace=timedelta(0))
        with answer.timed("execute"):
            report = plan.execute()
        answer.note("memory on top", peak() - before, "MiB")
        answer.remarks.append(f"Swept: {report.swept.blobs:,} blobs.")
    return answer


def peak() -> float:
    """Return the most memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compaction(folder: Path, size: int, rounds: int) -> Answer:
    """Time rewriting packs of which a half is needed, against cp and sync of what is needed."""
    answer = Answer(
        "compaction",
        f"{size // MIB} MiB of random bytes in files of 256 KiB, a third of which is needed",
        rounds,
    )
    for number in range(rounds):
        place = folder / str(number)
        files, needed = place / "files", place / "needed"
        files.mkdir(parents=True)
        needed.mkdir()
        for each in range(size // (256 << 10)):
            data = os.urandom(256 << 10)
            (files / str(each)).write_bytes(data)
            if each % 3 == 0:
                (needed / str(each)).write_bytes(data)
        with ArtifactStore.open(place / "store") as store:
            session = store.session("s")
            session.run("all").track(files)
            session.run("needed").track(needed)
            session.run("all").delete()
            flush(place)
            with answer.timed("cas gc"):
                report = collect(store)
        flush(place)
        with answer.timed("cp and sync of the needed"):
            shutil.copytree(needed, place / "copy", copy_function=shutil.copyfile)
            flush(place)
        joined = place / "joined"
        with joined.open("wb") as target:
            for path in needed.iterdir():
                target.write(path.read_bytes())
        flush(place)
        with answer.timed("cp and sync of the same in one file"):
            subprocess.run(["cp", joined, place / "joined-copy"], check=True)
            flush(place)
        answer.note("bytes rewritten", report.bytes_written, "bytes")
        shutil.rmtree(place)
    answer.compare("rewriting", "cas gc", "cp and sync of the needed")
    answer.compare("rewriting", "cas gc", "cp and sync of the same in one file")
    return answer


def waiting(folder: Path, rows: int) -> Answer:
    """Time commits of a writer alone, and while another connection sweeps."""
    answer = Answer(
        "waiting",
        f"one small file put again and again on SQLite while {rows:,} blobs are swept",
        1,
    )
    with ArtifactStore.open(folder) as store, ArtifactStore.open(folder) as collector:
        run = store.session("s").run("r")
        for _ in range(100):
            with answer.timed("put, alone"):
                run.put("f", os.urandom(100))
        fill(collector, rows)
        collecting = threading.Thread(target=collect, args=(collector,))
        collecting.start()
        while collecting.is_alive():
            started = time.perf_counter()
            run.put("f", os.urandom(100))
            answer.note("put, during a sweep", time.perf_counter() - started)
        collecting.join()
    return answer


def main() -> None:
    """Ask the questions."""
    parser = command_line(__doc__, ("sweep", "compaction", "waiting"))
    parser.set_defaults(rounds=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=512 * MIB)
    options = parser.parse_args()
    with publication("gc", "Garbage collection", options, PACKAGES) as page:
        work = page.work
        page.ask(
            {
                "sweep": partial(sweep, work / "sweep", options.rows),
                "compaction": partial(
                    compaction, work / "compaction", options.bytes, options.rounds
                ),
                "waiting": partial(waiting, work / "waiting", options.rows // 5),
            }
        )


if __name__ == "__main__":
    main()
