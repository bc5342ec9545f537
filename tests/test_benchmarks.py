"""The benchmarks start: all names that they import from the library exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", ["bench_track", "bench_gc", "bench_verify", "bench_remote"])
def test_a_benchmark_says_what_it_can_be_asked(name):
    told = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--results" in told.stdout
