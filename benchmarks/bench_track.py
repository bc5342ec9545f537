"""How long tracking, rescanning and restoring take, and how much they store, beside all peers.

    python benchmarks/bench_track.py
    python benchmarks/bench_track.py --only small --files 2000 --rounds 2 --results /tmp/trial

`levels` is asked only by name (``--only levels``), and has a page of its own.
The contenders of a question run one after the other, round by round. Each works in a fresh
directory, which is removed at the end of all; dirty pages are written back before each timed piece,
and peers that do not sync by themselves are followed by ``sync -f``.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contenders import cas, copy_and_sync, fresh, measured, stat_pass
from datasets import GrowingWork, settle
from measure import GIB, MIB, SHORT_SAMPLES, Answer, flush, of
from pages import command_line, pivot, publication
from peers import Peers, Restic, bytes_below, described
from sources import Sources

from index import ArtifactStore

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from peers import Peer

PACKAGES: Final = ("runcas", "blake3", "zstandard", "SQLAlchemy", "alembic")

FIRST, SECOND, AGAIN = "first track", "second track of the same bytes", "unchanged again"
RESTORE, STORED, STEPS = "restore", "bytes stored", "all steps"
OURS, COMMAND, STAT_PASS = "runcas", "cas", "scandir + stat"

_SPARSE_DATA: Final = 4 << 10


@dataclass(slots=True)
class Bench:
    """What every question is asked with."""

    work: Path
    peers: Peers
    options: argparse.Namespace
    sources: Sources


def ask_directory(name: str, goals: dict[str, tuple[float, float]], bench: Bench) -> Answer:
    """Track, rescan and restore a directory with many files; goals in process, as a command."""
    source, subject = bench.sources.find(name)
    answer = Answer(name, subject, bench.options.rounds)
    for _ in range(answer.rounds):
        with fresh(bench.work, "store") as place:
            _round_in_process(answer, source, place)
        with fresh(bench.work, "store") as place:
            _round_of_processes(answer, source, place)
        for peer in bench.peers.here:
            with fresh(bench.work, "peer") as place:
                _round_of_peer(answer, peer, source, place)
    for what in (FIRST, RESTORE):
        for ours, most in zip((OURS, COMMAND), goals[what], strict=True):
            answer.compare(what, of(what, ours), of(what, "cp"), most)
    answer.compare(SECOND, of(SECOND, OURS), of(FIRST, OURS), 0.8)
    answer.compare(AGAIN, of(AGAIN, OURS), of(AGAIN, STAT_PASS), 1.5)
    answer.compare(STORED, of(STORED, "packs"), of(STORED, "restic's data"), goals[STORED][0])
    for what in (FIRST, AGAIN, RESTORE, STORED):
        answer.compare(what, of(what, COMMAND), of(what, "restic"))
    answer.remarks.append(pivot(answer))
    return answer


def _round_in_process(answer: Answer, source: Path, place: Path) -> None:
    with ArtifactStore.open(place / "store") as store:
        session = store.session("s")
        run = session.run("r")
        with answer.timed(of(FIRST, OURS)):
            run.track(source)
        for _ in range(SHORT_SAMPLES):
            with answer.timed(of(AGAIN, OURS)):
                run.track(source)
            with answer.timed(of(AGAIN, STAT_PASS)):
                stat_pass(source)
        flush(place)
        with answer.timed(of(RESTORE, OURS)):
            run.restore(place / "restored")
        flush(place)
        with answer.timed(of(SECOND, OURS)):
            session.run("r2").track(source)


def _round_of_processes(answer: Answer, source: Path, place: Path) -> None:
    store = place / "store"
    cas(store, "init")
    flush(place)
    with answer.timed(of(FIRST, COMMAND)):
        cas(store, "track", str(source))
    answer.note(of(STORED, "packs"), bytes_below(store / "packs"), "bytes")
    answer.note(of(STORED, COMMAND), bytes_below(store), "bytes")
    for _ in range(SHORT_SAMPLES):
        with answer.timed(of(AGAIN, COMMAND)):
            cas(store, "track", str(source))
    flush(place)
    with answer.timed(of(RESTORE, COMMAND)):
        cas(store, "restore", "--to", str(place / "restored"))


def _round_of_peer(answer: Answer, peer: Peer, source: Path, place: Path) -> None:
    store, restored = place / "store", place / "restored"
    store.mkdir()
    restored.mkdir()
    peer.create(store, source)
    flush(place)
    with answer.timed(of(FIRST, peer.name)):
        peer.add_durably(store, source)
    answer.note(of(STORED, peer.name), bytes_below(peer.data(store)), "bytes")
    if isinstance(peer, Restic):
        answer.note(of(STORED, "restic's data"), bytes_below(store / "data"), "bytes")
    if peer.does_rescan:
        with answer.timed(of(AGAIN, peer.name)):
            peer.add_durably(store, source)
    flush(place)
    with answer.timed(of(RESTORE, peer.name)):
        peer.restore(store, restored)


def ask_large(bench: Bench) -> Answer:
    """First and second track of large files that do not compress."""
    source, subject = bench.sources.find("large")
    answer = Answer("large", subject, bench.options.rounds_large or bench.options.rounds)
    for _ in range(answer.rounds):
        with fresh(bench.work, "copy", keep=False) as place, answer.timed(of(FIRST, "cp")):
            copy_and_sync(source, place / "copy")
        with (
            fresh(bench.work, "store", keep=False) as place,
            ArtifactStore.open(place / "store") as store,
        ):
            session = store.session("s")
            with answer.timed(of(FIRST, OURS)):
                session.run("r").track(source)
            with answer.timed(of(SECOND, OURS)):
                session.run("r2").track(source)
        with fresh(bench.work, "store", keep=False) as place:
            cas(place / "store", "init")
            flush(place)
            with answer.timed(of(FIRST, COMMAND)):
                cas(place / "store", "track", str(source))
        for peer in bench.peers.keeping_versions:
            with fresh(bench.work, "peer", keep=False) as place:
                peer.create(place, source)
                flush(place)
                with answer.timed(of(FIRST, peer.name)):
                    peer.add_durably(place, source)
    for ours, most in ((OURS, 1.0), (COMMAND, 1.1)):
        answer.compare(FIRST, of(FIRST, ours), of(FIRST, "cp"), most)
    answer.compare(SECOND, of(SECOND, OURS), of(FIRST, OURS), 0.4)
    answer.compare(FIRST, of(FIRST, COMMAND), of(FIRST, "restic"))
    return answer


def ask_sparse(bench: Bench) -> Answer:
    """A file of holes with a little data at its end."""
    size = int(bench.options.sparse_gib * GIB)
    subject = f"One sparse file of {bench.options.sparse_gib:g} GiB with 4 KiB of data at its end"
    answer = Answer("sparse", subject, bench.options.rounds)
    source = bench.work / "sparse"
    source.mkdir()
    with (source / "holes.bin").open("wb") as file:
        file.seek(size - _SPARSE_DATA)
        file.write(os.urandom(_SPARSE_DATA))
    settle(source)
    for _ in range(answer.rounds):
        with fresh(bench.work, "store", keep=False) as place:
            with ArtifactStore.open(place / "store") as store:
                run = store.session("s").run("r")
                with answer.timed(of(FIRST, OURS)):
                    run.track(source)
                with answer.timed(of(RESTORE, OURS)):
                    run.restore(place / "restored")
            restored = (place / "restored" / "holes.bin").stat()
            answer.note("disk used by the restored file", restored.st_blocks * 512, "bytes")
            with answer.timed(of(FIRST, "cp --sparse")):
                command = ["cp", "-r", "--sparse=always", str(source), str(place / "copy")]
                subprocess.run(command, check=True)
                flush(place)
    answer.limit(FIRST, of(FIRST, OURS), 0.25 * bench.options.sparse_gib, "s")
    answer.limit("restored sparse", "disk used by the restored file", MIB, "bytes")
    answer.compare(FIRST, of(FIRST, OURS), of(FIRST, "cp --sparse"))
    return answer


def ask_steps(bench: Bench) -> Answer:
    """Many steps that each change a little, every one tracked by a new process."""
    count = bench.options.steps
    subject = (
        f"{count} steps, each appending 1 MiB of random bytes to a file of "
        f"{bench.options.steps_start_mib} MiB and rewrites a JSON chat grown by 20 KiB; "
        "figures are totals of all steps"
    )
    answer = Answer("steps", subject, bench.options.rounds)
    for _ in range(answer.rounds):
        with fresh(bench.work, "steps") as place:
            store = place / "store"
            cas(store, "init")
            taken = _run_steps(bench, place, partial(_track_by_process, store))
            answer.note(of(STEPS, COMMAND), taken)
            answer.note(of(STORED, "packs"), bytes_below(store / "packs"), "bytes")
            answer.note(of(STORED, COMMAND), bytes_below(store), "bytes")
        for peer in bench.peers.keeping_versions:
            with fresh(bench.work, "steps") as place:
                store = place / "store"
                store.mkdir()
                peer.create(store, place / "work")
                taken = _run_steps(bench, place, partial(peer.add_durably, store))
                answer.note(of(STEPS, peer.name), taken)
                answer.note(of(STORED, peer.name), bytes_below(store), "bytes")
                if isinstance(peer, Restic):
                    answer.note(of(STORED, "restic's data"), bytes_below(store / "data"), "bytes")
                    with answer.timed("restic cat config"):
                        peer.open(store)
    answer.compare("a process each", of(STEPS, COMMAND), of(STEPS, "restic"), 0.25)
    answer.compare(STORED, of(STORED, "packs"), of(STORED, "restic's data"), 0.75)
    answer.remarks.append(pivot(answer))
    return answer


def _track_by_process(store: Path, directory: Path) -> None:
    cas(store, "track", str(directory))


def _run_steps(bench: Bench, place: Path, record: Callable[[Path], None]) -> float:
    """Return the seconds that `record` took after all the steps; the changes aren't timed."""
    growing = GrowingWork(place / "work", start=bench.options.steps_start_mib * MIB)
    total = 0.0
    for number in range(bench.options.steps):
        growing.step(number)
        flush(place)
        started = time.perf_counter()
        record(place / "work")
        total += time.perf_counter() - started
    return total


def ask_memory(bench: Bench) -> Answer:
    """Peak memory of a process that tracks or restores, above one that imports the package."""
    answer = Answer("memory", "", min(3, bench.options.rounds))
    subjects = []
    idle = measured("idle")["peak"]
    for name in ("small", "tree", "large"):
        source, subject = bench.sources.find(name)
        subjects.append(f"{name}: {subject}")
        for _ in range(answer.rounds):
            with fresh(bench.work, "store", keep=name != "large") as place:
                store = str(place / "store")
                for work, directory in (("track", source), ("restore", place / "restored")):
                    found = measured(work, store, str(directory))
                    answer.note(of(work, name), (found["peak"] - idle) / MIB, "MiB")
    answer.subject = "; ".join(subjects)
    for series in list(answer.series):
        answer.limit("peak memory, above import", series, 200.0, "MiB")
    return answer


def ask_levels(bench: Bench) -> Answer:
    """Time and bytes of zstd's levels; decides `cas.packs.codec.ZSTD_LEVEL`."""
    answer = Answer("levels", "", bench.options.rounds)
    subjects = []
    for name in ("small", "tree"):
        source, subject = bench.sources.find(name)
        subjects.append(f"{name}: {subject}")
        for _ in range(answer.rounds):
            for level in (1, 3):
                with fresh(bench.work, "store") as place:
                    found = measured("track", str(place / "store"), str(source), str(level))
                answer.note(f"{name}: time at level {level}", found["seconds"])
                answer.note(f"{name}: bytes at level {level}", found["bytes_stored"], "bytes")
        for what in ("time", "bytes"):
            answer.compare(
                f"zstd level, {what}", f"{name}: {what} at level 3", f"{name}: {what} at level 1"
            )
    answer.subject = "First track in a process of its own. " + "; ".join(subjects)
    return answer


QUESTIONS: Final = {
    "small": partial(
        ask_directory,
        "small",
        {FIRST: (0.75, 0.95), RESTORE: (1.0, 1.25), STORED: (0.88, 0.88)},
    ),
    "tree": partial(
        ask_directory,
        "tree",
        {FIRST: (1.0, 1.1), RESTORE: (1.0, 1.25), STORED: (1.05, 1.05)},
    ),
    "large": ask_large,
    "sparse": ask_sparse,
    "steps": ask_steps,
    "memory": ask_memory,
    "levels": ask_levels,
}


def main() -> None:
    """Ask the questions."""
    parser = command_line(__doc__, list(QUESTIONS))
    parser.add_argument("--rounds-large", type=int, help="rounds of `large`, if others")
    parser.add_argument("--files", type=int, default=20_000, help="files of `small`")
    parser.add_argument("--tree-files", type=int, default=39_000, help="files of `tree`")
    parser.add_argument("--tree", type=Path, help="a site-packages in place of a made tree")
    parser.add_argument("--large-gib", type=float, default=1.0, help="size of each of 4 files")
    parser.add_argument("--sparse-gib", type=float, default=8.0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--steps-start-mib", type=int, default=50)
    parser.add_argument("--peers", nargs="+", help="those to compare with, if not all")
    options = parser.parse_args()
    name = "levels" if options.only == ["levels"] else "track"
    with publication(name, "Tracking, rescanning, restoring", options, PACKAGES) as page:
        sources = Sources(
            page.work,
            files=options.files,
            tree_files=options.tree_files,
            tree=options.tree,
            large_gib=options.large_gib,
        )
        peers = Peers(page.work, options.peers)
        page.about.update(described(peers.versions))
        bench = Bench(page.work, peers, options, sources)
        usual = [name for name in QUESTIONS if name != "levels"]
        page.ask({name: partial(ask, bench) for name, ask in QUESTIONS.items()}, usual=usual)


if __name__ == "__main__":
    main()
