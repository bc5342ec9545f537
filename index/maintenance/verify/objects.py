"""Comparison of the rows of packs with the objects in storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cas.packs.pack import pack_object_name
from cas.store import open_settings
from index.db.queries import verification
from index.errors import StoreMismatchError

if TYPE_CHECKING:
    from index.context import StoreContext
    from index.db.queries.verification import VerifiablePack

__all__ = ["Listing", "compare_objects"]

_PACKS: Final = "packs/"
_MOST_ORPHANS: Final = 1_000
"""The number of orphans that a report names."""


@dataclass(slots=True)
class Listing:
    """The packs of the index, and their objects in storage."""

    live: list[VerifiablePack]
    suspects: list[VerifiablePack] = field(default_factory=list)
    """Live packs whose object is missing or has the wrong size, judged by the listing."""
    pending: int = 0
    dead: int = 0
    orphans: list[str] = field(default_factory=list)
    orphan_count: int = 0
    orphan_bytes: int = 0


def compare_objects(context: StoreContext) -> Listing:
    """List storage once, and compare it with the rows.

    Storage is listed before the rows are read. A pack has its row before its object is published,
    so one published meanwhile does not look like an orphan.

    Raises
    ------
    ObjectNotFoundError, StoreMismatchError
        When ``cas.json`` is missing or belongs to another store. Storage that was replaced, or is
        not mounted, is not damage.
    """
    backend = context.blobs.backend
    if open_settings(backend, create=False) != context.blobs.settings:
        raise StoreMismatchError(context.database.url, backend.url)
    sizes = {found.name: found.size for found in backend.iter_objects(_PACKS)}
    with context.database.reading() as connection:
        packs = verification.list_packs(connection)
    listing = Listing([pack for pack in packs if pack.state == "live"])
    listing.pending = sum(pack.state == "pending" for pack in packs)
    listing.dead = sum(pack.state == "dead" and pack.size > 0 for pack in packs)
    for pack in packs:
        size = sizes.pop(pack_object_name(pack.name), None)
        if pack.state == "live" and size != pack.size:
            listing.suspects.append(pack)
    listing.orphan_count = len(sizes)
    listing.orphan_bytes = sum(sizes.values())
    listing.orphans = sorted(sizes)[:_MOST_ORPHANS]
    return listing
