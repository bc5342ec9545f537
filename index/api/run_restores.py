"""Restores of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import not_

from index.api.run_contents import RunContents
from index.db.queries import files, listings
from index.db.queries.restorable import list_chosen, list_restorable
from index.decorators import naming_memory, relaxed_gc
from index.domain.names import CONFIG_NAME, ancestors, as_paths, check_local, check_path
from index.errors import NoDestinationError, RestoreFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cas.digest import Digest
    from index.db.queries.files import Condition
    from index.db.queries.runs import FoundRun
    from index.domain.progress import Progress
    from index.domain.reports import RestoreResult
    from index.domain.snapshots import At
    from index.reading.archives import Archive, ArchiveKind

__all__ = ["RunRestores"]


@dataclass(frozen=True, slots=True, repr=False)
class RunRestores(RunContents):
    """What writes the files of a run to disk."""

    @relaxed_gc()
    @naming_memory("restore a run")
    def restore(
        self,
        destination: str | os.PathLike[str] | None = None,
        *,
        paths: Iterable[str | os.PathLike[str]] | None = None,
        at: At = None,
        overwrite: bool = False,
        delete: bool | Literal["all"] = False,
        ignore: Sequence[str] = (),
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> RestoreResult:
        """Write the run's files to `destination`, with their modes and times.

        Every byte is verified, and each file appears complete or not at all. Nothing is written
        outside `destination`. Special mode bits such as set-user-id are not restored. Files are not
        synced: a power loss soon after may lose some, and a second restore writes them again. In an
        empty destination, up to 1 GiB is first written to a hidden directory in it and appears at
        the end. If a restore is killed, the next one removes that directory. At least 64 KiB of
        zeros in a row become a hole.

        A mode or time that the destination does not take is a warning in the result, and so is a
        link that it can't hold. Files with the right content are not written, and get their mode
        and time only if these differ.

        Parameters
        ----------
        destination
            The directory to write to. None for the run's own: the one of its newest scan without a
            prefix. It is made again if it is gone and the directory above it is there. Files that
            were put, or recorded under a prefix, get their paths in it, too.
        paths
            Files and directories to restore; None for all.
        overwrite
            Whether to replace different content in the destination. A directory makes way for a
            file only if the run has held all files in it. Links to directories are not replaced.
        delete
            Whether to delete files, after all others are written, that the run does not have at
            this snapshot. True deletes a file only if the run has recorded that content at that
            path, so that it can be restored; other content at such a path stays, and is in
            `RestoreResult.kept`. ``"all"`` also deletes what the run has never recorded, but not
            what a scan passes over: hidden files, the default patterns, and what files named
            ``.casignore`` or ``.gitignore`` name. Directories that this empties are removed, too.
            With `paths`, only files below these are deleted. What belongs to the store stays.
        ignore
            Patterns of more files that ``delete="all"`` leaves, as in `track`.
        dry_run
            Whether to touch nothing, and report what would be written, replaced and deleted. It
            raises what a restore would, but for errors of storage and of writing.

        Raises
        ------
        NoDestinationError
            When there is no destination, and the run's own directory is not known or can't be
            here.
        UnknownFileError
            When the run has no file at one of `paths`.
        RestoreConflictError
            When different content is in the way. Nothing was written, unless that content appeared
            during the restore.
        NameClashError
            When the filesystem takes two paths for one name. Nothing was written.
        RestoreFailedError, UnsafePathError
            When the destination can't be written, or a link in it leads outside.
        DanglingFileError, DamagedFileError
            When bytes are missing or damaged in storage.
        """
        from index.reading.name_clashes import folded
        from index.reading.restore import restore

        if delete not in (False, True, "all"):
            raise ValueError(f"delete is True, False or 'all', not {delete!r}")
        given = None if destination is None else check_local(destination)
        wanted = None if paths is None else [check_path(path) for path in as_paths("paths", paths)]
        patterns = as_paths("ignore", ignore)
        with self._reading() as (connection, found):
            target = self._work_dir(found) if given is None else given
            number = self._check_snapshot(connection, found, at)
            visible = files.visible_at(number)
            if wanted is None:
                versions, places = list_restorable(connection, found.id, visible)
            else:
                versions, places, missing = list_chosen(connection, found.id, visible, wanted)
                if missing is not None:
                    raise self._unknown(connection, found, missing, visible)
        if self._context.owns(target):
            raise RestoreFailedError(target, "it is the store itself")
        if not dry_run:
            self._note_reads(versions)

        def known_below(directory: str) -> set[tuple[str, Digest | None]]:
            with self._reading() as (connection, found):
                below = listings.has_prefix(f"{directory}/")
                return {
                    (v.path, v.digest) for v in list_restorable(connection, found.id, *below)[0]
                }

        def held() -> dict[str, set[Digest] | None]:
            scanned = self._scanned(target, patterns) if delete == "all" else ()
            return self._deletable(not_(visible), scanned, wanted)

        return restore(
            versions,
            places,
            self._context.blobs,
            target,
            overwrite=overwrite,
            own={folded(path) for path in self._own_below(target)},
            known_below=known_below,
            held=held if delete else None,
            recorded=self._contents,
            dry_run=dry_run,
            progress=progress,
        )

    def archive(self, kind: ArchiveKind, *, folder: str = "", at: At = None) -> Archive:
        """Return the files as one ``"zip"`` or ``"tar"`` file, which is made while you iterate.

        The files do not change meanwhile: they are those of one snapshot. Every byte is verified.
        `Archive` says what it leaves out.

        Parameters
        ----------
        folder
            Only the files in this directory. Names in the archive begin in it.

        Raises
        ------
        ValueError
            When there is no such kind of archive.
        UnknownFileError
            When the run has no such directory at the snapshot.
        DanglingFileError, DamagedFileError
            While you iterate, when bytes are missing or damaged in storage.
        """
        from index.reading.archives import ARCHIVES, Archive

        if kind not in ARCHIVES:
            raise ValueError(f"an archive is one of {', '.join(ARCHIVES)}, not {kind!r}")
        with self._reading() as (connection, found):
            number = self._check_snapshot(connection, found, at)
            newest = found.newest_snapshot if number is None else number
        if folder:
            self.list_dir(folder, at=newest, limit=1)  # raises if there is no such directory
        versions = self.iter_files(prefix=f"{folder}/" if folder else None, at=newest)
        return Archive(kind, versions, folder, self._context.blobs)

    def _deletable(
        self, elsewhen: Condition, scanned: Iterable[str], wanted: Sequence[str] | None
    ) -> dict[str, set[Digest] | None]:
        """Return the contents that may be deleted by path; None for any.

        Parameters
        ----------
        elsewhen
            The condition of versions that are not restored.
        scanned
            Paths whose content may go whatever it is.
        wanted
            The directories in which files are deleted; None for all.
        """
        contents: dict[str, set[Digest] | None] = {**self._contents(elsewhen)}
        contents.update(dict.fromkeys(scanned))
        contents = {path: known for path, known in contents.items() if not _names_store(path)}
        if wanted is None:
            return contents
        chosen = frozenset(wanted)
        return {
            path: known
            for path, known in contents.items()
            if not chosen.isdisjoint(ancestors(path))
        }

    def _contents(self, *conditions: Condition) -> dict[str, set[Digest]]:
        """Return the digests of versions, by path."""
        contents: dict[str, set[Digest]] = {}
        with self._reading() as (connection, found):
            for version in list_restorable(connection, found.id, *conditions)[0]:
                known = contents.setdefault(version.path, set())
                if version.digest is not None:
                    known.add(version.digest)
        return contents

    def _work_dir(self, found: FoundRun) -> str:
        """Return the run's own directory if it can be on this machine."""
        if found.work_dir is None or not Path(found.work_dir).parent.is_dir():
            raise NoDestinationError(self.id, found.work_dir)
        return found.work_dir

    def _own_below(self, target: str) -> list[str]:
        """Return the paths in a directory that belong to the store."""
        above = f"{os.path.realpath(target).rstrip('/')}/"
        own = (os.path.realpath(path) for path in self._context.own_paths)
        return [path.removeprefix(above) for path in own if path.startswith(above)]

    def _scanned(self, target: str, ignore: Sequence[str]) -> list[str]:
        """Return the paths in a directory that a scan would record."""
        from index.scan.coverage import Coverage
        from index.scan.scanner import Scan

        # What git's ignore files bring in, a scan without them may pass over.
        found = [
            {file.path for file in Scan(target, {}, coverage, own=self._context.own_files)}
            for coverage in (Coverage(ignore=ignore), Coverage(ignore=ignore, gitignore=True))
        ]
        paths = set.intersection(*found)
        stores = {path.rpartition("/")[0] for path in paths if path.split("/")[-1] == "cas.json"}
        return [path for path in paths if stores.isdisjoint(("", *ancestors(path)))]


def _names_store(path: str) -> bool:
    """Whether a file says which store the commands in its directory use."""
    return path.rpartition("/")[2] == CONFIG_NAME
