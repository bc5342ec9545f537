"""What work costs by the number of files: time and memory, of scans and of listings.

    python benchmarks/bench_scale.py
    python benchmarks/bench_scale.py --only 1000-files --rounds 1 --results /tmp/trial

Each piece of work is a process of its own, which tells its time and its peak memory. The memory
above that of one that imports the package is compared with the goals.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from contenders import cas_command, copy_and_sync, fresh, measured
from datasets import small_files
from listing import directory_of, indexed_runs, name_of, note_versions
from measure import MIB, SHORT_SAMPLES, Answer, flush, of
from pages import command_line, pivot, publication
from peers import Peers, described

from index import ArtifactStore
from index.filesystem import CasFileSystem

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

PACKAGES: Final = ("runcas", "blake3", "zstandard", "SQLAlchemy")
COUNTS: Final = (100, 1_000, 10_000, 100_000, 300_000, 1_000_000)
MANY: Final = 100_000
"""From so many files on, one round is enough."""

GOALS_MIB: Final = {300_000: 200.0, 1_000_000: 400.0}
TRACK, AGAIN, RESTORE = "first track", "unchanged again", "restore"
MEMORY: Final = "memory of a first track"
STATEMENTS: Final = {
    "first of iter_files()": "list_first",
    "all of iter_files()": "stream_all",
    "files()": "list_all",
    "snapshots()": "snapshots",
    "stats()": "stats",
}
SEARCHES: Final = (
    "meta.rmse < 0.01",
    "tag = 'best'",
    "agent = 'nobody'",
    "name ~ '5000'",
    "name ~ '*5000.csv'",
    "name = 'result_05000.csv'",
    "path ~ '**/output/result_0500?.csv'",
    "size > 1 GB",
    "created >= 1d",
)
DIRECTORY: Final = "ls of 1,000 entries by URL"


@dataclass(slots=True)
class Bench:
    """What every question is asked with."""

    work: Path
    options: argparse.Namespace
    peers: Peers


def ask_files(count: int, bench: Bench) -> Answer:
    """Track, scan again and restore so many files of 100 to 1,000 bytes."""
    source = bench.work / f"files-{count}"
    small_files(source, count, least=100, most=1_000)
    rounds = 1 if count >= MANY else bench.options.rounds
    answer = Answer(f"{count}-files", f"{count:,} files of 100 to 1,000 bytes", rounds)
    idle = measured("idle")["peak"]
    for _ in range(rounds):
        with fresh(bench.work, "copy") as place, answer.timed(of(TRACK, "cp")):
            copy_and_sync(source, place / "copy")
        with fresh(bench.work, "store") as place:
            store = str(place / "store")
            for what, *arguments in (
                (TRACK, "track", str(source)),
                (AGAIN, "track", str(source)),
                (RESTORE, "restore", str(place / "restored")),
            ):
                flush(place)
                found = measured(arguments[0], store, *arguments[1:])
                answer.note(of(what, "runcas"), found["seconds"])
                if what == TRACK:
                    answer.note(MEMORY, (found["peak"] - idle) / MIB, "MiB")
        for peer in bench.peers.keeping_versions:
            with fresh(bench.work, "peer") as place:
                peer.create(place, source)
                for what in (TRACK, AGAIN):
                    flush(place)
                    with answer.timed(of(what, peer.name)):
                        peer.add_durably(place, source)
    answer.compare(TRACK, of(TRACK, "runcas"), of(TRACK, "cp"))
    if count in GOALS_MIB:
        answer.limit("peak memory, above import", MEMORY, GOALS_MIB[count], "MiB")
    return answer


def ask_versions(bench: Bench) -> Answer:
    """Ask for what a run of a million versions holds, each in a new process."""
    count = bench.options.versions
    snapshots = min(1_000, count // 10)
    subject = f"A run of {count:,} versions, found by {snapshots:,} scans, on SQLite"
    answer = Answer("versions", subject, min(3, bench.options.rounds))
    root = bench.work / "versions"
    indexed_runs(root, runs=1, files=count, snapshots=snapshots)
    idle = measured("idle")["peak"]
    for _ in range(answer.rounds):
        for name, work in STATEMENTS.items():
            found = measured(work, str(root))
            answer.note(of("time", name), found["seconds"])
            answer.note(of("memory", name), (found["peak"] - idle) / MIB, "MiB")
        first, last = _listed(root)
        answer.note(of("time", "first line of cas ls"), first)
        answer.note(of("time", "cas ls"), last)
    fs = CasFileSystem(store=root)
    directory = f"s/{name_of(0)}/{directory_of(count // 2)}"
    fs.ls(directory)
    for _ in range(answer.rounds * SHORT_SAMPLES):
        with answer.timed(of("time", DIRECTORY)):
            fs.ls(directory)
    fs.store.close()
    answer.limit("a directory by URL", of("time", DIRECTORY), 0.02, "s")
    answer.limit("first rows", of("time", "first of iter_files()"), 0.1, "s")
    answer.limit("memory of all rows", of("memory", "all of iter_files()"), 100.0, "MiB")
    for name in ("snapshots()", "stats()"):
        answer.limit(name, of("time", name), 0.3, "s")
    answer.remarks.append(pivot(answer))
    answer.remarks.append("A time begins with the store open; that of `cas` with its process.")
    return answer


def _listed(root: Path) -> tuple[float, float]:
    """Return the seconds until the first line of ``cas ls`` and until its end."""
    started = time.perf_counter()
    command = cas_command(root, "ls", "-R", "--session", "s", "--run", name_of(0))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        process.stdout.readline()
        first = time.perf_counter() - started
        while process.stdout.read(MIB):
            pass
    if process.returncode:
        raise SystemExit("cas ls failed; its error is above")
    return first, time.perf_counter() - started


def ask_listing(bench: Bench) -> Answer:
    """`files()` of one run in a large index against the same in a small one."""
    files, runs = bench.options.listing_files, bench.options.listing_runs
    answer = Answer(
        "listing",
        f"run.files() of a run of {files:,} files in an index of {runs:,} such runs, written to in "
        "turns, and in an index of one",
        bench.options.rounds,
    )
    large, small = f"in {files * runs:,} rows", f"in {files:,} rows"
    with fresh(bench.work, "indexes") as place:
        roots = {small: (place / "small", 1), large: (place / "large", runs)}
        for root, count in roots.values():
            indexed_runs(root, runs=count, files=files)
        flush(place)
        for _ in range(answer.rounds):
            for name, (root, count) in roots.items():
                with ArtifactStore.open(root, create=False) as store:
                    run = store.session("s").run(name_of(count // 2))
                    run.stats()
                    for _ in range(SHORT_SAMPLES):
                        with answer.timed(name):
                            found = run.files()
                        if len(found) != files:
                            raise AssertionError(f"listed {len(found)} of {files} files")
    answer.compare("listing a run", large, small, 1.3)
    return answer


def ask_search(bench: Bench) -> Answer:
    """Search a large index by expressions."""
    files, runs = bench.options.listing_files, bench.options.listing_runs
    subject = f"search() in an index of {files * runs:,} rows of {runs} runs, by expression"
    answer = Answer("search", subject, bench.options.rounds)
    root = bench.work / "searched"
    indexed_runs(root, runs=runs, files=files)
    note_versions(root)
    flush(root)
    with ArtifactStore.open(root, create=False) as store:
        session = store.session("s")
        for _ in range(answer.rounds):
            for expression in SEARCHES:
                with answer.timed(expression):
                    for _version in session.search(expression):
                        pass
    answer.limit("by notes, which a version of a hundred has", SEARCHES[0], 0.2, "s")
    answer.limit("by a tag in a run of ten", SEARCHES[1], 0.2, "s")
    answer.limit("by an agent that nobody is", SEARCHES[2], 0.01, "s")
    return answer


def main() -> None:
    """Ask the questions."""
    questions = {f"{count}-files": partial(ask_files, count) for count in COUNTS}
    questions |= {"versions": ask_versions, "listing": ask_listing, "search": ask_search}
    parser = command_line(__doc__, list(questions))
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="of the numbers of files")
    parser.add_argument("--versions", type=int, default=1_000_000, help="of the one run")
    parser.add_argument("--listing-files", type=int, default=10_000)
    parser.add_argument("--listing-runs", type=int, default=100)
    parser.add_argument("--peers", nargs="+", default=["restic", "borg"])
    options = parser.parse_args()
    with publication("scale", "By the number of files", options, PACKAGES) as page:
        peers = Peers(page.work, options.peers)
        page.about.update(described(peers.versions))
        bench = Bench(page.work, options, peers)
        usual = [name for name in questions if name not in _above(options.most)]
        page.ask({name: partial(ask, bench) for name, ask in questions.items()}, usual=usual)


def _above(most: int) -> set[str]:
    return {f"{count}-files" for count in COUNTS if count > most}


if __name__ == "__main__":
    main()
