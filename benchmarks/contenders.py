"""What is timed besides the peers: `cas` as a new process, cp, and a pass over a directory."""

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

from measure import flush

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


def cas_command(store: Path, *arguments: str) -> list[str]:
    """Return how to run the ``cas`` that belongs to this interpreter."""
    return [str(Path(sys.executable).with_name("cas")), "--store", str(store), *arguments]


def cas(store: Path, *arguments: str) -> None:
    """Run the ``cas`` that belongs to this interpreter."""
    subprocess.run(cas_command(store, *arguments), check=True, stdout=subprocess.DEVNULL)


def measured_command(*arguments: str) -> list[str]:
    """Return how to run ``measured_process.py``."""
    return [sys.executable, str(_PEAK_PROCESS), *arguments]


def measured(*arguments: str) -> dict[str, Any]:
    """Run ``measured_process.py``; return what it found out about itself."""
    done = subprocess.run(
        measured_command(*arguments), check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)
