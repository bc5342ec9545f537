"""How long tracking, rescanning and restoring take, how much they store, how much memory they use.

    python benchmarks/bench_track.py --tree SITE_PACKAGES
    python benchmarks/bench_track.py --only small --files 2000 --rounds 2 --results /tmp/trial

`levels` is asked only by name (``--only levels``), and has a page of its own.
The contenders of a question run one after the other, round by round. Each works in a fresh
directory, which is removed at the end of all; dirty pages are written back before each timed piece.
The targets are those of the design. The ratio that counts is that of the medians; that of the
minima stands beside it, since creating files is noisy on many systems.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contenders import (
    Restic,
    bytes_below,
    cas,
    copy,
    copy_and_sync,
    fresh,
    measured,
    stat_pass,
)
from datasets import GrowingWork
from listing import indexed_runs
from measure import MIB, RESULTS, Answer, answer_all, environment, flush
from sources import Sources, no_tree

from index import ArtifactStore

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES: Final = ("runcas", "blake3", "zstandard", "SQLAlchemy", "alembic")

COPY, COPY_SYNC = "cp -r", "cp -r + sync -f"
FIRST, FIRST_PROCESS, FIRST_RESTIC = "track", "cas track", "restic backup"
SECOND = "track, other run"
RESCAN, RESCAN_PROCESS = "track, unchanged", "cas track, unchanged"
RESCAN_RESTIC, STAT_PASS = "restic backup, unchanged", "scandir + stat"
RESTORE, RESTORE_PROCESS, RESTORE_RESTIC = "restore", "cas restore", "restic restore"
PACKS, STORE = "packs", "store with index"
RESTIC_DATA, RESTIC_ALL = "restic's data", "restic's repository"
OPEN_RESTIC, START = "restic cat config", "cas --help"

_SHORT_SAMPLES: Final = 3
"""Samples a round of what takes a few hundredths of a second."""


@dataclass(slots=True)
class Bench:
    """What every question is asked with."""

    work: Path
    restic: Restic
    options: argparse.Namespace
    sources: Sources


def ask_small(bench: Bench) -> Answer:
    """First track, second, rescans and restore of many small files."""
    answer = _measure_directory(bench, "small")
    compare = answer.compare
    for ours in (FIRST, FIRST_PROCESS):
        compare("first track", ours, COPY_SYNC, 2.0)
        compare("first track", ours, FIRST_RESTIC)
    compare("second track of the same bytes", SECOND, FIRST, 0.8)
    compare("unchanged rescan, new process", RESCAN_PROCESS, RESCAN_RESTIC, 0.4)
    compare("unchanged rescan, same process", RESCAN, STAT_PASS, 1.5)
    for ours in (RESTORE, RESTORE_PROCESS):
        compare("restore", ours, COPY, 1.5)
        compare("restore", ours, RESTORE_RESTIC)
    _compare_bytes(answer, None)
    return answer


def ask_tree(bench: Bench) -> Answer:
    """The same of a scientific stack, and the bytes stored."""
    answer = _measure_directory(bench, "tree")
    compare = answer.compare
    for ours in (FIRST, FIRST_PROCESS):
        compare("first track", ours, COPY_SYNC, 2.0)
        compare("first track", ours, FIRST_RESTIC)
    compare("second track of the same bytes", SECOND, FIRST)
    compare("unchanged rescan, new process", RESCAN_PROCESS, RESCAN_RESTIC)
    compare("unchanged rescan, same process", RESCAN, STAT_PASS)
    for ours in (RESTORE, RESTORE_PROCESS):
        compare("restore", ours, COPY)
    _compare_bytes(answer, 1.05)
    return answer


def _compare_bytes(answer: Answer, at_most: float | None) -> None:
    answer.compare("bytes stored", PACKS, RESTIC_DATA, at_most)
    answer.compare("bytes stored, everything", STORE, RESTIC_ALL)


def _measure_directory(bench: Bench, name: str) -> Answer:
    made = bench.sources.find(name)
    if made is None:
        return Answer(name, "", 0, skipped=no_tree())
    source, subject = made
    answer = Answer(name, subject, bench.options.rounds)
    for _ in range(answer.rounds):
        with fresh(bench.work, "copy") as place, answer.timed(COPY_SYNC):
            copy_and_sync(source, place / "copy")
        with fresh(bench.work, "store") as place:
            _round_in_process(answer, source, place)
        with fresh(bench.work, "store") as place:
            _round_of_processes(answer, source, place)
        with fresh(bench.work, "copy") as place, answer.timed(COPY):
            copy(source, place / "copy")
        if bench.restic:
            with fresh(bench.work, "repository") as place:
                _round_of_restic(answer, bench.restic, source, place)
    return answer


def _round_in_process(answer: Answer, source: Path, place: Path) -> None:
    with ArtifactStore.open(place / "store") as store:
        session = store.session("s")
        run = session.run("r")
        with answer.timed(FIRST):
            run.track(source)
        for _ in range(_SHORT_SAMPLES):
            with answer.timed(RESCAN):
                run.track(source)
            with answer.timed(STAT_PASS):
                stat_pass(source)
        flush(place)
        with answer.timed(RESTORE):
            run.restore(place / "restored")
        flush(place)
        with answer.timed(SECOND):
            session.run("r2").track(source)


def _round_of_processes(answer: Answer, source: Path, place: Path) -> None:
    store = place / "store"
    cas(store, "init")
    flush(place)
    with answer.timed(FIRST_PROCESS):
        cas(store, "track", str(source))
    answer.note(PACKS, bytes_below(store / "packs"), "bytes")
    answer.note(STORE, bytes_below(store), "bytes")
    for _ in range(_SHORT_SAMPLES):
        with answer.timed(RESCAN_PROCESS):
            cas(store, "track", str(source))
    with answer.timed(START):
        cas(store, "--help")
    flush(place)
    with answer.timed(RESTORE_PROCESS):
        cas(store, "restore", str(place / "restored"))


def _round_of_restic(answer: Answer, restic: Restic, source: Path, place: Path) -> None:
    repository = place / "repository"
    restic.create(repository)
    flush(place)
    with answer.timed(FIRST_RESTIC):
        restic.backup(repository, source)
    answer.note(RESTIC_DATA, bytes_below(repository / "data"), "bytes")
    answer.note(RESTIC_ALL, bytes_below(repository), "bytes")
    with answer.timed(RESCAN_RESTIC):
        restic.backup(repository, source)
    with answer.timed(OPEN_RESTIC):
        restic.open(repository)
    flush(place)
    with answer.timed(RESTORE_RESTIC):
        restic.restore(repository, place / "restored")


def ask_large(bench: Bench) -> Answer:
    """First and second track of large files that do not compress."""
    source, subject = bench.sources.find("large") or (bench.work, "")
    answer = Answer("large", subject, bench.options.rounds_large or bench.options.rounds)
    for _ in range(answer.rounds):
        with fresh(bench.work, "copy", keep=False) as place, answer.timed(COPY_SYNC):
            copy_and_sync(source, place / "copy")
        with (
            fresh(bench.work, "store", keep=False) as place,
            ArtifactStore.open(place / "store") as store,
        ):
            session = store.session("s")
            with answer.timed(FIRST):
                session.run("r").track(source)
            with answer.timed(SECOND):
                session.run("r2").track(source)
        with fresh(bench.work, "store", keep=False) as place:
            cas(place / "store", "init")
            flush(place)
            with answer.timed(FIRST_PROCESS):
                cas(place / "store", "track", str(source))
    for ours in (FIRST, FIRST_PROCESS):
        answer.compare("first track", ours, COPY_SYNC, 1.3)
    answer.compare("second track of the same bytes", SECOND, FIRST, 0.4)
    return answer


def ask_steps(bench: Bench) -> Answer:
    """Many steps that each change a little, every one tracked by a new process."""
    count = bench.options.steps
    subject = (
        f"{count} steps, each of which appends 1 MiB that does not compress to a file of "
        f"{bench.options.steps_start_mib} MiB and rewrites a JSON chat grown by 20 KiB; "
        "figures are totals of all steps"
    )
    answer = Answer("steps", subject, bench.options.rounds)
    for _ in range(answer.rounds):
        with fresh(bench.work, "steps") as place:
            store = place / "store"
            cas(store, "init")
            answer.note(FIRST_PROCESS, _run_steps(bench, place, partial(_track_by_process, store)))
            answer.note(PACKS, bytes_below(store / "packs"), "bytes")
            answer.note(STORE, bytes_below(store), "bytes")
        if bench.restic:
            with fresh(bench.work, "steps") as place:
                repository = place / "repository"
                bench.restic.create(repository)
                record = partial(bench.restic.backup, repository)
                answer.note(FIRST_RESTIC, _run_steps(bench, place, record))
                answer.note(RESTIC_DATA, bytes_below(repository / "data"), "bytes")
                answer.note(RESTIC_ALL, bytes_below(repository), "bytes")
                with answer.timed(OPEN_RESTIC):
                    bench.restic.open(repository)
    answer.compare("time of all steps", FIRST_PROCESS, FIRST_RESTIC, 0.3)
    _compare_bytes(answer, 0.75)
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
    for _ in range(answer.rounds):
        answer.note("import index", measured("idle")["peak"] / MIB, "MiB")
    idle = answer.series["import index"].median
    for name in ("small", "tree", "large"):
        made = bench.sources.find(name)
        if made is None:
            answer.remarks.append(f"Skipped `tree`: {no_tree()}.")
            continue
        source, subject = made
        subjects.append(f"{name}: {subject}")
        for _ in range(answer.rounds):
            with fresh(bench.work, "store", keep=name != "large") as place:
                store = str(place / "store")
                found = measured("track", store, str(source), "r")
                answer.note(f"{name}: track, above import", found["peak"] / MIB - idle, "MiB")
                found = measured("restore", store, str(place / "restored"), "r")
                answer.note(f"{name}: restore, above import", found["peak"] / MIB - idle, "MiB")
    answer.subject = "; ".join(subjects)
    answer.note("200 MiB", 200.0, "MiB")
    for name in list(answer.series):
        if name.endswith("above import"):
            answer.compare("peak memory", name, "200 MiB", 1.0)
    return answer


def ask_levels(bench: Bench) -> Answer:
    """Time and bytes of zstd's levels; decides `cas.packs.codec.ZSTD_LEVEL`."""
    answer = Answer("levels", "", bench.options.rounds)
    subjects = []
    for name in ("small", "tree"):
        made = bench.sources.find(name)
        if made is None:
            answer.remarks.append(f"Skipped `tree`: {no_tree()}.")
            continue
        source, subject = made
        subjects.append(f"{name}: {subject}")
        for _ in range(answer.rounds):
            for level in (1, 3):
                with fresh(bench.work, "store") as place:
                    found = measured("track", str(place / "store"), str(source), "r", str(level))
                answer.note(f"{name}: time at level {level}", found["seconds"])
                answer.note(f"{name}: bytes at level {level}", found["bytes_stored"], "bytes")
        for what in ("time", "bytes"):
            answer.compare(
                f"zstd level, {what}", f"{name}: {what} at level 3", f"{name}: {what} at level 1"
            )
    answer.subject = "First track in a process of its own. " + "; ".join(subjects)
    return answer


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
        roots = {small: place / "small", large: place / "large"}
        indexed_runs(roots[small], runs=1, files=files)
        indexed_runs(roots[large], runs=runs, files=files)
        flush(place)
        for _ in range(answer.rounds):
            for name, root in roots.items():
                with ArtifactStore.open(root, create=False) as store:
                    session = store.session("s")
                    run = session.run(f"run-{0 if name == small else runs // 2}")
                    run.stats()
                    for _ in range(_SHORT_SAMPLES):
                        with answer.timed(name):
                            found = run.files()
                        if len(found) != files:
                            raise AssertionError(f"listed {len(found)} of {files} files")
    answer.compare("listing a run", large, small, 1.3)
    return answer


def ask_counting(bench: Bench) -> Answer:
    """`stats()` of a run of a million versions against the same of a small run."""
    files, runs = bench.options.listing_files, bench.options.listing_runs
    answer = Answer(
        "counting",
        f"run.stats() of a run of {files * runs:,} versions and of one of {files:,}, each in a "
        "store opened anew",
        bench.options.rounds,
    )
    large, small = f"of {files * runs:,} versions", f"of {files:,} versions"
    with fresh(bench.work, "counts") as place:
        sizes = {small: files, large: files * runs}
        for name, count in sizes.items():
            indexed_runs(place / name, runs=1, files=count)
        flush(place)
        for _ in range(answer.rounds):
            for name, count in sizes.items():
                with ArtifactStore.open(place / name, create=False) as store:
                    run = store.session("s").run("run-0")
                    with answer.timed(name):
                        found = run.stats()
                if found.versions != count:
                    raise AssertionError(f"counted {found.versions} of {count} versions")
    answer.compare("counting a run", large, small, 1.3)
    return answer


QUESTIONS: Final = {
    "small": ask_small,
    "tree": ask_tree,
    "large": ask_large,
    "steps": ask_steps,
    "memory": ask_memory,
    "levels": ask_levels,
    "listing": ask_listing,
    "counting": ask_counting,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="questions, with commas: " + ",".join(QUESTIONS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rounds-large", type=int, help="rounds of `large`, if others")
    parser.add_argument("--files", type=int, default=20_000, help="files of `small`")
    parser.add_argument("--tree", type=Path, help="site-packages of a scientific stack")
    parser.add_argument("--large-gib", type=float, default=1.0, help="size of each of 4 files")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--steps-start-mib", type=int, default=50)
    parser.add_argument("--listing-files", type=int, default=10_000)
    parser.add_argument("--listing-runs", type=int, default=100)
    parser.add_argument("--work", type=Path, help="where temporary data goes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go")
    parser.add_argument("--note", help="what a reader should know, such as other load")
    return parser.parse_args()


def main() -> None:
    """Ask the questions."""
    options = _options()
    usual = [name for name in QUESTIONS if name != "levels"]
    asked = options.only.split(",") if options.only else usual
    if unknown := [name for name in asked if name not in QUESTIONS]:
        raise SystemExit(
            f"no such question: {', '.join(unknown)}; there are {', '.join(QUESTIONS)}"
        )
    with tempfile.TemporaryDirectory(dir=options.work, prefix="bench-track-") as directory:
        work = Path(directory)
        sources = Sources(work, files=options.files, tree=options.tree, large_gib=options.large_gib)
        bench = Bench(work, Restic(work), options, sources)
        about = environment(work, PACKAGES)
        about["restic"] = bench.restic.version or "not installed: its figures are missing"
        about["rounds"] = str(options.rounds)
        if options.note:
            about["note"] = options.note
        questions = {name: partial(QUESTIONS[name], bench) for name in asked}
        file = "bench_levels" if asked == ["levels"] else "bench_track"
        title = "Tracking, rescanning, restoring"
        print(answer_all(file, title, questions, about, options.results))


if __name__ == "__main__":
    main()
