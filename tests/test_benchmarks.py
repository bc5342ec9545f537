"""The benchmarks run, with tiny data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("hash", "track", "chunks", "verify", "gc", "partitions", "remote")


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_and_writes_its_page(name, tmp_path):
    done = run(name, "--quick", "--work", tmp_path, "--results", tmp_path / "results")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "results" / f"bench_{name}.md").read_text()
    assert page.startswith("# ")
    assert "commit" in page


def test_the_command_knows_all_of_them():
    told = run("--help")
    assert all(name in told.stdout for name in NAMES)
    assert {f"bench_{name}" for name in NAMES} == {
        path.stem for path in (ROOT / "benchmarks").glob("bench_*.py")
    }


def test_a_quick_run_replaces_no_results(tmp_path):
    refused = run("--quick")
    assert refused.returncode == 2
    assert "--results" in refused.stderr
    assert run("speed").returncode == 2
