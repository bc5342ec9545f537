"""Import of files as they are on disk: what a directory lists, and whether the run holds it."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cas.digest import Digest, Hasher
from index import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from index import Snapshot
    from index.imports.tally import Tally

__all__ = ["compare_directory", "iter_files", "newest_time"]

_PIECE: Final = 1 << 20


def iter_files(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files and links below a directory, by their paths in it. No link is followed."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(directory / prefix) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                path = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{path}/")
                    continue
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    yield path, status


def newest_time(listed: Mapping[str, os.stat_result]) -> str | None:
    """Return when the newest of some files was written, in ISO format."""
    times = [status.st_mtime for status in listed.values()]
    return datetime.fromtimestamp(max(times), UTC).isoformat() if times else None


def compare_directory(
    tally: Tally,
    snapshot: Snapshot,
    directory: Path,
    listed: Mapping[str, os.stat_result],
    prefix: str = "",
    others: Iterable[str] = (),
) -> None:
    """Compare a snapshot with a directory, by paths and by the digests of its files now.

    Parameters
    ----------
    listed
        The files of the directory, before they were recorded.
    prefix
        Begins the paths in the run; ``""`` or a path with a slash at its end.
    others
        Prefixes of paths that come from elsewhere.
    """
    elsewhere = tuple(others)
    held = {
        each.path[len(prefix) :]: each
        for each in tally.run.files(at=snapshot, prefix=prefix or None)
        if not each.path.startswith(elsewhere)
    }
    skipped = [each for each in snapshot.skipped if each.path.startswith(prefix)]
    tally.skipped += skipped
    if snapshot.ignored:
        reason = f"{snapshot.ignored} entries are left out by what a .casignore says"
        tally.skipped.append(Skipped(prefix or ".", reason))
    unread = {each.path[len(prefix) :] for each in skipped}
    for path in listed:
        version = held.pop(path, None)
        if version is None:
            is_left_out = (
                snapshot.ignored
                or path in unread
                or any(path.startswith(f"{each}/") for each in unread)
            )
            if not is_left_out:
                tally.differ(f"{prefix}{path}", snapshot, "it is missing")
        elif version.digest != _digest(directory / path):
            tally.differ(f"{prefix}{path}", snapshot, "it has other bytes")
    for path in held:
        tally.differ(f"{prefix}{path}", snapshot, "the source does not have it")


def _digest(path: Path) -> Digest | None:
    """Return the digest of a file or of where a link leads; None if it can't be read."""
    hasher = Hasher()
    try:
        if path.is_symlink():
            return Digest.of(os.readlink(os.fsencode(path)))
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                hasher.update(piece)
    except OSError:
        return None
    return hasher.digest()
