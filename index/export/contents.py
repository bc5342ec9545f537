"""The history of a run and the contents of its versions, written to files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import quote

from index import Progress
from index.errors import ExportFailedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cas.digest import Digest
    from index import FileVersion, Run, Snapshot

__all__ = ["ALGORITHM", "Contents", "address_of", "sha512_of", "write_history"]

ALGORITHM: Final = "sha512"
"""The digest of standards; see OCFL 1.1, "Digests", and RFC 8493, section 2.4."""

_PIECE: Final = 1 << 20


def address_of(run: Run) -> str:
    """Return a URI of a run, as `cas://` has it."""
    return f"cas://{quote(run.key.session, safe='')}/{quote(run.id, safe='')}"


def write_history(run: Run, file: Path, target: str) -> tuple[Snapshot, ...]:
    """Write the records of a run's history to a new file, a line each; return its snapshots.

    Raises ExportFailedError, which names the target of the export, if the run has none.
    """
    record = b""
    with file.open("xb") as opened:
        for record in run.history_records():
            opened.write(record + b"\n")
    # The run may go on meanwhile.
    snapshots = run.snapshots()[: len(json.loads(record)["snapshots"])]
    if not snapshots:
        reason = f"run {run.id!r} has no snapshots yet; track or put its files"
        raise ExportFailedError(target, reason)
    return snapshots


def sha512_of(file: Path) -> str:
    """Return the SHA-512 of a file, in hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, ALGORITHM).hexdigest()


@dataclass
class Contents:
    """Writes contents of versions to files, each one once, and counts them."""

    run: Run
    progress: Callable[[Progress], None] | None = None
    total: int | None = None
    """Number of contents to come, if it is known."""
    known: dict[Digest, str] = field(default_factory=dict)
    """The SHA-512 of each content written."""
    files: int = 0
    bytes: int = 0

    def write(self, version: FileVersion, digest: Digest, file: Path) -> str:
        """Write the content of a version to a new file; return its SHA-512.

        Raises DanglingFileError or DamagedFileError if its bytes are missing or damaged.
        """
        hashed = hashlib.new(ALGORITHM)
        with self._open(version) as stream, file.open("xb") as opened:
            while piece := stream.read(_PIECE):
                hashed.update(piece)
                opened.write(piece)
                self._count(0, len(piece))
        self._count(1, 0)
        found = self.known[digest] = hashed.hexdigest()
        return found

    def _open(self, version: FileVersion) -> BinaryIO:
        return self.run.open(version.path, version=version.version)

    def _count(self, files: int, size: int) -> None:
        self.files += files
        self.bytes += size
        if self.progress is not None:
            self.progress(Progress(self.files, self.bytes, self.total))
