"""The page about moving over runs as printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from consoles import play, steps_of
from sources import commit, unpack
from trees import write

PAGE = (Path(__file__).parents[1] / "docs" / "moving-over.md").read_text()


@pytest.mark.slow
def test_the_page_runs_as_printed(tmp_path):
    commit(tmp_path / "project", "Begin", {"analysis.py": b"print('fit the samples')\n"})
    commit(tmp_path / "project", "Plot it", {"plot.py": b"print('plot')\n"})
    commit(tmp_path / "project", "More", {"analysis.py": b"print('fit all samples twice')\n"})
    unpack("dvc3", tmp_path).rename(tmp_path / "dvc-project")
    unpack("mlflow", tmp_path)
    (tmp_path / "files" / "mlruns").rename(tmp_path / "mlruns")
    write(
        tmp_path / "results",
        {
            "step_1/load.csv": b"x,y\n1\n",
            "step_2/load.csv": b"x,y\n1\n",
            "step_2/fit.csv": b"a,b\n2\n",
            "step_10/fit.csv": b"a,b\n3\n",
        },
    )
    play(PAGE, tmp_path)


def test_each_source_has_a_section():
    commands = [command for command, _ in steps_of(PAGE) if command.startswith("cas import ")]
    assert {command.split()[2] for command in commands} == {
        "results/",
        "project/",
        "dvc-project/",
        "mlruns/",
        "server/",
    }
