"""Completion of names in shells. It says nothing, whatever happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from click import Context, Parameter
    from click.shell_completion import CompletionItem

__all__ = ["completing", "files_on_disk"]

_WAIT_S: Final = 1.0
"""Seconds that somebody who pressed a key waits for a lock, or a server that is down."""


def completing(*kinds: str) -> Callable[[Context, Parameter, str], list[str]]:
    """Return what completes an option or argument with names of these kinds; see `list_names`."""

    def found(context: Context, _parameter: Parameter, begin: str) -> list[str]:
        try:
            return _names(context, kinds, begin)
        except Exception:  # noqa: BLE001 - no message may appear in the line that is typed
            return []

    return found


def files_on_disk(
    _context: Context, _parameter: Parameter, begin: str
) -> list[CompletionItem[str]]:
    """Let the shell complete names of files."""
    from click.shell_completion import CompletionItem  # no command needs it

    return [CompletionItem(begin, type="file")]


def _names(context: Context, kinds: tuple[str, ...], begin: str) -> list[str]:
    import logging
    from contextlib import closing

    from index.cli.location import StoreLocation
    from index.cli.settings import setting
    from index.reading.completion import list_names

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # a message would stand in what is typed
    try:
        root, given = context.find_root().params, context.params
        location = StoreLocation(root.get("store"), root.get("index"), root.get("blobs"))
        with closing(location.open_database(lock_wait=_WAIT_S, database_wait=_WAIT_S)) as database:
            if not database.exists():  # to connect would create it
                return []
            several = given.get("sessions") or (setting("session")(),)
            session = given.get("session_id") or several[0] or "default"
            run = given.get("run_id") or setting("run")()
            found = list_names(database, kinds, begin, session=session, run=run)
    finally:
        logging.disable(before)
    return [name for name in found if name.isprintable()]
