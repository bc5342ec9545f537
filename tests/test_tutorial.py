"""The tutorial runs as printed, and shows what it prints."""

from __future__ import annotations

from pathlib import Path

from consoles import play, steps_of

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()


def test_the_tutorial_runs_as_printed(tmp_path):
    there = "/tmp/mail-attachment.md"  # noqa: S108 - replaced
    assert len(steps_of(PAGE)) > 40
    play(PAGE.replace(there, str(tmp_path / "mail-attachment.md")), tmp_path)


def test_the_tutorial_uses_the_commands_that_beginners_need():
    used = {command.split()[1] for command, _ in steps_of(PAGE) if command.startswith("cas ")}
    assert {"track", "ls", "log", "who", "restore", "diff", "fork", "rm", "gc", "verify"} <= used
