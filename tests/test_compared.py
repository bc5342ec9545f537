"""docs/compared.md: its table is complete, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

from index.cli.commands import cas as group

PAGE = (Path(__file__).parents[1] / "docs" / "compared.md").read_text()
POINTS = PAGE.partition("## The command lines, point by point")[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in POINTS.splitlines()
    if line.startswith("|") and not line.startswith("|---")
]


def test_each_point_has_a_cell_for_each_tool():
    header, *rows = ROWS
    assert header == ["", "runcas", "restic", "DVC", "git", "kopia", "reason"]
    assert len(rows) >= 25
    for row in rows:
        assert len(row) == len(header), row
        assert all(row[:-1]), row


def test_what_runcas_lacks_and_another_has_is_given_a_reason():
    lacking = [row for row in ROWS[1:] if re.match(r"no\b", row[1])]
    assert len(lacking) >= 5
    for row in lacking:
        others = [cell for cell in row[2:-1] if not re.match(r"no\b", cell)]
        assert row[-1] or not others, row


def test_the_commands_of_the_page_exist():
    for name in re.findall(r"`cas (\w+)", PAGE):
        assert name in group.list_commands(None), name
