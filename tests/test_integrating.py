"""The pages for workflow engines run as printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine

from index import ArtifactStore

DOCS = Path(__file__).parents[1] / "docs"
CODE = re.compile(r"^( *)```(python|sh)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


LARGE = "import torch"
"""What takes gigabytes, and no extra installs. Its block runs where it is installed."""


def run_page(name):
    """Run the blocks of a page in order in the current directory; return the last names."""
    names = {}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = CODE.findall((DOCS / name).read_text())
    for number, (_, language, text) in enumerate(found, 1):
        block = textwrap.dedent(text)
        if block.startswith(LARGE) and find_spec("torch") is None:
            continue
        if language == "sh":
            done = subprocess.run(
                ["bash", "-euc", block],
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            names.setdefault("printed", []).append(done.stdout)
        else:
            assert re.search(r"^ *assert ", block, re.MULTILINE), block
            exec(compile(block, f"{name}, block {number}", "exec"), names)  # noqa: S102
    return names


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_from_nothing_to_tracked():
    names = run_page("integrating.md")
    nodes = [update.node_id for update in names["events"]]
    assert nodes == ["planning", "planning", "planning", "step_4"]
    (listed,) = names["printed"]
    assert [line.split()[-1] for line in listed.splitlines()] == [
        "data/table.csv",
        "(final)",
        "uploads/logo.svg",
    ]
    engine = create_engine("sqlite:///engine.db")
    with engine.connect() as connection:
        options = {"include_name": names["include_name"]}
        context = MigrationContext.configure(connection, opts=options)
        (ours,) = compare_metadata(context, MetaData())  # changes that Alembic would make
    engine.dispose()
    assert (ours[0], ours[1].name) == ("remove_table", "steps")
    with ArtifactStore.open(index="sqlite:///engine.db", blobs="artifacts", create=False) as store:
        assert store.runs() == []


def test_from_the_old_trackers():
    names = run_page("from-the-old-trackers.md")
    adopted, shown = names["printed"]
    assert "1 run: 2 files adopted, 1 kept without bytes" in adopted
    *listed, logged = shown.splitlines()
    assert [line.split()[-1] for line in listed] == ["data/table.csv", "planning/plan.json"]
    assert logged.split()[:2] == ["1", "1..2"]
    engine = create_engine("sqlite:///app.db")
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT id, file_path FROM files").all()
    engine.dispose()
    assert [row.id for row in rows] == [1, 2, 3]
    assert rows[2].file_path == str(names["tasks"] / "run-1" / "data" / "lost.csv")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of other libraries are not ours
def test_every_library_reads_and_writes_by_url(monkeypatch):
    for name in ("CAS_STORE", "CAS_INDEX", "CAS_BLOBS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", os.getcwd())
    names = run_page("reading.md")
    agents = {version.agent for version in names["run"].files(prefix="analysis/summary")}
    assert agents == {"analyst"}
    names["connection"].close()
    names["store"].close()
