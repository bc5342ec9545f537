"""Inventory of storage, from the footers of all packs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cas.catalog import Location, MemoryCatalog
from cas.errors import (
    BlobNotFoundError,
    CorruptPackError,
    DigestMismatchError,
    ObjectNotFoundError,
)
from cas.packs.pack import PACK_VERSION, parse_pack_name, read_structure
from cas.reader import BlobReader
from index.maintenance.recover.report import DamagedPack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cas.backend import Backend
    from cas.digest import Buffer, Digest
    from cas.packs.pack import PackEntry

__all__ = ["FoundPack", "Inventory"]


class FoundPack(NamedTuple):
    """A pack with a valid footer."""

    name: Digest
    size: int
    entries: Sequence[PackEntry]


class Inventory:
    """The packs in storage. Reads only footers, and the entries asked for."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._reader = BlobReader(backend, MemoryCatalog())
        self.damaged: list[DamagedPack] = []
        """Objects that are not readable packs, or have a wrong name. `iter_packs` fills it."""

    def iter_packs(self) -> Iterator[FoundPack]:
        """Yield all packs with a readable footer, by name."""
        found = sorted(self._backend.iter_objects("packs/"), key=lambda each: each.name)
        for each in found:
            name = parse_pack_name(each.name)
            if name is None:
                continue  # a reader ignores objects whose names it doesn't know
            try:
                yield FoundPack(name, each.size, self._footer(name, each.name, each.size))
            except CorruptPackError as error:
                self.damaged.append(DamagedPack(each.name, error.reason))
            except ObjectNotFoundError:
                self.damaged.append(DamagedPack(each.name, "it vanished while it was read"))

    def _footer(self, pack: Digest, name: str, size: int) -> Sequence[PackEntry]:
        """Return the entries of a pack. Raises UnsupportedFormatError for a newer format."""
        structure = read_structure(
            name, size, lambda start, count: self._backend.read(name, start, count)
        )
        if structure.name != pack:
            reason = f"its content has the name {structure.name}; its intact entries are used"
            self.damaged.append(DamagedPack(name, reason))
            # The version may be damaged. Every entry is verified before it is used.
            structure = structure._replace(version=PACK_VERSION)
        return structure.parse(name)

    def read(self, places: Mapping[Digest, Location]) -> Iterator[tuple[Digest, Buffer | None]]:
        """Yield verified entries, None for damaged ones. Neighbours are read in one request."""
        left = dict(places)
        while left:
            try:
                for digest, data in self._reader.read_located(list(left.items())):
                    del left[digest]
                    yield digest, data
            except (DigestMismatchError, BlobNotFoundError) as error:
                damaged = error.expected if isinstance(error, DigestMismatchError) else error.digest
                del left[damaged]
                yield damaged, None
