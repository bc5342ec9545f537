"""The benchmarks run, with tiny data, and their pages say what was measured."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[1]
NAMES = tuple(runpy.run_path(str(ROOT / "benchmarks" / "suite.py"))["QUICK"])


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture
def parts(monkeypatch):
    """The modules of the benchmarks by name, as their scripts import them."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def part(name):
        return __import__(name)

    before = set(sys.modules)
    yield part
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", "") or "").parent == ROOT / "benchmarks":
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_and_writes_its_page(name, tmp_path):
    done = run(name, "--quick", "--work", tmp_path, "--results", tmp_path / "results")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "results" / f"bench_{name}.md").read_text()
    assert page.startswith("# ")
    assert "commit" in page
    held = json.loads((tmp_path / "results" / f"bench_{name}.json").read_text())
    for question, answer in held["questions"].items():
        assert answer["series"] or answer["skipped"], question
        assert answer["command"].startswith(f"python -m benchmarks {name} -- --only ")
    for chart in (tmp_path / "results").glob("chart_*.svg"):
        assert ET.parse(chart).getroot().tag.endswith("svg")  # noqa: S314 - it is our own


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
    assert run("hash", "gc", "--", "--rounds", "1").returncode == 2


def test_a_page_keeps_what_is_not_asked_again(tmp_path):
    for only, resume in (("single", []), ("random", []), ("random", ["--resume"])):
        arguments = ("read", "--quick", *resume, "--results", tmp_path, "--", "--only", only)
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        assert (f"read: {only}" in done.stdout) == (not resume)
    held = json.loads((tmp_path / "bench_read.json").read_text())
    assert list(held["questions"]) == ["single", "random"]
    assert "## single" in (tmp_path / "bench_read.md").read_text()


def test_a_ratio_is_the_median_of_those_of_the_rounds(parts):
    answer = parts("measure").Answer("q", "s", 3)
    for ours, theirs in ((1.0, 2.0), (30.0, 10.0), (4.0, 4.0)):  # a slow round slows both
        answer.note("ours", ours)
        answer.note("ours", ours)
        answer.note("theirs", theirs)
    answer.compare("work", "ours", "theirs", 1.0)
    answer.limit("work", "ours", 8.0, "s")
    against, fixed = (answer.ratios(wanted) for wanted in answer.comparisons)
    assert against == (1.0, 0.5)
    assert fixed == (0.5, 0.125)


def test_ways_take_turns_and_change_places(parts):
    answer = parts("measure").Answer("q", "s", 2)
    seen = []
    answer.take_turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")})
    assert seen == ["a", "b", "b", "a"]
    assert [len(answer.series[name].values) for name in "ab"] == [2, 2]


def test_answers_come_back_from_their_file(parts, tmp_path):
    measure, pages = parts("measure"), parts("pages")
    answer = measure.Answer("q", "s", 1, command="c", measured="m", remarks=["r"])
    answer.note("ours", 2.0)
    answer.limit("work", "ours", 1.0, "s")
    path = tmp_path / "bench.json"
    path.write_text(pages.as_json({"commit": "1"}, [answer]))
    assert pages.answers_in(path) == {"q": answer}
    assert "**missed**" in pages.report("T", {"commit": "1"}, [answer])


def test_peers_that_are_not_installed_are_named(parts, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BENCHMARK_PEERS", str(tmp_path / "no-python"))
    peers = parts("peers")
    found = peers.Peers(tmp_path)
    assert not found.here
    assert peers.described(found.versions) == {
        "compared with": "nothing",
        "not installed": "cp, tar, rsync, restic, borg, git, DVC, disk-objectstore, hashfs,"
        " casync, mksquashfs",
    }


def test_charts_can_be_told_apart_without_colour(parts):
    svg = parts("svg")
    names = [f"name {n}" for n in range(8)]
    drawn = svg.lines("T", "s", {n: [(1, 1), (10, 5)] for n in names}, str, str)
    marks = re.findall(r'transform="[^"]+" d="([^"]+)"', drawn)
    dashes = re.findall(r'stroke-dasharray="([^"]*)"', drawn)
    assert len(set(marks)) == len(set(dashes)) == len(names)
    assert "prefers-color-scheme:dark" in drawn
    assert svg.lines("T", "s", {}, str, str) == svg.dots("T", "s", {}, str) == ""
