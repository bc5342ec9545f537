"""The examples run as printed, and assert what they claim."""

from __future__ import annotations

import ast
import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
DOCS = Path(__file__).parents[1] / "docs"


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


def of_every_run(text):
    """Return the lines of a screen without what differs from one run to the next."""
    return [re.sub(r"\d+ s ago|\d+ B", "N", line).rstrip() for line in text.splitlines()]


def test_the_picture_shows_what_the_example_of_three_steps_prints():
    draw = [sys.executable, DOCS / "draw_screen.py", "--text"]
    printed = subprocess.run(draw, capture_output=True, text=True, check=True).stdout
    assert printed.count("$ cas") == 4
    picture = (DOCS / "three_steps.svg").read_text()
    assert "http://" not in picture.replace("http://www.w3.org/2000/svg", "")
    rows = {}
    for y, text in re.findall(
        r'<text class="screen-r\d+"[^>]* y="([\d.]+)"[^>]*>([^<]*)<', picture
    ):
        rows[float(y)] = rows.get(float(y), "") + html.unescape(text).replace("\xa0", " ")
    shown = "\n".join(rows[y] for y in sorted(rows))
    assert of_every_run(shown.replace("\n\n", "\n")) == of_every_run(printed)


def test_the_example_of_three_steps_replaces_nothing(tmp_path):
    (tmp_path / "demo").mkdir()
    script = ["sh", EXAMPLES / "three_steps.sh", tmp_path / "demo"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert (done.returncode, list((tmp_path / "demo").iterdir())) == (1, [])
    assert "name another directory" in done.stderr


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
