"""What partitions change: plans and times of an index on PostgreSQL with and without them.

    python benchmarks/bench_partitions.py
    python benchmarks/bench_partitions.py --versions 20000 --rounds 1 --results /tmp/trial

It fills an index with runs of 10,000 file versions each. Every five versions have two contents
between them. Then it asks what the library asks, and shows the plan of the slowest statement for
each question. Ten million versions take some gigabytes. `CAS_TEST_POSTGRES` names the server; if it
is not set, a server starts in memory.
"""

from __future__ import annotations

import re
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from measure import Answer
from pages import command_line, publication
from services import databases
from sqlalchemy import event

from cas.digest import Digest
from index import ArtifactStore
from index.db import tables
from index.db.queries import blobs, current, deletion, files, liveness
from index.db.queries.single import find_file, find_in_session, find_placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection

PACKAGES: Final = ("runcas", "SQLAlchemy", "psycopg")
_PARTITION: Final = Path(__file__).parents[1] / "examples" / "partition.sql"
_PATHS: Final = 2_000
_VERSIONS: Final = 5
_PER_RUN: Final = _PATHS * _VERSIONS
_PER_PACK: Final = 10_000
_ONE: Final = "one partition"
_WIDTH: Final = 88
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)

_FILL: Final = """
INSERT INTO cas_packs (id, name, size, state, created_at)
    SELECT n + 1, sha256(('pack ' || n)::bytea), 1 << 26, 'live', '{now}'
    FROM generate_series(0, {contents} / {per_pack}) AS n;
INSERT INTO cas_blobs (digest, size, pack_id, pack_offset, stored_size, codec, frame_start,
        frame_size, created_at)
    SELECT sha256(n::text::bytea), 8192, n / {per_pack} + 1, 32 + n % {per_pack} * 4096, 4096, 1,
        0, 0, '{now}'
    FROM generate_series(0, {contents} - 1) AS n;
INSERT INTO cas_files (run_id, path, version, digest, size, mode, mtime_ns, file_type, priority,
        is_final_output, created_at, first_snapshot, end_snapshot, appeared_in, seen_by, node_id)
    SELECT run, 'step_' || path % 20 || '/output/result_' || path || '.csv', version,
        sha256((((run - 1)::bigint * {per_run} + path * {versions} + version) % {contents})
            ::text::bytea),
        8192, 33188, 1000000000000000000, 'data', 'primary', false, '{now}', version,
        nullif(version + 1, {versions} + 1), 1, 1, 'step_' || version
    FROM generate_series(1, {runs}) AS run, generate_series(1, {paths}) AS path,
        generate_series(1, {versions}) AS version;
"""


def partitions(work: Path, versions: int, rounds: int) -> Answer:
    """Ask one index after the other, so that one at a time needs room."""
    runs = max(versions // _PER_RUN, 2)
    answer = Answer(
        "partitions",
        f"{runs * _PER_RUN:,} file versions of {runs:,} runs and {runs * _PER_RUN * 2 // 5:,}"
        " contents on PostgreSQL; the questions are asked through the library",
        rounds,
    )
    plans: dict[str, str] = {}
    with databases() as made:
        for kind in ("whole", "partitioned"):
            url = made.create()
            with ArtifactStore.open(index=url, blobs=work / kind) as store:
                _fill(store, runs, is_partitioned=kind == "partitioned")
                print(f"filled ({kind})", flush=True)
                for name, ask in _questions(store, runs // 2).items():
                    plan = _explain(store, ask)
                    for _ in range(rounds):
                        begun = time.perf_counter()
                        ask()
                        answer.note(f"{name}, {kind}", time.perf_counter() - begun)
                    plans[name] = plan
            made.drop(url)
    for name, plan in plans.items():
        answer.compare("time", f"{name}, partitioned", f"{name}, whole")
        answer.remarks.append(f"### {name[0].upper()}{name[1:]}\n\n```\n{plan}\n```")
    return answer


def _fill(store: ArtifactStore, runs: int, *, is_partitioned: bool) -> None:
    contents = runs * _PER_RUN * 2 // 5
    statement = _FILL.format(
        now=_NOW, contents=contents, per_pack=_PER_PACK, per_run=_PER_RUN, runs=runs,
        paths=_PATHS, versions=_VERSIONS,
    )  # fmt: skip
    with store.context.database.writing() as connection:
        if is_partitioned:
            _run(connection, _PARTITION.read_text())
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        # The rows refer to each other as they should.
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.execute(tables.sessions.insert().values(id=1, name="s", created_at=_NOW))
        shared = {"session_id": 1, "revision": _VERSIONS, "created_at": _NOW}
        rows = [{"id": run, "name": f"run-{run}", **shared} for run in range(1, runs + 1)]
        connection.execute(tables.runs.insert(), rows)
        shared = {"unchanged": 0, "bytes_read": 0, "bytes_stored": 0, "created_at": _NOW}
        connection.execute(
            tables.snapshots.insert(),
            [
                {"run_id": run, "number": number, **shared}
                for run in range(1, runs + 1)
                for number in range(1, _VERSIONS + 1)
            ],
        )
        _run(connection, statement)
    with store.context.database.engine.connect() as connection:
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        alone.exec_driver_sql("SET statement_timeout = 0")
        alone.exec_driver_sql("VACUUM ANALYZE")


def _run(connection: Connection, statements: str) -> None:
    """Run statements in which % is no parameter."""
    driver: Any = connection.connection.driver_connection
    driver.execute(statements)


def _questions(store: ArtifactStore, run_id: int) -> dict[str, Callable[[], object]]:
    database, session = store.context.database, store.session("s")
    run = session.run(f"run-{run_id}")
    path = "step_7/output/result_7.csv"
    digests = [Digest(sha256(b"%d" % number).digest()) for number in range(1000)]
    listed = run.files()
    chosen = listed[len(listed) // 2]
    digest, file_id = str(chosen.digest), chosen.id
    ids = [version.id for version in listed[:1000]]

    def read(work: Callable[[Connection], object]) -> Callable[[], object]:
        return lambda: database.read(work)

    def undone(work: Callable[[Connection], object]) -> Callable[[], None]:
        def ask() -> None:
            with _undone(store) as connection:
                work(connection)

        return ask

    def candidates(connection: Connection) -> object:
        until = liveness.find_bound(connection, liveness.FIRST, 1000) or liveness.LAST
        return liveness.list_candidates(connection, liveness.FIRST, until, untouched_since=_NOW)

    return {
        "the state that a scan compares with": read(
            lambda connection: current.load_current(connection, run_id)
        ),
        "the files of a run": run.files,
        "the files at a snapshot": lambda: run.files(at=3),
        "one file": lambda: find_file(database, run.key, path),
        "one file and the place of its bytes": lambda: find_placed(database, run.key, path),
        "the history of a path": lambda: run.history(path),
        "which of 1,000 digests are stored": read(
            lambda connection: blobs.find_known(connection, digests)
        ),
        "ending 1,000 versions": undone(
            lambda connection: files.end_versions(connection, ids, _VERSIONS + 1)
        ),
        "who made these bytes": lambda: session.producers(digest),
        "a file by its id": lambda: find_in_session(database, "s", file_id=file_id),
        "which of 1,000 blobs nothing needs": read(candidates),
        "deleting a run": undone(lambda connection: deletion.delete_runs(connection, [run_id])),
    }


@contextmanager
def _undone(store: ArtifactStore) -> Iterator[Connection]:
    with store.context.database.engine.connect() as connection, closing(connection.begin()):
        yield connection


def _explain(store: ArtifactStore, ask: Callable[[], object]) -> str:
    """Return the plan of the slowest statement of a question."""
    engine = store.context.database.engine
    seen: list[tuple[float, str, Any]] = []

    def before(*_: object) -> None:
        seen.append((time.perf_counter(), "", None))

    def after(_c: object, _d: object, statement: str, parameters: Any, *_: object) -> None:
        seen[-1] = (time.perf_counter() - seen[-1][0], statement, parameters)

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    try:
        ask()
    finally:
        event.remove(engine, "before_cursor_execute", before)
        event.remove(engine, "after_cursor_execute", after)
    asked = [each for each in seen if re.search("cas_files|cas_blobs", each[1])]
    _, statement, parameters = max(asked, key=lambda each: each[0])
    with _undone(store) as connection:
        explained = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) {statement}", parameters
        ).scalar_one()
        found = connection.exec_driver_sql(
            "SELECT part.relname, whole.relname FROM pg_inherits"
            " JOIN pg_class AS part ON part.oid = inhrelid"
            " JOIN pg_class AS whole ON whole.oid = inhparent"
        ).all()
    return "\n".join(_plan(explained[0]["Plan"], dict(map(tuple, found))))


def _plan(node: dict[str, Any], wholes: dict[str, str]) -> tuple[str, ...]:
    """Return the lines of a plan without what was not executed; partitions alike are one line."""
    if not node["Actual Loops"]:
        return ()
    parts = [lines for child in node.get("Plans", ()) if (lines := _plan(child, wholes))]
    index, table = node.get("Index Name"), node.get("Relation Name")
    condition = node.get("Index Cond") or node.get("Recheck Cond") or node.get("Hash Cond")
    line = node["Node Type"]
    if index:
        line += f" using {wholes.get(index, index)}"
    if table in wholes:
        line += f" on {_ONE} of {wholes[table]}"
    elif table:
        line += f" on {table}"
    if condition:
        line += ": " + re.sub(r"'(\\x|\{)[^']*'|::\w+(\[\])?|_\d+(?=\.)", _shorter, condition)
    alike = [_together(lines, len(list(same))) for lines, same in groupby(sorted(parts))]
    if node["Node Type"] == "Append" and len(alike) == 1:
        return alike[0]
    if node["Node Type"] != "Append":
        alike = [_together(lines, len(list(same))) for lines, same in groupby(parts)]
    return (line[:_WIDTH], *(f"  {each}" for lines in alike for each in lines))


def _together(lines: tuple[str, ...], count: int) -> tuple[str, ...]:
    return lines if count == 1 else tuple(x.replace(_ONE, f"{count} partitions") for x in lines)


def _shorter(found: re.Match[str]) -> str:
    return "…" if found[0].startswith("'") else ""


def main() -> None:
    """Ask the question."""
    parser = command_line(__doc__, ("partitions",))
    parser.add_argument("--versions", type=int, default=10_000_000)
    options = parser.parse_args()
    with publication("partitions", "Partitions", options, PACKAGES) as page:
        page.ask({"partitions": partial(partitions, page.work, options.versions, options.rounds)})


if __name__ == "__main__":
    main()
