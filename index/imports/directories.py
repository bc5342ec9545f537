"""Import of files as they are on disk: what a directory lists, and whether the run holds it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cas.digest import Digest, Hasher
from index import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from index import Snapshot
    from index.imports.tally import Tally

__all__ = ["compare_directory", "has_changed", "iter_files", "newest_time"]

_PIECE: Final = 1 << 20


def iter_files(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files and links below a directory, by their paths in it. No link is followed.

    What is below a directory that can't be listed is left out. A scan says so in its snapshot.
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        found: list[os.DirEntry[str]] = []
        with suppress(OSError), os.scandir(directory / prefix) as entries:
            found = sorted(entries, key=lambda each: each.name)
        for entry in found:
            path = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                pending.append(f"{path}/")
                continue
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                yield path, status


def has_changed(tally: Tally, directory: Path, scope: Sequence[str] | None = None) -> bool:
    """Whether a directory has other files than the run; note what of it can't be read."""
    status = tally.run.status(directory, scope=scope, hidden=True, default_ignores=False)
    tally.skipped += status.skipped
    return bool(status)


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
    skipped = [each for each in snapshot.skipped if f"{each.path}/".startswith(prefix)]
    tally.skipped += skipped
    if snapshot.ignored:
        reason = f"{snapshot.ignored} entries are left out by what a .casignore says"
        tally.skipped.append(Skipped(prefix or ".", reason))
    # A snapshot keeps what a scan can't read, as it was.
    unread = tuple(f"{each.path}/"[len(prefix) :] for each in skipped)
    for path in dict.fromkeys((*listed, *held)):
        version = held.get(path)
        if f"{path}/".startswith(unread):
            continue
        if path not in listed:
            tally.differ(f"{prefix}{path}", snapshot, "the source does not have it")
        elif version is None:
            if not snapshot.ignored:
                tally.differ(f"{prefix}{path}", snapshot, "it is missing")
        elif version.digest != _digest(directory / path):
            tally.differ(f"{prefix}{path}", snapshot, "it has other bytes")


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
