"""The examples run as printed, and assert what they claim."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
