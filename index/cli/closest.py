"""Labels that may be meant by one that no file has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from index.cli.options import LABELS
from index.cli.terminal import printable
from index.domain.listing import closest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from index.api.run import Run
    from index.api.session import Session
    from index.api.store import ArtifactStore

__all__ = ["or_closest_labels"]

T = TypeVar("T")


def or_closest_labels(
    rows: Iterable[T], owner: Run | Session | ArtifactStore, selection: Mapping[str, Any]
) -> Iterator[T]:
    """Yield rows; if there are none, say on standard error which labels no file ever had."""
    is_empty = True
    for row in rows:
        is_empty = False
        yield row
    quiet = click.get_current_context().find_root().params.get("quiet")
    for option, label in LABELS.items() if is_empty and not quiet else ():
        wanted = selection.get(label)
        if wanted is None:
            continue
        known = [group.labels[label] for group in owner.stats_by(label)]  # type: ignore[arg-type]  # its literals
        if wanted in known:
            continue
        near = closest(wanted, (name for name in known if name is not None))
        names = ", ".join(map(repr, near))
        more = f"; the closest {'is' if len(near) == 1 else 'are'} {names}" if near else ""
        click.echo(printable(f"no file has the {option} {wanted!r}{more}"), err=True)
