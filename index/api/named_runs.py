"""Runs as callers name them: by id, or by a tag of the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.db.queries import names, run_tags
from index.domain.names import RunKey, check_id
from index.domain.tags import check_tag

if TYPE_CHECKING:
    from index.context import StoreContext
    from index.domain.names import Label

__all__ = ["key_of"]


def key_of(context: StoreContext, session: str, run_id: Label) -> RunKey:
    """Return the key of a run. ``@TAG`` is the run that the tag names now; an id needs no look.

    Raises
    ------
    InvalidNameError
        When it is no valid id or tag.
    UnknownRunError
        When the session has no such tag.
    """
    if not (isinstance(run_id, str) and run_id.startswith("@")):
        return RunKey(session, check_id("run", run_id))
    tag = check_tag(run_id[1:])
    with context.database.reading() as connection:
        found = run_tags.find_run_name(connection, session, tag)
        if found is None:
            raise names.unknown_run(connection, session, run_id)
    return RunKey(session, found)
