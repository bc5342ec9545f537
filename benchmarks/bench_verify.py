"""What it costs to verify a store: every byte against hashing the packs, and a million rows.

    python benchmarks/bench_verify.py
    python benchmarks/bench_verify.py --only small --files 2000 --large-gib 0.1 --rounds 1

Verifying decompresses, and hashes each blob by itself; large blobs are put together and hashed once
more. ``b3sum`` of the same packs hashes the stored bytes once; where it is not on PATH a loop that
reads 1 MiB and hashes it on one thread stands for it. A bare loop on all cores (`floor.py`) decodes
and hashes all that must be, without an index: verification can take no less.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Final

from datasets import warm
from floor import decode_and_hash, look_at
from listing import indexed_runs
from measure import MIB, Answer
from pages import command_line, publication
from peers import described, version_of
from sources import Sources
from sqlalchemy import text

from cas.digest import Hasher
from index import ArtifactStore
from index.db.queries import row_checks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PACKAGES: Final = ("runcas", "blake3", "zstandard", "SQLAlchemy")
OURS, HASHED, PACKS = "every byte", "hash of the packs", "footers"
BARE: Final = "a bare loop that decodes and hashes"
ROWS: Final = "rows among themselves"
_RUNS: Final = 100


def hash_packs(packs: Sequence[Path]) -> None:
    """Hash packs by ``b3sum`` on one thread, or by a loop that does what it does."""
    if version_of("b3sum"):
        command = ["b3sum", "--num-threads=1", *map(str, packs)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return
    for pack in packs:
        hasher = Hasher()
        with pack.open("rb", buffering=0) as file:
            while data := file.read(MIB):
                hasher.update(data)
        hasher.digest()


def ask_bytes(kind: str, sources: Sources, work: Path, rounds: int) -> Answer:
    """Verifying every byte of one data set."""
    source, subject = sources.find(kind)
    answer = Answer(kind, subject, rounds)
    root = work / f"store-{kind}"
    with ArtifactStore.open(root) as store:
        store.session("s").run("r").track(source)
        packs = sorted(root.glob("packs/*/*.pack"))
        count, size = warm(root / "packs")
        bare = look_at(packs)
        for _ in range(rounds):
            with answer.timed(OURS):
                report = store.verify(depth="bytes")
            with answer.timed(HASHED):
                hash_packs(packs)
            with answer.timed(BARE):
                decode_and_hash(bare, twice=kind == "large")
            with answer.timed(PACKS):
                store.verify(depth="packs")
            assert report.is_sound  # noqa: S101 - what is measured must be right
    shutil.rmtree(root)
    answer.remarks.append(
        f"{size / 1e6:,.0f} MB in {count} packs, {report.blobs_read:,} blobs;"
        f" every byte at {size / 1e6 / answer.series[OURS].median:,.0f} MB/s as stored,"
        f" hashing alone at {size / 1e6 / answer.series[HASHED].median:,.0f} MB/s."
    )
    answer.compare("verify --depth bytes", OURS, HASHED, 1.15)
    answer.compare("verify --depth bytes", OURS, BARE)
    return answer


def ask_rows(work: Path, rounds: int, rows: int) -> Answer:
    """Checking as many file versions and blobs against each other."""
    files = rows // _RUNS
    answer = Answer("rows", f"{_RUNS} runs of {files:,} files, all different", rounds)
    root = work / "rows"
    indexed_runs(root, runs=_RUNS, files=files)
    with ArtifactStore.open(root) as store:
        database = store.context.database
        with database.writing() as connection:  # the places of a pack that could be
            connection.execute(text("UPDATE cas_packs SET size = 1 << 40"))
            connection.execute(
                text(
                    "UPDATE cas_blobs SET pack_offset = 32 + 4096 * numbered.n FROM"
                    " (SELECT digest AS d, row_number() OVER () AS n FROM cas_blobs) AS numbered"
                    " WHERE digest = numbered.d"
                )
            )
        for _ in range(rounds):
            with answer.timed(ROWS), database.reading() as connection:
                found = list(row_checks.find_unsound(connection))
                row_checks.count_without_list(connection)
            assert not found  # noqa: S101 - what is measured must be right
    shutil.rmtree(root)
    return answer


def main() -> None:
    """Ask the questions."""
    parser = command_line(__doc__, ("small", "large", "rows"))
    parser.add_argument("--files", type=int, default=20_000, help="small files")
    parser.add_argument("--large-gib", type=float, default=0.25, help="each of four large files")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of versions and of blobs")
    options = parser.parse_args()
    with publication("verify", "Verification", options, PACKAGES) as page:
        work, rounds = page.work, options.rounds
        sources = Sources(work, files=options.files, large_gib=options.large_gib)
        page.about.update(described({"b3sum": version_of("b3sum")}))
        page.ask(
            {
                "small": partial(ask_bytes, "small", sources, work, rounds),
                "large": partial(ask_bytes, "large", sources, work, rounds),
                "rows": partial(ask_rows, work, rounds, options.rows),
            }
        )


if __name__ == "__main__":
    main()
