"""Run the benchmarks, each in a process of its own, and write their pages and charts.

    python -m benchmarks                        all; it takes a day
    python -m benchmarks --resume               what has not been answered at this commit
    python -m benchmarks --quick --results DIR  all with tiny data: whether they run, no figures
    python -m benchmarks hash chunks            these
    python -m benchmarks track -- --only small  with options of that one

A page keeps the answers of earlier runs to what is not asked again. Programs to compare with are
used where they are installed; the pages name those that are not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.suite import QUICK

HERE: Final = Path(__file__).parent


def main() -> int:
    """Run what is asked for; return 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(QUICK)}")
    parser.add_argument("--quick", action="store_true", help="with tiny data")
    parser.add_argument("--resume", action="store_true", help="not what this commit has answered")
    parser.add_argument("--work", type=Path, help="where temporary data goes")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where pages go")
    given, marker, options = _split(sys.argv[1:])
    asked = parser.parse_args(given)
    if unknown := [name for name in asked.names if name not in QUICK]:
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(QUICK)}")
    if marker and len(asked.names) != 1:
        parser.error("options after -- are those of one benchmark; name it")
    if asked.quick and asked.results == HERE / "results":
        parser.error("a quick run says nothing about speed; say with --results where its pages go")
    failed = [name for name in asked.names or QUICK if not _run(name, asked, options)]
    drawing = [sys.executable, str(HERE / "overview.py"), str(asked.results)]
    return 1 if subprocess.run(drawing, check=False).returncode or failed else 0


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return arguments, False, []
    at = arguments.index("--")
    return arguments[:at], True, arguments[at + 1 :]


def _run(name: str, asked: argparse.Namespace, options: list[str]) -> bool:
    begun = time.monotonic()
    command = [sys.executable, str(HERE / f"bench_{name}.py"), "--results", str(asked.results)]
    command += ["--work", str(asked.work)] if asked.work else []
    command += ["--resume"] if asked.resume else []
    command += [*QUICK[name].split()] if asked.quick else []
    environment = {**os.environ, **({"BENCHMARK_QUICK": "1"} if asked.quick else {})}
    done = subprocess.run([*command, *options], check=False, env=environment)
    print(f"{name}: exit code {done.returncode}, {time.monotonic() - begun:.0f} s", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
