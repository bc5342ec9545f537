"""The bytes of a run's files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from index.api.inputs import note_read
from index.api.run_files import RunFiles
from index.db.queries import files
from index.db.queries.restorable import list_chosen, list_restorable
from index.db.queries.single import find_file, find_placed
from index.domain.drops import kept_no_bytes
from index.domain.inputs import NewInput
from index.domain.names import as_paths, check_path, to_native
from index.errors import UnknownFileError
from index.reading.streams import explaining, open_version, read_version, read_versions

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    import pandas as pd

    from cas.digest import Buffer, Digest
    from index.db.queries.restorable import RestorableFile
    from index.db.queries.single import PlacedFile
    from index.domain.snapshots import At, FileVersion

__all__ = ["RunContents"]


@dataclass(frozen=True, slots=True, repr=False)
class RunContents(RunFiles):
    """What the files of a run hold. All bytes are verified before they are returned."""

    def get(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: At = None,
    ) -> FileVersion | None:
        """Return the file that `file` would return; None if there is none.

        Raises UnknownRunError and UnknownSnapshotError as `file` does.
        """
        wanted = self._wanted(path, version, at)
        found = find_file(self._context.database, self.key, *wanted)
        if found is None:
            with self._reading() as (connection, run):
                self._check_snapshot(connection, run, wanted[2])
        return found

    def open(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: At = None,
    ) -> BinaryIO:
        """Open a file's bytes as a seekable stream. The caller closes it.

        The stream uses bounded memory. It verifies every byte against the digest before it returns
        it. Damage raises `DamagedFileError`, here or on a read.
        """
        return open_version(self._context.blobs, self._read_one(path, version, at))

    def read_bytes(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: At = None,
    ) -> bytes:
        """Return all bytes of a file, verified. Use `open` for large files."""
        return read_version(self._context.blobs, self._read_one(path, version, at))

    def read_many(
        self,
        paths: Iterable[str | os.PathLike[str]] | None = None,
        *,
        at: At = None,
    ) -> Iterator[tuple[str, bytes]]:
        """Yield paths with all bytes of their files, verified, as they lie in storage.

        That is far faster than to read them one by one. Some MiB are read ahead; a large file is
        whole in memory.

        Parameters
        ----------
        paths
            Files and directories; None for all.

        Raises
        ------
        UnknownFileError
            When the run has no file at one of `paths`.
        """
        wanted = None if paths is None else [check_path(path) for path in as_paths("paths", paths)]
        with self._reading() as (connection, found):
            visible = files.visible_at(self._check_snapshot(connection, found, at))
            if wanted is None:
                versions, places = list_restorable(connection, found.id, visible)
            else:
                versions, places, missing = list_chosen(connection, found.id, visible, wanted)
                if missing is not None:
                    raise self._unknown(connection, found, missing, visible)
        self._note_reads(versions)
        return read_versions(self._context.blobs, versions, places)

    def local_path(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: At = None,
    ) -> Path:
        """Return a local file with the bytes of a file, or a directory with all files in one.

        It is for libraries that need a name, as for a memory map. The files are verified now. They
        are read-only, and stay until the store is closed, at the latest until the process ends.
        Their bytes are kept in the store's cache for the next time.

        Raises
        ------
        UnknownFileError
            When the run has neither a file nor a directory there.
        CacheUnavailableError
            When the cache can't be written to, or has too little room.
        """
        try:
            found = [self.file(path, version=version, at=at)]
        except UnknownFileError:
            if version is not None or not (found := self._below(path, at)):
                raise
        named = {}
        for each in found:
            if each.is_link and len(found) == 1:
                raise ValueError(f"{each.path!r} is a link; give the path of a file or directory")
            if each.is_link:
                continue  # where it leads to is no matter of the run
            if each.digest is None:
                raise kept_no_bytes(each.path, each.version, each.dropped)
            named[to_native(each.path)] = each.digest, each.size

        self._note_reads(found)

        def read(digest: Digest) -> Iterator[Buffer]:
            with explaining(self._context.blobs, check_path(path), digest):
                yield from self._context.blobs.iter_pieces(digest)

        return self._context.local_files.lend(named, read) / to_native(check_path(path))

    def _below(self, path: str | os.PathLike[str], at: At) -> list[FileVersion]:
        return [*self.iter_files(prefix=f"{check_path(path)}/", at=at)]

    def read_text(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: At = None,
        encoding: str = "utf-8",
    ) -> str:
        """Return a file as text: `read_bytes`, decoded."""
        return self.read_bytes(path, version=version, at=at).decode(encoding)

    def read_json(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: At = None,
    ) -> Any:  # noqa: ANN401 - as `json.loads`
        """Return what a JSON file holds: `read_bytes`, through `json.loads`."""
        return json.loads(self.read_bytes(path, version=version, at=at))

    def read_frame(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: At = None,
        **options: Any,  # noqa: ANN401 - those of pandas
    ) -> pd.DataFrame:
        """Return a table as a pandas data frame, by the ending of its name.

        That is `open` with pandas' ``read_csv`` (``.csv``, ``.tsv``), ``read_parquet``,
        ``read_feather``, ``read_json`` (``.json``, and lines in ``.jsonl``) or ``read_excel``
        (``.xlsx``). Options go to that function. For CSV and JSON, an ending such as ``.gz`` after
        it means that the file is compressed.

        Raises ValueError for any other ending, and ImportError without pandas.
        """
        from index.reading.frames import read_frame

        with self.open(path, version=version, at=at) as stream:
            return read_frame(stream, check_path(path), options)

    def _read_one(
        self, path: str | os.PathLike[str], version: int | None, at: At
    ) -> FileVersion | PlacedFile:
        """Return a file to read, with the place of its bytes, as one statement finds it.

        Raises as `file` does.
        """
        wanted = self._wanted(path, version, at)
        found = find_placed(self._context.database, self.key, *wanted)
        if found is None or found.digest is None:  # it has more to say of bytes that are gone
            return self.file(path, version=version, at=at)
        self._note_reads([found])
        return found

    def _note_reads(self, read: Sequence[FileVersion | PlacedFile | RestorableFile]) -> None:
        """Remember what is read if a `provenance` scope asks for it."""
        note_read(
            self._context,
            self.key,
            lambda: (
                NewInput(each.digest, each.size, None, each.path, each.version)
                for each in read
                if each.digest is not None
            ),
        )
