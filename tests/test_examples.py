"""The examples run as printed, and assert what they claim."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_workflow_of_ten_steps_from_plan_to_deletion(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "ten_steps.py", tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "session task-2 is whole" in done.stdout
    assert done.stdout.count("event: node") == 12


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of other libraries are not ours
def test_the_notebook_runs_and_shows_its_results(tmp_path, monkeypatch):
    for name in ("CAS_STORE", "CAS_INDEX", "CAS_BLOBS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    cells = json.loads((EXAMPLES / "analysis.ipynb").read_text())["cells"]
    names, shown = {}, []
    for cell in cells:
        if cell["cell_type"] == "code":
            *body, last = ast.parse("".join(cell["source"])).body
            exec(compile(ast.Module(body, []), cell["id"], "exec"), names)  # noqa: S102
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)  # noqa: S307
                shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
            else:
                exec(compile(ast.Module([last], []), cell["id"], "exec"), names)  # noqa: S102
    page = "".join(shown)
    assert "snapshot 2" in page
    assert "1 changed" in page or "2 changed" in page
    assert "('decay', 'results/rates.parquet', 'analyst')" in page
    assert names["fitted"][1][1] > names["fitted"][0][1]
    assert not any(cell.get("outputs") for cell in cells)
    names["connection"].close()
    names["store"].close()
