"""The arguments of a listing of files, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from index.db.queries import listings
from index.db.queries.listings import Position
from index.domain.listing import (
    check_filters,
    check_limit,
    check_order,
    compile_glob,
    literal_prefix,
)
from index.domain.names import check_path, check_prefix
from index.domain.snapshots import FileVersion

if TYPE_CHECKING:
    import os
    import re
    from collections.abc import Callable

    from index.db.queries.files import Condition
    from index.domain.listing import FileOrder
    from index.domain.provenance import Provenance
    from index.domain.snapshots import At

__all__ = ["Listing", "listing_of"]


class Listing(NamedTuple):
    """The checked arguments of a listing."""

    conditions: tuple[Condition, ...]
    matches: Callable[[str], re.Match[str] | None] | None
    at: At
    order: tuple[str, bool]
    limit: int | None
    after: str | Position | None
    """A path whose position in the order is still to be found, or the position itself."""


def listing_of(
    labels: Provenance,
    file_type: str | None,
    priority: str | None,
    is_final_output: bool | None,  # noqa: FBT001 - as `files` takes it
    prefix: str | os.PathLike[str] | None,
    glob: str | None,
    at: At,
    order_by: FileOrder,
    limit: int | None,
    after: str | os.PathLike[str] | FileVersion | None,
) -> Listing:
    """Return the checked arguments of `RunFiles.files`."""
    check_filters(file_type, priority, is_final_output)
    conditions = [
        *listings.conditions_for(
            provenance=labels,
            file_type=file_type,
            priority=priority,
            is_final_output=is_final_output,
            prefix=None if prefix is None else check_prefix(prefix),
        )
    ]
    matches = None
    if glob is not None:
        matches = compile_glob(glob).fullmatch
        conditions += listings.has_prefix(check_prefix(literal_prefix(glob)))
    order = check_order(order_by)
    return Listing(
        tuple(conditions), matches, at, order, check_limit(limit), _after(after, order[0])
    )


def _after(after: str | os.PathLike[str] | FileVersion | None, order: str) -> str | Position | None:
    if after is None:
        return None
    if isinstance(after, FileVersion) and hasattr(after, order):
        return Position(getattr(after, order), after.path)  # also if the file has changed since
    path = check_path(after.path if isinstance(after, FileVersion) else after)
    return Position(path, path) if order == "path" else path
