"""Break the library in one place at a time, and show that a test fails for each.

    python tests/mutations/check.py                 all mutations; print the table
    python tests/mutations/check.py synced session  those whose name has one of these words
    python tests/mutations/check.py --record        all; also put the table into the docs

Each mutation is made in a copy of the tree. There its tests, listed in `table.py`, run on SQLite
and local blobs. First all of them run without a mutation: a test that fails then is left out, since
it would fail for every mutation. The exit code is 1 if a mutation survives, or if a test was left
out. It takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from table import MUTATIONS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- mutations -->\n", "<!-- /mutations -->\n"
COPIED = ("cas", "index", "migrations", "tests", "docs", "examples", "pyproject.toml", "README.md")
ONE_PLACE = "not postgresql and not s3"
LONGEST_S = 600
NOTICED = "noticed"
TESTS_FAILED = 1
"""pytest's exit code for failed tests. Higher ones mean that they could not run."""


def copy_tree(target):
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copyfile(source, target / name)


def run_tests(tree, tests, *options):
    """Return pytest's exit code (None after a time-out), the failed tests, and the output."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", ONE_PLACE]
    with tempfile.TemporaryDirectory(prefix="runcas-tests-") as folder:
        try:
            done = subprocess.run(
                [*command, f"--basetemp={folder}/t", *options, *tests],
                cwd=tree,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LONGEST_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, ["it never comes to an end"], ""
    failed = re.findall(r"^(?:FAILED|ERROR) (tests/\S+)", done.stdout, re.MULTILINE)
    return done.returncode, failed, done.stdout[-2000:] + done.stderr[-2000:]


def is_the_copy(tree):
    """Return whether tests import the copy."""
    told = subprocess.run(
        [sys.executable, "-c", "import cas, index; print(cas.__file__, index.__file__)"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=True,
    )
    return all(Path(name).is_relative_to(tree) for name in told.stdout.split())


def check(mutation, tree, left_out):
    """Return the outcome, and the test that noticed."""
    file = tree / mutation.file
    before = file.read_text()
    if before.count(mutation.old) != 1:
        return "DOES NOT APPLY", ""
    file.write_text(before.replace(mutation.old, mutation.new))
    try:
        code, failed, said = run_tests(tree, mutation.tests, "-x", *left_out)
    finally:
        file.write_text(before)
    if code == 0:
        return "SURVIVED", ""
    if code not in (TESTS_FAILED, None) or not failed:
        return "COULD NOT RUN", said
    return NOTICED, failed[0].removeprefix("tests/")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    chosen = [m for m in MUTATIONS if not asked.words or any(w in m.name for w in asked.words)]
    lines = ["| broken | in | noticed by | s |", "|---|---|---|---:|"]
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="runcas-mutations-") as folder:
        tree = Path(folder).resolve() / "tree"
        tree.mkdir()
        copy_tree(tree)
        if not is_the_copy(tree):
            sys.exit("what is installed comes before the copy: nothing would be tested")
        whole = sorted({test for mutation in chosen for test in mutation.tests})
        code, failing, said = run_tests(tree, whole)
        if code not in (0, TESTS_FAILED) or (code and not failing):
            sys.exit(f"the tests can't be run with nothing broken: {said}")
        for test in failing:
            print(f"left out, as it fails with nothing broken: {test}", flush=True)
        left_out = [f"--deselect={test}" for test in failing]
        for mutation in chosen:
            started = time.monotonic()
            outcome, told = check(mutation, tree, left_out)
            taken = time.monotonic() - started
            wrong += outcome != NOTICED
            noticed = f"`{told}`" if outcome == NOTICED else f"**{outcome}** {told}"
            lines.append(f"| {mutation.name} | `{mutation.file}` | {noticed} | {taken:.0f} |")
            print(lines[-1], flush=True)
    print(f"{len(chosen) - wrong} of {len(chosen)} noticed")
    if asked.record and not asked.words:
        text = DOCS.read_text()
        start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
        DOCS.write_text(text[:start] + "\n".join(lines) + "\n" + text[end:])
    return 1 if wrong or left_out else 0


if __name__ == "__main__":
    sys.exit(main())
