"""New files and directories, which appear under their names when they are complete."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from index.errors import ExportFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FileTarget", "new_directory", "new_file", "shown_target"]

FileTarget: TypeAlias = "str | os.PathLike[str] | BinaryIO"
"""The path of a new file, or a binary stream, which is left open."""

_TAKEN: Final = "it exists already; remove it, or choose another name"


def shown_target(target: FileTarget) -> str:
    """Return a target as reports and errors name it."""
    return os.fspath(target) if isinstance(target, str | os.PathLike) else "-"


@contextmanager
def new_file(target: FileTarget) -> Iterator[BinaryIO]:
    """Open a new file, which appears when the block ends; on an error there is none.

    Raises ExportFailedError if something has the name, or the file can't be written.
    """
    if not isinstance(target, str | os.PathLike):
        yield target
        return
    with _beside(Path(target)) as staged:
        made = staged / "new"
        with made.open("xb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        _publish(made, Path(target))


@contextmanager
def new_directory(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a directory, which appears when the block ends; on an error there is none.

    Raises ExportFailedError if something has the name but an empty directory, or the directory
    can't be written.
    """
    with _beside(Path(target), may_be_empty=True) as staged:
        made = staged / "new"
        made.mkdir()
        yield made
        made.rename(target)  # fails if the target is a file by now, or not empty


@contextmanager
def _beside(target: Path, *, may_be_empty: bool = False) -> Iterator[Path]:
    """Make a directory beside a target; remove it in the end."""
    try:
        if os.path.lexists(target) and not (may_be_empty and _is_empty(target)):
            raise ExportFailedError(str(target), _TAKEN)
        staged = Path(tempfile.mkdtemp(prefix=".cas-export-", dir=target.parent))
        try:
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise ExportFailedError(str(target), error.strerror or str(error)) from error


def _is_empty(target: Path) -> bool:
    return target.is_dir() and not target.is_symlink() and not any(target.iterdir())


def _publish(made: Path, target: Path) -> None:
    try:
        target.hardlink_to(made)
    except FileExistsError:
        raise ExportFailedError(str(target), _TAKEN) from None
    except OSError:  # a filesystem without hard links
        if os.path.lexists(target):
            raise ExportFailedError(str(target), _TAKEN) from None
        made.rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # a filesystem that can't sync a directory
            os.fsync(folder)
    finally:
        os.close(folder)
