"""The rows of a run that a destination lacks; if they are many, in a temporary file."""

from __future__ import annotations

import os
import pickle
import tempfile
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, Self

from cas.temporary import using_temporary_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas.digest import Digest
    from index.db.queries.transfer import VersionRow

__all__ = ["Batch", "Delta"]

_BATCH: Final = 5_000
"""New versions, or changed ones, in one batch of a delta."""

_CONTENTS: Final = 50_000
"""Contents that are brought together. With their places, they take about 30 MB."""

_IN_MEMORY: Final = 4
"""Batches held in memory, about 20 MB. The rest goes to a file."""


@dataclass(slots=True)
class Batch:
    """A part of the rows that the destination lacks."""

    inserts: list[VersionRow] = field(default_factory=list)
    updates: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def contents(self) -> dict[Digest, int]:
        """Return the digests of the new versions, with their sizes."""
        return {row.digest: row.size for row in self.inserts if row.digest is not None}


class Delta:
    """The rows that the destination lacks, in batches. Written once, read many times."""

    def __init__(self) -> None:
        self._kept: list[Batch] = []
        self._file: IO[bytes] | None = None
        self._pending = Batch()
        self.versions = 0
        """Number of new versions."""
        self.changes = 0
        """Number of versions changed in place."""
        self.has_copies = False
        """Whether some new versions are copies by fork or rewind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove all rows."""
        if self._file is not None:
            self._file.close()
        self._kept, self._file, self._pending = [], None, Batch()
        self.versions = self.changes = 0
        self.has_copies = False

    def insert(self, row: VersionRow) -> None:
        """Add a version that the destination lacks."""
        self.versions += 1
        self.has_copies |= row.origin_id is not None
        inserts = self._pending.inserts
        inserts.append(row)
        if len(inserts) >= _BATCH:
            self._write()

    def change(self, file_id: int, values: dict[str, Any]) -> None:
        """Add column changes of a version that the destination has."""
        self.changes += 1
        self._pending.updates.append((file_id, values))
        if len(self._pending.updates) >= _BATCH:
            self._write()

    def batches(self) -> Iterator[Batch]:
        """Yield all rows in the order in which they were added."""
        if self._pending.inserts or self._pending.updates:
            self._write()
        yield from self._kept
        if self._file is None:
            return
        self._file.seek(0)
        while True:
            try:
                batch = pickle.load(self._file)  # noqa: S301 - written by this very process
            except EOFError:
                return
            yield batch

    def contents(self) -> Iterator[dict[Digest, int]]:
        """Yield the digests of the new versions, with their sizes, many at once.

        The more are brought together, the more whole frames and long stretches of packs they make.
        """
        found: dict[Digest, int] = {}
        for batch in self.batches():
            found |= batch.contents()
            if len(found) >= _CONTENTS:
                yield found
                found = {}
        if found:
            yield found

    def _write(self) -> None:
        batch, self._pending = self._pending, Batch()
        if len(self._kept) < _IN_MEMORY:
            self._kept.append(batch)
            return
        with using_temporary_files():
            if self._file is None:
                # Closed by clear(); a with statement here would close it too early.
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._file.seek(0, os.SEEK_END)
            pickle.dump(batch, self._file, pickle.HIGHEST_PROTOCOL)
            self._file.flush()  # here, where a full disk is explained
