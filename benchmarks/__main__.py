"""Run the benchmarks, each in a process of its own, and write their pages.

    python -m benchmarks                    all; it takes some hours
    python -m benchmarks --quick            all with tiny data: whether they run, no figures
    python -m benchmarks hash chunks        these

Programs to compare with are used if they are on PATH. The pages name what was missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
QUICK: Final = {
    "hash": ("--rounds", "1", "--files", "50", "--max-size", "65536"),
    "track": (
        *("--rounds", "1", "--files", "200", "--large-gib", "0.01"),
        *(
            "--steps",
            "2",
            "--steps-start-mib",
            "1",
            "--listing-files",
            "100",
            "--listing-runs",
            "2",
        ),
    ),
    "chunks": ("--scale", "0.01", "--only", "chat", "csv-rows", "sqlite"),
    "verify": ("--rounds", "1", "--files", "200", "--large-gib", "0.01", "--rows", "1000"),
    "gc": ("--rounds", "1", "--rows", "2000", "--bytes", "4194304"),
    "partitions": ("--rounds", "1", "--versions", "20000"),
    "remote": ("--rounds", "1", "--files", "50", "--peer-files", "50"),
}
"""For each benchmark, the options of a quick run."""


def main() -> int:
    """Run what is asked for; return 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(QUICK)}")
    parser.add_argument("--quick", action="store_true", help="with tiny data")
    parser.add_argument("--work", type=Path, help="where temporary data goes")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where pages go")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in QUICK]:
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(QUICK)}")
    if asked.quick and asked.results == HERE / "results":
        parser.error("a quick run says nothing about speed; say with --results where its pages go")
    failed = []
    for name in asked.names or QUICK:
        begun = time.monotonic()
        command = [sys.executable, str(HERE / f"bench_{name}.py"), "--results", str(asked.results)]
        command += ["--work", str(asked.work)] if asked.work else []
        done = subprocess.run([*command, *(QUICK[name] if asked.quick else ())], check=False)
        if done.returncode:
            failed.append(name)
        print(f"{name}: exit code {done.returncode}, {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
