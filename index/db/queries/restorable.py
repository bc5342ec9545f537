"""Query for the files of a run and the places of their bytes, as a restore needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from sqlalchemy import select

from cas.catalog import Location
from cas.digest import Digest
from index.db import tables
from index.db.bulk import BATCH_SIZE, driver_rows
from index.db.column_types import decode_path, encode_path
from index.db.queries.blobs import PLACE, locate_large
from index.domain.names import ancestors
from index.domain.snapshots import is_link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from cas.catalog import Placement
    from index.db.queries.files import Condition

__all__ = ["RestorableFile", "choose", "list_chosen", "list_restorable"]

_COLUMNS: Final = (
    tables.files.c.path,
    tables.files.c.digest,
    tables.files.c.size,
    tables.files.c.mode,
    tables.files.c.mtime_ns,
    tables.files.c.version,
    tables.packs.c.name,
    *PLACE,
)

_SIZE: Final = PLACE.index(tables.blobs.c.size)


class RestorableFile(NamedTuple):
    """The fields of a file version that a restore needs."""

    path: str
    digest: Digest | None
    size: int
    mode: int
    mtime_ns: int
    version: int = 0
    """0 for one that no run has."""

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link; its bytes are then the link's target."""
        return is_link(self.mode)


class _HasPath(Protocol):
    @property
    def path(self) -> str: ...


V = TypeVar("V", bound=_HasPath)


def list_restorable(
    connection: Connection, run_id: int, *conditions: Condition
) -> tuple[list[RestorableFile], dict[Digest, Placement]]:
    """Return file versions of a run, and the places of their blobs that have a row."""
    statement = (
        select(*_COLUMNS)
        .select_from(tables.files)
        .outerjoin(tables.blobs, tables.blobs.c.digest == tables.files.c.digest)
        .outerjoin(tables.packs, tables.packs.c.id == tables.blobs.c.pack_id)
        .where(tables.files.c.run_id == run_id, *conditions)
    )
    found: list[RestorableFile] = []
    places: dict[Digest, Placement] = {}
    large: dict[Digest, int] = {}
    packs: dict[bytes, Digest] = {}
    new = bytes.__new__
    for path, key, size, mode, mtime_ns, number, pack, *place in driver_rows(connection, statement):
        digest = None if key is None else new(Digest, key)
        found.append(RestorableFile(decode_path(path), digest, size, mode, mtime_ns, number))
        if digest is None:
            continue
        if pack is not None:
            name = packs.get(pack)
            if name is None:
                name = packs[pack] = new(Digest, pack)
            places[digest] = Location(name, *place)
        elif (blob_size := place[_SIZE]) is not None:
            large[digest] = blob_size
    places.update(locate_large(connection, large))
    return found, places


def list_chosen(
    connection: Connection, run_id: int, visible: Condition, wanted: Sequence[str]
) -> tuple[list[RestorableFile], dict[Digest, Placement], str | None]:
    """Return what `list_restorable` does of wanted files and directories.

    The last item is one of these without any file; None if each has one.
    """
    count = len(set(wanted))
    if count <= BATCH_SIZE:  # not all files of a large run for these
        names = [encode_path(path) for path in wanted]
        found, places = list_restorable(connection, run_id, visible, tables.files.c.path.in_(names))
        if len(found) == count:
            return found, places, None
    found, places = list_restorable(connection, run_id, visible)
    chosen, missing = choose(found, wanted)
    return chosen, places, missing


def choose(versions: Sequence[V], wanted: Sequence[str]) -> tuple[list[V], str | None]:
    """Return the versions of a state at or below the wanted paths, and one path without any."""
    left = dict.fromkeys(wanted)
    exact = frozenset(wanted)
    chosen = [version for version in versions if version.path in exact]
    if len(chosen) == len(exact):  # there are no directories among them
        return chosen, None
    chosen = []
    for version in versions:
        holders = exact.intersection((version.path, *ancestors(version.path)))
        if holders:
            chosen.append(version)
            for path in holders:
                left.pop(path, None)
    return chosen, next(iter(left), None)
