"""The page for workflow engines runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "integrating.md"


def test_every_block_of_the_page_runs_in_order(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 6
    work = tmp_path / "work"
    work.mkdir()
    names = {"folder": tmp_path, "work": work}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, block {number + 1}", "exec"), names)  # noqa: S102
