"""The programs that are compared, each as one call: cp, restic, and `cas` as a new process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from measure import flush, output_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_PEAK_PROCESS: Final = Path(__file__).with_name("measured_process.py")


@contextmanager
def fresh(work: Path, name: str, *, keep: bool = True) -> Iterator[Path]:
    """Make a directory and hand it out once nothing is dirty.

    Afterwards it is only forgotten by the page cache, and removed with `work`: ext4 without a
    journal does not use an inode again for minutes, and creating files becomes many times slower
    while it looks past those that were freed.

    Parameters
    ----------
    keep
        False removes it at once; for few and large files.
    """
    path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=work))
    flush(work)
    try:
        yield path
    finally:
        flush(work)
        if keep:
            _forget(path)
        else:
            shutil.rmtree(path)
            flush(work)


def _forget(root: Path) -> None:
    """Drop the files below `root` from the page cache, so that the sources stay in it."""
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink():
                fd = os.open(path, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)


def copy(source: Path, destination: Path) -> None:
    """``cp -r``."""
    subprocess.run(["cp", "-r", str(source), str(destination)], check=True)


def copy_and_sync(source: Path, destination: Path) -> None:
    """``cp -r`` and then ``sync -f``: durable."""
    copy(source, destination)
    flush(destination)


def stat_pass(directory: str | Path) -> int:
    """One recursive scandir with one stat for each file; return how many files there are."""
    count = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                count += stat_pass(entry.path)
            else:
                entry.stat(follow_symlinks=False)
                count += 1
    return count


def bytes_below(root: Path) -> int:
    """Return the bytes of all files below `root`."""
    return sum(
        (Path(directory) / name).lstat().st_size
        for directory, _, names in os.walk(root)
        for name in names
    )


def cas(store: Path, *arguments: str) -> None:
    """Run the ``cas`` that belongs to this interpreter."""
    command = str(Path(sys.executable).with_name("cas"))
    subprocess.run(
        [command, "--store", str(store), *arguments], check=True, stdout=subprocess.DEVNULL
    )


def measured(*arguments: str) -> dict[str, Any]:
    """Run ``measured_process.py``; return what it found out about itself."""
    done = subprocess.run(
        [sys.executable, str(_PEAK_PROCESS), *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)


class Restic:
    """restic, with a cache of its own."""

    def __init__(self, work: Path) -> None:
        self._environment = {
            **os.environ,
            "RESTIC_PASSWORD": "benchmark",
            "XDG_CACHE_HOME": str(work / "restic-cache"),
        }
        line = output_of(["restic", "version"]) if shutil.which("restic") else ""
        self.version: Final = " ".join(line.split()[:2])

    def __bool__(self) -> bool:
        """Whether restic is installed."""
        return bool(self.version)

    def create(self, repository: Path) -> None:
        """Initialise a repository."""
        self._run(repository, "init")

    def backup(self, repository: Path, source: Path) -> None:
        """Back `source` up by its name, so that a restore gives that name back."""
        self._run(repository, "backup", source.name, cwd=source.parent)

    def restore(self, repository: Path, destination: Path) -> None:
        """Restore the latest snapshot."""
        self._run(repository, "restore", "latest", "--target", str(destination))

    def open(self, repository: Path) -> None:
        """Do nothing but open the repository, which every other command begins with."""
        self._run(repository, "cat", "config")

    def _run(self, repository: Path, *arguments: str, cwd: Path | None = None) -> None:
        subprocess.run(
            ["restic", "--quiet", "--repo", str(repository), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            env=self._environment,
            cwd=cwd,
        )
