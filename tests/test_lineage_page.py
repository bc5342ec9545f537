"""What docs/lineage.md shows is what the commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from index import ArtifactStore

PAGE = (Path(__file__).parents[1] / "docs" / "lineage.md").read_text()
CONSOLE = "".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def recorded(cas, tmp_path):
    """The two runs that the page speaks of."""
    with ArtifactStore.open(tmp_path / ".cas") as store:
        one, two = (store.session("default").run(name) for name in ("run-7", "run-8"))
        one.put("data/raw.csv", b"raw", node_id="load")
        one.put("data/table.csv", b"draft")
        one.use("data/raw.csv", node_id="clean")
        one.put("data/table.csv", b"table", node_id="clean", agent="engineer")
        two.use(one["data/table.csv"], node_id="plot", agent="plotter")
        two.put("plots/figure.png", b"png", node_id="plot", agent="plotter")
    return cas


def test_the_commands_print_what_the_page_shows(recorded, tmp_path):
    shown = [part.partition("\n") for part in CONSOLE.split("$ ")[1:]]
    assert len(shown) == 3
    for command, _, expected in shown:
        if command == "cas stale":
            with ArtifactStore.open(tmp_path / ".cas") as store:
                store.session("default").run("run-7").put("data/raw.csv", b"new")
        code, out, err = recorded(*shlex.split(command)[1:])
        pattern = (
            re.escape(expected).replace("…", "[0-9a-f]+").replace("4f1f", "").replace("a0b3", "")
        )
        assert (code, err) == (0, ""), command
        assert re.fullmatch(pattern, out), (command, out)
