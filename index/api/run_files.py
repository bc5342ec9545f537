"""The files of a run: listings, pages, directories, and the run as a mapping of paths."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from index.api.listing import Listing, listing_of
from index.context import Handle
from index.db.queries import files, listings, names, runs, tags
from index.db.queries.single import find_file
from index.decorators import relaxed_gc
from index.domain.listing import DirectoryEntry, check_limit, closest, name_in
from index.domain.names import ancestors, check_path, check_prefix
from index.domain.provenance import Provenance
from index.domain.snapshots import check_wanted, snapshot_number
from index.domain.tags import check_tag, is_tag
from index.errors import UnknownFileError, UnknownRunError, UnknownSnapshotError, UnknownTagError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from index.context import StoreContext
    from index.db.queries.files import Condition
    from index.db.queries.listings import Position
    from index.db.queries.runs import FoundRun
    from index.domain.listing import FileOrder
    from index.domain.names import Label, RunKey
    from index.domain.snapshots import At, FileVersion
    from index.domain.tags import NewTag

__all__ = ["RunFiles"]

_PAGE: Final = 2_000
"""Versions that `RunFiles.iter_files` holds at once, about 2 MB."""


@dataclass(frozen=True, slots=True, repr=False)
class RunFiles(Handle):
    """The files of a run. Also a mapping: ``run[path]``, ``path in run``, ``len(run)``.

    Iteration yields the present paths in byte order. A run without files is true, like any handle.
    """

    key: RunKey
    _context: StoreContext = field(repr=False, compare=False)

    def __repr__(self) -> str:
        url = self._context.database.url
        return f"<{type(self).__name__} {self.id!r} of session {self.key.session!r} in {url}>"

    @property
    def id(self) -> str:
        """The caller's id of the run."""
        return self.key.run

    @relaxed_gc()
    def files(
        self,
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
        file_type: str | None = None,
        priority: str | None = None,
        is_final_output: bool | None = None,
        prefix: str | os.PathLike[str] | None = None,
        glob: str | None = None,
        at: At = None,
        order_by: FileOrder = "appearance",
        limit: int | None = None,
        after: str | os.PathLike[str] | FileVersion | None = None,
    ) -> tuple[FileVersion, ...]:
        """Return the files of the run that match all arguments, by first appearance, then path.

        Parameters
        ----------
        prefix
            Plain text that the path begins with.
        glob
            A pattern for the whole path: ``"data/**/*.csv"``. ``*``, ``?`` and ``[a-z]`` match in
            one directory, ``**/`` any number of directories.
        at
            A snapshot, its number or its tag: the files as they were then.
        order_by
            ``"appearance"``, ``"path"``, ``"size"`` or ``"created_at"``; with a minus, as in
            ``"-size"``, from last to first.
        limit
            The largest number of files to return.
        after
            The last file of the page before, or its path: the listing begins after it.

        Raises
        ------
        UnknownFileError
            When the place of the path `after` in the order is not known: the run never had it.
        """
        labels = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        listing = listing_of(
            labels, file_type, priority, is_final_output, prefix, glob, at, order_by, limit, after
        )
        return tuple(self._listed(listing, page=None if glob is None or limit is None else _PAGE))

    def iter_files(
        self,
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
        file_type: str | None = None,
        priority: str | None = None,
        is_final_output: bool | None = None,
        prefix: str | os.PathLike[str] | None = None,
        glob: str | None = None,
        at: At = None,
        order_by: FileOrder = "path",
        limit: int | None = None,
        after: str | os.PathLike[str] | FileVersion | None = None,
    ) -> Iterator[FileVersion]:
        """Yield the files that `files` would return, by path, with bounded memory.

        It reads them in pages, each in a transaction of its own, and yields all files as of the
        snapshot that was the newest when the iteration began. An index has the order of paths; in
        any other order each page costs a pass over the run. Parameters are those of `files`.
        Raises UnknownRunError if the run is deleted meanwhile.
        """
        labels = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        listing = listing_of(
            labels, file_type, priority, is_final_output, prefix, glob, at, order_by, limit, after
        )
        return self._listed(listing, page=_PAGE)

    def list_dir(
        self,
        path: str | os.PathLike[str] = "",
        *,
        at: At = None,
        limit: int | None = None,
        after: str | os.PathLike[str] | DirectoryEntry | FileVersion | None = None,
    ) -> tuple[DirectoryEntry, ...]:
        """Return the files and directories directly in a directory, by name in byte order.

        A directory counts all files in it and below, with their bytes.

        Parameters
        ----------
        path
            The directory; empty for the work directory.
        limit
            The largest number of entries to return.
        after
            The last entry of the page before, its path or its name: the listing begins after it.

        Raises
        ------
        UnknownFileError
            When no file is in that directory or below it.
        """
        folder = "" if check_prefix(path) in ("", ".", "./") else f"{check_path(path)}/"
        last = name_in(folder, after)
        with self._reading() as (connection, found):
            visible = files.visible_at(self._check_snapshot(connection, found, at))
            names = listings.list_names(
                connection, found.id, folder, visible, after=last, limit=check_limit(limit)
            )
            if (
                folder
                and not names
                and not listings.count_files(
                    connection, found.id, visible, *listings.has_prefix(folder)
                )
            ):
                raise self._unknown(connection, found, folder, visible)
            paths = [f"{folder}{each.name}" for each in names if not each.is_directory]
            versions = listings.list_paths(
                connection, found.id, self.key.session, self.id, paths, visible
            )
        return tuple(
            DirectoryEntry(
                f"{folder}{each.name}",
                each.files,
                each.bytes,
                None if each.is_directory else versions[f"{folder}{each.name}"],
            )
            for each in names
        )

    def file(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: At = None,
    ) -> FileVersion:
        """Return the file at `path`: the present version, another version, or that of a snapshot.

        `at` may also be a tag of a version of this file.

        Raises
        ------
        UnknownFileError
            When there is no such file or version. It names the closest paths.
        """
        wanted = self._wanted(path, version, at)
        found = find_file(self._context.database, self.key, *wanted)
        return found if found is not None else self._missing(*wanted)

    def _missing(self, path: str, version: int | None, at: int | None) -> FileVersion:
        """Raise the error for a file that was not found, unless it is there by now."""
        matches = files.has_path(path)
        with self._reading() as (connection, found):
            if version is None:
                wanted = files.visible_at(self._check_snapshot(connection, found, at))
            else:
                wanted = files.has_version(version)
            versions = self._versions(connection, found, matches, wanted)
            if not versions:
                if version is None:
                    raise self._unknown(connection, found, path, wanted)
                if not (newest := listings.count_files(connection, found.id, matches)):
                    raise self._unknown(connection, found, path)
                raise UnknownFileError(self.id, path, version, newest=newest)
        return versions[0]

    def __getitem__(self, path: str | os.PathLike[str]) -> FileVersion:
        """Return the present file at `path`. Raises UnknownFileError if there is none."""
        return self.file(path)

    def __contains__(self, path: str | os.PathLike[str]) -> bool:
        """Whether the run has a file at `path` now."""
        matches = files.has_path(check_path(path))
        with self._reading() as (connection, found):
            return bool(listings.count_files(connection, found.id, files.visible_at(None), matches))

    def __len__(self) -> int:
        """Return the number of present files."""
        with self._reading() as (connection, found):
            return listings.count_files(connection, found.id, files.visible_at(None))

    def __iter__(self) -> Iterator[str]:
        """Yield the present paths in byte order, with bounded memory."""
        return (version.path for version in self.iter_files())

    def __bool__(self) -> bool:
        """Return True: the truth of a handle does not depend on its files."""
        return True

    def _listed(self, listing: Listing, page: int | None) -> Iterator[FileVersion]:
        """Yield the versions of a listing, read in pages; without a page size, in one statement."""
        left, position, run_id, number = listing.limit, None, None, None
        size = page
        while left != 0:
            if listing.matches is None and left is not None:
                size = left if page is None else min(page, left)
            with self._reading() as (connection, found):
                if run_id is None:
                    run_id, number = found.id, self._check_snapshot(connection, found, listing.at)
                    if page is not None and number is None:
                        number = found.newest_snapshot  # later pages show the same state
                    position = self._position(connection, found, number, listing)
                elif run_id != found.id:
                    raise UnknownRunError(self.key.session, self.id)
                versions, position = listings.list_page(
                    connection, run_id, self.key.session, self.id,
                    files.visible_at(number), *listing.conditions,
                    order=listing.order, after=position, limit=size,
                )  # fmt: skip
            for version in versions:
                if listing.matches is None or listing.matches(version.path):
                    yield version
                    left = None if left is None else left - 1
                    if left == 0:
                        return
            if size is None or len(versions) < size:
                return

    def _position(
        self, connection: Connection, found: FoundRun, number: int | None, listing: Listing
    ) -> Position | None:
        if not isinstance(listing.after, str):
            return listing.after
        visible = files.visible_at(number)
        position = listings.find_position(
            connection, found.id, listing.after, listing.order, visible
        )
        if position is None:
            raise self._unknown(connection, found, listing.after, visible)
        return position

    def _unknown(
        self, connection: Connection, found: FoundRun, path: str, *visible: Condition
    ) -> UnknownFileError:
        """Return the error for a path that the run does not have, with the closest ones."""
        wanted = path.rstrip("/")
        near = listings.list_near(connection, found.id, wanted, *visible)
        folders = (folder for each in near for folder in ancestors(each))
        similar = [each for each in near if each != path]
        similar += [f"{folder}/" if folder == path else folder for folder in folders]
        return UnknownFileError(self.id, path, None, closest(wanted, similar))

    @contextmanager
    def _reading(self) -> Iterator[tuple[Connection, FoundRun]]:
        with self._context.database.reading() as connection:
            yield connection, self._find(connection)

    def _find(self, connection: Connection) -> FoundRun:
        found = runs.find_run(connection, self.key.session, self.key.run)
        if found is None:
            raise names.unknown_run(connection, self.key.session, self.key.run)
        return found

    def _visible(
        self,
        connection: Connection,
        found: FoundRun,
        at: At,
        *conditions: Condition,
    ) -> tuple[FileVersion, ...]:
        number = self._check_snapshot(connection, found, at)
        return self._versions(connection, found, files.visible_at(number), *conditions)

    def _check_snapshot(self, connection: Connection, found: FoundRun, at: At) -> int | None:
        """Return the number of a snapshot of the run; None for the present state."""
        if is_tag(at):
            tag = self._tagged(connection, found, at)
            if tag.snapshot is None:
                hint = f"it names version {tag.version} of {tag.path!r}"
                raise UnknownTagError(self.id, at, hint)
            at = tag.snapshot
        number = snapshot_number(at)
        if number is not None and not 0 <= number <= found.newest_snapshot:
            raise UnknownSnapshotError(self.id, number, found.newest_snapshot)
        return number

    def _tagged(self, connection: Connection, found: FoundRun, name: str) -> NewTag:
        """Return where a tag points."""
        tag = tags.find_tag(connection, found.id, check_tag(name))
        if tag is None:
            raise UnknownTagError(self.id, name)
        return tag

    def _number(self, at: At) -> int | None:
        """Return the number of a snapshot, which must exist only if it is given by a tag."""
        if not is_tag(at):
            return snapshot_number(at)
        with self._reading() as (connection, found):
            return self._check_snapshot(connection, found, at)

    def _wanted(
        self, path: str | os.PathLike[str], version: int | None, at: At
    ) -> tuple[str, int | None, int | None]:
        """Return path, version and snapshot of a file to find, as `check_wanted` checks them."""
        if not is_tag(at):
            return check_wanted(self.id, path, version, at)
        clean, *_ = check_wanted(self.id, path, version, 0)  # not a version and a tag
        with self._reading() as (connection, found):
            tag = self._tagged(connection, found, at)
            if tag.path == clean:
                return clean, tag.version, None
            return clean, None, self._check_snapshot(connection, found, at)

    def _versions(
        self, connection: Connection, found: FoundRun, *conditions: Condition
    ) -> tuple[FileVersion, ...]:
        return tuple(
            files.list_versions(connection, found.id, self.key.session, self.id, *conditions)
        )
