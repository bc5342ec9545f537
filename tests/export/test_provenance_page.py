"""The page about provenance documents runs as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from judges import check_event
from prov.model import ProvDocument

PAGE = Path(__file__).parents[2] / "docs" / "provenance-documents.md"


def test_the_page_runs_as_printed(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAS_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    for language, block in blocks:
        program = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*program, block],
            env={**kept, "PATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (block, done.stderr)
    steps = json.loads((tmp_path / "crate" / "ro-crate-metadata.json").read_bytes())["@graph"]
    (plot,) = (each for each in steps if each["@id"] == "#activity/node/plot")
    assert plot["object"] == {"@id": "files/data/signal.csv"}
    assert plot["result"] == {"@id": "files/plots/decay.svg"}
    assert "plotter" in (tmp_path / "run-7.provn").read_text()
    for name in ("events.jsonl", "hidden.jsonl"):
        for line in (tmp_path / name).read_text().splitlines():
            check_event(json.loads(line))
    hidden = (tmp_path / "hidden.provn").read_text()
    assert "plotter" not in hidden
    assert len(list(ProvDocument.deserialize(content=hidden, format="provn").records)) > 10
    agents = re.compile(r"agent-[0-9a-f]{10}|run-[0-9a-f]{10}")
    crate = (tmp_path / "hidden-crate" / "ro-crate-metadata.json").read_text()
    assert set(agents.findall((tmp_path / "hidden.jsonl").read_text())) <= set(
        agents.findall(crate)
    )
