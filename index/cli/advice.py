"""Advice in errors: the library names its calls, and the command line the commands for them."""

from __future__ import annotations

from typing import Final

__all__ = ["COMMANDS", "in_commands"]

COMMANDS: Final = {
    "`store.repair(DIR)`": "`cas repair --from DIR`",
    "`store.repair()`": "`cas repair`",
    "`store.verify()`": "`cas verify`",
    "`store.runs()`": "`cas runs`",
    "`session.runs()`": "`cas runs`",
    "`run.files()`": "`cas ls -R`",
    "`store.back_up()`": "`cas backup`",
    "`store.plan_gc().execute()`": "`cas gc`",
    "`run.restore(DIR)`": "`cas restore --to DIR`",
    "`run.tags()`": "`cas tag`",
    "`session.untag_run(…)`": "`cas tag --whole-run -d TAG`",
    "`force=True`": "`--force`",
    "`release_hold(REASON)`": "`cas hold REASON --release`",
    "`session.plan_retention(…)`": "`cas prune`",
    "`run.put(…)`": "`cas put`",
    "`index.recover(…)`": "`cas recover`",
    "`ArtifactStore.open(…)`": "`cas init` or `cas track DIR`",
    "`overwrite=True`": "`--overwrite`",
    "`session.run(…)`": "`--run`",
    "`same_directory=False`": "`--moved`",
    "repeat the call": "run the command again",
}
"""Commands by what the library's errors say in their place. A test finds each in an error."""


def in_commands(text: str) -> str:
    """Return what the library says, with commands in place of its calls."""
    for call, command in COMMANDS.items():
        text = text.replace(call, command)
    return text
