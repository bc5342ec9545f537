"""Arguments that say which state of a run is meant: snapshots, versions and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from index.cli.terminal import printable
from index.domain.tags import check_tag
from index.errors import InvalidNameError, UnknownFileError

if TYPE_CHECKING:
    from click import Context, Parameter

    from index.api.run import Run

__all__ = ["read_snapshot", "split_version"]


def read_snapshot(_context: Context, _parameter: Parameter, value: str | None) -> int | str | None:
    """Return the number or tag of a snapshot; a callback for click options."""
    try:
        return None if value is None else _selector(value)
    except InvalidNameError as error:
        raise click.BadParameter(printable(str(error))) from error


def _selector(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else check_tag(text)


def split_version(
    run: Run, path: str, at: int | str | None
) -> tuple[str, int | None, int | str | None]:
    """Split ``PATH@VERSION`` or ``PATH@TAG``; a path may contain an ``@`` itself.

    Return the path, the number of the version and the snapshot or tag.
    """
    name, mark, text = path.rpartition("@")
    if not mark or at is not None:
        return path, None, at
    try:
        found = _selector(text)
    except InvalidNameError:
        return path, None, at
    try:
        run.history(path)
    except UnknownFileError:
        return (name, found, None) if isinstance(found, int) else (name, None, found)
    return path, None, at
