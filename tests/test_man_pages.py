"""The man pages say what `--help` says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from index.cli.commands import cas as group

SCRIPT = Path(__file__).parents[1] / "docs" / "man_pages.py"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The directory of the pages."""
    folder = tmp_path_factory.mktemp("man") / "man1"
    subprocess.run([sys.executable, SCRIPT, folder], check=True)
    return folder


def test_there_is_a_page_for_each_command(pages):
    names = {f"cas-{name}.1" for name in group.list_commands(None)}
    names |= {f"cas-db-{name}.1" for name in ("check", "current", "upgrade")}
    assert {page.name for page in pages.iterdir()} == {"cas.1", *names}


def test_a_page_has_the_options_and_examples_of_the_help(pages):
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        page = (pages / f"cas-{name}.1").read_text().replace("\\-", "-").replace("\\e", "\\")
        page = page.replace("\\[u2026]", "…")
        for option in command.params:
            if option.param_type_name == "option" and not option.hidden:
                assert option.opts[-1] in page, (name, option.opts)
        for example in re.findall(r"(?m)^ {4}(cas .*)$", command.help or ""):
            assert f"\n{example}\n" in page, example
    assert "\b" not in "".join(page.read_text() for page in pages.iterdir())


def test_the_pages_are_correct(pages):
    """Judged by groff, where there is one: it warns of requests that it does not know."""
    groff = shutil.which("groff")
    for page in pages.iterdir():
        lines = page.read_text().splitlines()
        assert lines.count(".nf") == lines.count(".fi")
        known = re.compile(r"\.(TH|SH|PP|B|TP|nf|fi)\b")
        assert all(known.match(line) for line in lines if line.startswith(".")), page.name
        if groff is not None:
            command = [groff, "-man", "-Tutf8", "-ww", "-z", page]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            assert done.stderr == "", page.name
