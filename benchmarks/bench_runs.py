"""Runs beside each other, runs copied to another store, and how fast the command answers.

python benchmarks/bench_runs.py
python benchmarks/bench_runs.py --only together --files 500 --rounds 2 --results /tmp/trial
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from contenders import cas, cas_command, copy, fresh, measured_command
from datasets import small_files
from floor import copy_rows, decode_and_hash, look_at
from measure import SHORT_SAMPLES, Answer, flush
from pages import command_line, publication
from sources import Sources

from index import ArtifactStore

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

PACKAGES: Final = ("runcas", "blake3", "zstandard", "SQLAlchemy", "click", "rich")
FEW: Final = 50
"""Files of the run that a large one is compared with."""


@dataclass(slots=True)
class Bench:
    """What every question is asked with."""

    work: Path
    options: argparse.Namespace
    sources: Sources


def ask_put(bench: Bench) -> Answer:
    """`put` into a run that another process puts files into, by the size of the run."""
    many = bench.options.files
    subject = f"`put` of 64 bytes while another process puts into the same run of {many:,} files, "
    answer = Answer("put", f"{subject}and of {FEW}", bench.options.rounds)
    names = {count: f"put into {count:,} files" for count in (FEW, many)}
    with fresh(bench.work, "stores") as place:
        for count in names:
            source = place / f"files-{count}"
            small_files(source, count, least=100, most=1_000)
            with ArtifactStore.open(place / f"store-{count}") as store:
                store.session("s").run("r").track(source)
        for number in range(answer.rounds):
            for count, name in names.items():
                for seconds in _put_beside(place / f"store-{count}", number, bench.options.puts):
                    answer.note(name, seconds)
    answer.compare("put beside a writer", names[many], names[FEW], 1.3)
    return answer


def _put_beside(store: Path, number: int, count: int) -> list[float]:
    """Return the seconds of each put of one of two processes that put at once."""
    commands = [
        measured_command("put", str(store), f"{who}-{number}", str(count)) for who in ("a", "b")
    ]
    processes = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in commands]
    found = [json.loads(process.communicate()[0])["samples"] for process in processes]
    return found[0]


def ask_together(bench: Bench) -> Answer:
    """Eight runs at once, by threads and by processes, against one after the other."""
    files, runs = bench.options.files // 10, bench.options.runs
    answer = Answer(
        "together",
        f"{runs} runs, each a first track of {files:,} files of 1 to 16 KiB of its own",
        bench.options.rounds,
    )
    sources = []
    for number in range(runs):
        source = bench.work / f"run-{number}"
        small_files(source, files, seed=100 + number)
        sources.append(source)
    for _ in range(answer.rounds):
        for workers, name in ((1, "one after the other"), (runs, "threads")):
            with _empty_store(bench) as root, ArtifactStore.open(root) as store:
                session = store.session("s")
                with answer.timed(name), ThreadPoolExecutor(workers) as pool:
                    list(pool.map(lambda at: session.run(at.name).track(at), sources))  # noqa: B023
        for at_once, name in (
            (1, "processes, one after the other"),
            (runs, "processes"),
        ):
            with _empty_store(bench) as root:
                track = partial(_track_by_process, root)
                with answer.timed(name), ThreadPoolExecutor(at_once) as pool:
                    list(pool.map(track, sources))
    answer.compare("all at once", "threads", "one after the other", 0.7)
    answer.compare("all at once", "processes", "processes, one after the other", 0.6)
    answer.remarks.append(f"The machine has {os.cpu_count()} cores.")
    return answer


def _track_by_process(root: Path, source: Path) -> None:
    cas(root, "track", "--run", source.name, str(source))


@contextmanager
def _empty_store(bench: Bench) -> Iterator[Path]:
    with fresh(bench.work, "store") as place:
        cas(place / "store", "init")
        flush(place)
        yield place / "store"


def ask_sync(bench: Bench) -> Answer:
    """A sync into an empty store of the same machine, against a copy of the store.

    The floor is a copy of its packs, beside which a bare loop verifies every blob, and then its
    rows, which SQLite alone inserts: a sync can take no less.
    """
    copied = "cp -r of the store + sync -f"
    floor = "cp of the packs, a bare loop that decodes and hashes, rows by SQLite alone"
    root = bench.work / "synced"
    subjects = []
    with ArtifactStore.open(root) as store:
        for name in ("small", "tree"):
            source, subject = bench.sources.find(name)
            subjects.append(subject)
            store.session("s").run(name).track(source)
    answer = Answer("sync", "; ".join(subjects), bench.options.rounds)
    packs = look_at(sorted(root.glob("packs/*/*.pack")))
    for _ in range(answer.rounds):
        with fresh(bench.work, "copy") as place, answer.timed(copied):
            copy(root, place / "copy")
            flush(place)
        with fresh(bench.work, "floor") as place:
            ArtifactStore.open(place / "store").close()
            with answer.timed(floor):
                with ThreadPoolExecutor(1) as beside:
                    copying = beside.submit(copy, root / "packs", place / "packs")
                    decode_and_hash(packs)
                    copying.result()
                copy_rows(root / "index.db", place / "store" / "index.db")
                flush(place)
        with (
            fresh(bench.work, "store") as place,
            ArtifactStore.open(root) as store,
            ArtifactStore.open(place / "store") as other,
        ):
            with answer.timed("store.sync_to"):
                store.sync_to(other)
            with answer.timed("store.sync_to, nothing new"):
                store.sync_to(other)
    answer.compare("sync", "store.sync_to", copied, 3.0)
    answer.compare("sync", "store.sync_to", floor)
    return answer


def ask_start(bench: Bench) -> Answer:
    """The command's start, against that of the interpreter alone, and a listing in a pipe."""
    many = bench.options.files // 2
    subject = f"A store with a run of one file and one of {many:,}; a process each"
    answer = Answer("start", subject, bench.options.rounds)
    large = f"cas ls of {many:,} files"
    with fresh(bench.work, "store") as place:
        store = place / "store"
        (place / "file").write_bytes(b"1")
        small_files(place / "files", many, least=100, most=1_000)
        cas(store, "put", "--run", "r", str(place / "file"))
        cas(store, "track", "--run", "many", str(place / "files"))
        ways = {
            "cas --help": cas_command(store, "--help"),
            "cas ls": cas_command(store, "ls", "-R", "--run", "r"),
            large: cas_command(store, "ls", "-R", "--run", "many"),
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import sqlalchemy'": [sys.executable, "-c", "import sqlalchemy"],
        }
        for _ in range(SHORT_SAMPLES):
            answer.take_turns({name: partial(_silent, command) for name, command in ways.items()})
    answer.limit("start", "cas --help", 0.08, "s")
    answer.limit("start", "cas ls", 0.16, "s")
    answer.limit("a listing in a pipe", large, 0.35, "s")
    return answer


def ask_status(bench: Bench) -> Answer:
    """`cas status` of a directory that is as it was recorded, against `cas track` of it."""
    source, subject = bench.sources.find("small")
    answer = Answer("status", f"{subject}; unchanged, a process each", bench.options.rounds)
    with fresh(bench.work, "store") as place:
        store = place / "store"
        cas(store, "track", "--run", "r", str(source))
        ways = {
            name: partial(_silent, cas_command(store, name, "--run", "r", str(source)))
            for name in ("status", "track")
        }
        for _ in range(SHORT_SAMPLES):
            answer.take_turns(ways)
    answer.compare("unchanged files", "status", "track", 1.15)
    return answer


def _silent(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


QUESTIONS: Final = {
    "put": ask_put,
    "together": ask_together,
    "sync": ask_sync,
    "start": ask_start,
    "status": ask_status,
}


def main() -> None:
    """Ask the questions."""
    parser = command_line(__doc__, list(QUESTIONS))
    parser.add_argument("--files", type=int, default=20_000, help="small files; a tenth a run")
    parser.add_argument("--tree-files", type=int, default=25_000, help="of the tree that is synced")
    parser.add_argument("--runs", type=int, default=8, help="that are tracked at once")
    parser.add_argument("--puts", type=int, default=20, help="files that are put a round")
    options = parser.parse_args()
    with publication("runs", "Runs beside each other", options, PACKAGES) as page:
        sources = Sources(page.work, files=options.files, tree_files=options.tree_files)
        bench = Bench(page.work, options, sources)
        page.ask({name: partial(ask, bench) for name, ask in QUESTIONS.items()})


if __name__ == "__main__":
    main()
