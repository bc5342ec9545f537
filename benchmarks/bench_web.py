"""What it costs to look at runs: pages, answers of the API and downloads of `cas serve`.

    python benchmarks/bench_web.py
    python benchmarks/bench_web.py --only download --large-mib 64 --rounds 2 --results /tmp/trial

Each server is a process, and so is its client, which keeps its connections and has a thread for
each. Python's `http.server` and nginx serve the same files from a directory.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from datasets import random_pieces, settle, small_files
from listing import directory_of, indexed_runs, name_of
from measure import GIB, MIB, Answer, named, of
from pages import command_line, pivot, publication
from web_servers import cas_serve, http_server, nginx, nginx_version

from index import ArtifactStore

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from web_servers import Server

PACKAGES: Final = ("runcas", "starlette", "uvicorn", "Jinja2", "blake3", "zstandard", "SQLAlchemy")

ENTRIES: Final = 100
"""Files of the directory that is listed."""

CONNECTIONS: Final = (1, 8)

OURS, PYTHON, NGINX = "runcas", "http.server", "nginx"
JSON, HTML, FILE = "listing as JSON", "page of a directory", "page of a file"
TEXT: Final = "step_000/output/report.md"
"""A file with bytes in a run of rows alone."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every question is asked with."""

    work: Path
    options: argparse.Namespace

    @contextmanager
    def servers(self, source: Path) -> Iterator[Mapping[str, Server]]:
        """Serve a directory, and a store in which it is the run `r` of the session `s`."""
        root = self.work / f"store-{source.name}"
        with ArtifactStore.open(root) as store:
            store.session("s").run("r").track(source)
        with ExitStack() as stack:
            found = {
                OURS: stack.enter_context(cas_serve(root)),
                PYTHON: stack.enter_context(http_server(source)),
            }
            if nginx_version() is not None:
                there = nginx(source, self.work / f"nginx-{source.name}")
                found[NGINX] = stack.enter_context(there)
            yield found


def _lines(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"


def ask_pages(bench: Bench) -> Answer:
    """A directory of a hundred entries and a file of it: answers in a second, the slowest."""
    source = bench.work / "small"
    small_files(source, ENTRIES)
    (folder,) = (path.name for path in source.iterdir())
    name = f"{folder}/{min(path.name for path in (source / folder).iterdir())}"
    run = "/sessions/s/runs/r"
    answer = Answer(
        "pages", f"A directory of {ENTRIES} files of 1 to 16 KiB of text", bench.options.rounds
    )
    with bench.servers(source) as servers:
        asked = {
            of(JSON, OURS): (OURS, f"/api/v1{run}/entries?path={folder}&limit={ENTRIES}"),
            of(HTML, OURS): (OURS, f"{run}?path={folder}"),
            of(FILE, OURS): (OURS, f"{run}/file?path={name}"),
            **{of(HTML, who): (who, f"/{folder}/") for who in servers if who != OURS},
        }
        for count in CONNECTIONS:
            for number in range(answer.rounds):
                for what in list(asked)[:: -1 if number % 2 else 1]:
                    who, path = asked[what]
                    requests = bench.options.requests // count
                    found = servers[who].ask(path, connections=count, requests=requests)
                    answer.note(f"{what}, {_lines(count)}", found.per_answer)
                    answer.note(f"{what}, {_lines(count)}, p99", found.percentile_99)
    for count in CONNECTIONS:
        lines = _lines(count)
        for what in (JSON, HTML, FILE):
            rate = 1 / answer.series[f"{of(what, OURS)}, {lines}"].median
            answer.note(f"{of(what, OURS)}, {lines}, rate", rate, "pages/s")
        for who in (PYTHON, NGINX):
            answer.compare(
                f"a listing, {lines}",
                f"{of(HTML, OURS)}, {lines}",
                f"{of(HTML, who)}, {lines}",
            )
    return answer


def _download(bench: Bench, question: str, size: int, requests: int) -> Answer:
    """Download a file with each number of connections from each server, in turns."""
    source = bench.work / question
    source.mkdir()
    with (source / "large.bin").open("wb") as file:
        file.writelines(random_pieces(question, size))
    settle(source)
    subject = f"A file of {named(size)} that does not compress"
    answer = Answer(question, subject, bench.options.rounds)
    with bench.servers(source) as servers:
        with ArtifactStore.open(bench.work / f"store-{question}", create=False) as store:
            version = store.session("s").run("r").file("large.bin").id
        paths = dict.fromkeys(servers, "/large.bin")
        paths[OURS] = f"/api/v1/sessions/s/files/{version}/content"
        for count in CONNECTIONS:
            for number in range(answer.rounds):
                for who in list(servers)[:: -1 if number % 2 else 1]:
                    opening = "/static/icon.svg" if who == OURS else "/"
                    found = servers[who].ask(
                        paths[who],
                        connections=count,
                        requests=max(1, requests // count),
                        size=size,
                        opening=opening,
                    )
                    answer.note(of(_lines(count), who), found.per_answer)
                    answer.note(of(f"p99, {_lines(count)}", who), found.percentile_99)
    for count in CONNECTIONS:
        lines = _lines(count)
        rate = size / answer.series[of(lines, OURS)].median
        answer.note(of(f"bytes a second, {lines}", OURS), rate, "bytes")
        for who in (PYTHON, NGINX):
            answer.compare(f"a download, {lines}", of(lines, OURS), of(lines, who))
    (source / "large.bin").unlink()
    return answer


def ask_download(bench: Bench) -> Answer:
    """A file of 1 MiB, again and again."""
    return _download(bench, "download", MIB, bench.options.requests)


def ask_large(bench: Bench) -> Answer:
    """A large file, once for each connection."""
    return _download(bench, "large", bench.options.large_mib * MIB, 1)


def _pages_of(root: Path, run: str, snapshots: int) -> dict[str, str]:
    """Put two versions of a text into the run, and return the pages of it, by what they are."""
    with ArtifactStore.open(root, create=False) as store:
        for text in (b"# A report\n", b"# A report\n\nIt has a second line.\n"):
            store.session("s").run(run).put(TEXT, text, agent="researcher")
    place = f"/sessions/s/runs/{run}"
    return {
        "page of the runs": "/",
        "page of the run": place,
        "page of a directory": f"{place}?path={directory_of(0)}",
        "files by agent, flat": f"{place}?agent=engineer",
        "timeline": f"{place}/timeline",
        "page of a file": f"{place}/file?path={TEXT}",
        "compare two snapshots": f"{place}/compare?from={snapshots - 1}&to={snapshots}",
        "compare the newest two": f"{place}/compare?from={snapshots + 1}&to={snapshots + 2}",
    }


def ask_index(bench: Bench) -> Answer:
    """Pages of a run in a large index against the same in a small one."""
    options = bench.options
    runs, own = options.index_runs, options.index_files // 10
    sizes = {"large": options.index_files, "small": max(10, own // runs * 9)}
    totals = {name: own + (runs - 1) * files for name, files in sizes.items()}
    answer = Answer(
        "index",
        f"A run of {own:,} files in an index of {runs:,} runs, which hold {totals['large']:,} "
        f"versions, and in one where they hold {totals['small']:,}; on SQLite",
        options.rounds,
    )
    with ExitStack() as stack:
        servers, pages = {}, {}
        for name, files in sizes.items():
            root = bench.work / f"index-{name}"
            indexed_runs(root, runs=runs, files=files, first=own)
            pages = _pages_of(root, name_of(0), snapshots=10)
            servers[name] = stack.enter_context(cas_serve(root))
        for number in range(options.rounds):
            for what, path in pages.items():
                for name in list(servers)[:: -1 if number % 2 else 1]:
                    found = servers[name].ask(path, requests=options.page_requests)
                    answer.note(of(what, name), found.per_answer)
    for what in pages:
        answer.compare(what, of(what, "large"), of(what, "small"), 1.3)
    return answer


def _opened(bench: Bench, question: str, files: int) -> Answer:
    """Open pages of a run of so many files: the first time after the server started, and again."""
    options = bench.options
    snapshots = min(100, files // 100)
    subject = f"A run of {files:,} versions, found by {snapshots:,} scans, on SQLite"
    answer = Answer(question, subject, options.rounds)
    root = bench.work / f"run-{question}"
    indexed_runs(root, runs=1, files=files, snapshots=snapshots)
    pages = _pages_of(root, name_of(0), snapshots)
    for what, path in pages.items():
        for _ in range(answer.rounds):
            with cas_serve(root) as server:
                first = server.ask(path, opening="/static/icon.svg").samples[0]
                again = server.ask(path, requests=options.page_requests).per_answer
            answer.note(of("the first time", what), first)
            answer.note(of("again", what), again)
    for what in pages:
        answer.limit(what, of("the first time", what), 1.0, "s")
    answer.remarks.append(pivot(answer))
    return answer


def ask_files(bench: Bench) -> Answer:
    """Pages of a run of a hundred thousand files."""
    return _opened(bench, "files", bench.options.files)


def ask_versions(bench: Bench) -> Answer:
    """Pages of a run of a million versions."""
    return _opened(bench, "versions", bench.options.versions)


QUESTIONS: Final = {
    "pages": ask_pages,
    "download": ask_download,
    "large": ask_large,
    "index": ask_index,
    "files": ask_files,
    "versions": ask_versions,
}


def main() -> None:
    """Ask the questions."""
    parser = command_line(__doc__, list(QUESTIONS))
    parser.add_argument("--requests", type=int, default=400, help="for a page or a MiB, a round")
    parser.add_argument("--page-requests", type=int, default=20, help="for pages of large runs")
    parser.add_argument("--large-mib", type=int, default=GIB // MIB, help="the large file")
    parser.add_argument("--index-runs", type=int, default=100, help="of the large index")
    parser.add_argument("--index-files", type=int, default=10_000, help="of each of these runs")
    parser.add_argument("--files", type=int, default=100_000, help="of the one run")
    parser.add_argument("--versions", type=int, default=1_000_000, help="of the one run")
    options = parser.parse_args()
    with publication("web", "The page", options, PACKAGES) as page:
        version = nginx_version()
        page.about |= {"nginx": version} if version else {"not installed": "nginx"}
        bench = Bench(page.work, options)
        page.ask({name: partial(ask, bench) for name, ask in QUESTIONS.items()})


if __name__ == "__main__":
    main()
