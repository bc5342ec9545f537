"""Lineage in an index of a million inputs: five steps up and down, and what is stale.

    python benchmarks/bench_lineage.py
    python benchmarks/bench_lineage.py --runs 20 --rounds 1 --results /tmp/trial

Each run has fifty nodes. A node reads ten files of earlier nodes, one of them of another run, and
makes five. `CAS_TEST_POSTGRES` names a server; if it is not set, one starts in memory.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3
from measure import Answer
from pages import command_line, publication
from services import databases

from index import ArtifactStore
from index.db import tables
from index.db.bulk import insert_rows
from index.db.queries import inputs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from index import FileVersion, Session

PACKAGES: Final = ("runcas", "SQLAlchemy", "psycopg")
NODES: Final = 50
READS: Final = 10
MADE: Final = 5
DEPTH: Final = 5
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_RUNS_AT_ONCE: Final = 100
_STARTS: Final = 20
"""Files whose lineage is asked for, from all over the index."""


def lineage(work: Path, runs: int, rounds: int) -> Answer:
    """Ask for the lineage of files in runs from all over the index, on both databases."""
    answer = Answer(
        "lineage",
        f"{runs * NODES * READS:,} inputs of {runs:,} runs with {runs * NODES * MADE:,} versions; "
        f"the lineage of a file to a depth of {DEPTH}",
        rounds,
    )
    with ExitStack() as stack:
        made = stack.enter_context(databases())
        places: dict[str, dict[str, Any]] = {
            "SQLite": {"root": work / "sqlite"},
            "PostgreSQL": {"index": made.create(), "blobs": work / "blobs"},
        }
        for name, place in places.items():
            with ArtifactStore.open(**place) as store:
                _fill(store, runs)
                print(f"filled ({name})", flush=True)
                _ask(store.session("s"), name, runs, answer)
        for name in places:
            for direction in ("up", "down"):
                answer.limit(f"{direction}, {name}", f"{direction}, {name}", 0.2, "s")
    return answer


def _ask(session: Session, name: str, runs: int, answer: Answer) -> None:
    draw = random.Random(7)  # noqa: S311 - repeatable
    starts: dict[str, list[FileVersion]] = {"up": [], "down": []}
    for _ in range(min(_STARTS, runs)):
        run = session.run(_run(draw.randrange(runs)))
        starts["up"].append(run.file(_path(NODES - 1, draw.randrange(MADE))))
        starts["down"].append(run.file(_path(draw.randrange(NODES // 2), draw.randrange(MADE))))
    sizes: dict[str, list[int]] = {"up": [], "down": []}
    for _ in range(answer.rounds):
        for direction, versions in starts.items():
            for version in versions:
                with answer.timed(f"{direction}, {name}"):
                    found = session.lineage(version, direction=direction, depth=DEPTH)
                sizes[direction].append(len(found.edges))
        with answer.timed(f"stale of one run, {name}"):
            session.stale(run=_run(0))
    for direction, counts in sizes.items():
        counts.sort()
        answer.remarks.append(
            f"{name}, {direction}: {counts[len(counts) // 2]} edges in the median,"
            f" at most {counts[-1]}."
        )


def _run(number: int) -> str:
    return f"run-{number}"


def _path(node: int, number: int) -> str:
    return f"step_{node}/file_{number}.csv"


def _digest(run: int, node: int, number: int) -> bytes:
    return blake3(b"%d/%d/%d" % (run, node, number)).digest()


def _fill(store: ArtifactStore, runs: int) -> None:
    database = store.context.database
    draw = random.Random(1)  # noqa: S311 - repeatable
    with database.writing() as connection:
        connection.execute(tables.sessions.insert().values(id=1, name="s", created_at=_NOW))
        pack = {"name": blake3(b"pack").digest(), "size": 1, "state": "live", "created_at": _NOW}
        connection.execute(tables.packs.insert().values(id=1, **pack))
    for first in range(0, runs, _RUNS_AT_ONCE):
        with database.writing() as connection:
            for run in range(first, min(first + _RUNS_AT_ONCE, runs)):
                _insert_run(connection, run, draw)
    if database.engine.dialect.name == "postgresql":
        with database.engine.connect() as connection:
            alone = connection.execution_options(isolation_level="AUTOCOMMIT")
            alone.exec_driver_sql("VACUUM ANALYZE")


def _insert_run(connection: Connection, run: int, draw: random.Random) -> None:
    shared: dict[str, Any] = {"created_at": _NOW}
    connection.execute(
        tables.runs.insert().values(
            id=run + 1, session_id=1, name=_run(run), revision=NODES, **shared
        )
    )
    heads = {"unchanged": 0, "bytes_read": 0, "bytes_stored": 0, "run_id": run + 1, **shared}
    connection.execute(
        tables.snapshots.insert(), [{"number": node + 1, **heads} for node in range(NODES)]
    )
    made = [(node, number) for node in range(NODES) for number in range(MADE)]
    place = {"size": 8192, "pack_id": 1, "stored_size": 4096, "codec": 1, "frame_start": 0}
    insert_rows(
        connection,
        tables.blobs,
        ("digest", "pack_offset"),
        [(_digest(run, *each), n * 4096) for n, each in enumerate(made)],
        shared={**place, "frame_size": 0, **shared},
    )
    kind = {"file_type": "data", "priority": "primary", "is_final_output": False}
    insert_rows(
        connection,
        tables.files,
        ("path", "digest", "first_snapshot", "appeared_in", "node_id"),
        [
            (_path(*each), _digest(run, *each), each[0] + 1, each[0] + 1, f"step_{each[0]}")
            for each in made
        ],
        shared={
            "run_id": run + 1, "version": 1, "size": 8192, "mode": 0o100644, "mtime_ns": 10**18,
            "seen_by": 1, "generating_agent": "engineer", **kind, **shared,
        },
    )  # fmt: skip
    inputs.insert_whole(connection, run + 1, list(_inputs_of(run, draw)))


def _inputs_of(run: int, draw: random.Random) -> Iterator[tuple[Any, ...]]:
    for node in range(NODES):
        for read in range(READS):
            source = draw.randrange(run) if run and read == 0 else run
            maker = draw.randrange(node) if node and source == run else draw.randrange(NODES)
            number = draw.randrange(MADE)
            row = {
                "position": node * READS + read + 1,
                "digest": _digest(source, maker, number),
                "size": 8192,
                "source_run": None if source == run else _run(source),
                "path": _path(maker, number),
                "version": 1,
                "snapshot": node,
                "is_copy": False,
                "created_at": _NOW,
                "node_id": f"step_{node}",
                "generating_agent": "engineer",
            }
            yield tuple(row.get(name) for name in inputs.COLUMNS)


def main() -> None:
    """Ask the question."""
    parser = command_line(__doc__, ("lineage",))
    parser.add_argument("--runs", type=int, default=2_000)
    options = parser.parse_args()
    with publication("lineage", "Lineage", options, PACKAGES) as page:
        page.ask({"lineage": partial(lineage, page.work, options.runs, options.rounds)})


if __name__ == "__main__":
    main()
