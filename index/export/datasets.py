"""Versions of files grouped into data sets: each by itself, or many as a pattern."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit

from cas.digest import Digest
from index.export.names import bytes_iri, escaped, run_iri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from index import FileVersion
    from index.export.activities import Used

__all__ = ["MAX_DATASETS", "DataSet", "FileState", "grouped", "state_of_used", "state_of_version"]

MAX_DATASETS: Final = 100
"""Inputs, and outputs, of one activity that are data sets of their own."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A version of a file, or other bytes with a name, as a part of a data set."""

    place: str
    """What the path is relative to: the URL of a run, or of a service."""
    path: str
    """Escaped."""
    version: int | None
    digest: Digest | None
    size: int | None
    loss: str | None = None
    """What became of the bytes of a version that the run has no more."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """Some files of one place."""

    place: str
    pattern: str
    """A path, or many: ``*`` stands for any name, and ``**`` for all below a directory."""
    files: tuple[FileState, ...]
    """By path."""

    @property
    def size(self) -> int:
        """Bytes, as far as they are known."""
        return sum(each.size or 0 for each in self.files)

    @property
    def digest(self) -> Digest | None:
        """What names exactly these contents.

        Of one file, its own digest. Of several, the digest of the lines that ``b3sum`` prints for
        them, in the order of the bytes of their paths. None if the digest of one is not known.
        """
        if len(self.files) == 1:
            return self.files[0].digest
        if any(each.digest is None for each in self.files):
            return None
        named = [(unquote_to_bytes(each.path), each.version or 0, each) for each in self.files]
        lines = (_line(path, each) for path, _, each in sorted(named, key=lambda each: each[:2]))
        return Digest.of("".join(lines).encode())


def _line(path: bytes, file: FileState) -> str:
    """Return what ``b3sum`` prints for a file.

    Source: BLAKE3, b3sum/what_does_check_do.md, "Formal Rules", 2 to 4.
    """
    name = path.decode("utf-8", "replace")
    written = name.replace("\\", "\\\\").replace("\n", "\\n")
    mark = "" if written == name else "\\"
    return f"{mark}{file.digest}  {written}\n"


def state_of_version(version: FileVersion) -> FileState:
    """Return a version as a part of a data set."""
    place = run_iri(version.session, version.run)
    path = escaped(version.path, kept="/")
    size, loss = version.size, version.loss
    return FileState(place, path, version.version, version.content, size, loss)


def state_of_used(used: Used, session: str) -> FileState:
    """Return something that was used as a part of a data set."""
    if used.run is not None and used.path is not None:
        place, path = run_iri(session, used.run), escaped(used.path, kept="/")
    elif used.uri is not None:
        parts = urlsplit(used.iri)
        place = f"{parts.scheme}://{parts.netloc}"
        path = used.iri.removeprefix(f"{parts.scheme}:").removeprefix(f"//{parts.netloc}")
    else:
        place, _, path = bytes_iri(str(used.digest)).rpartition("/")
    return FileState(place, path.lstrip("/"), used.version, used.digest, used.size)


def grouped(files: Iterable[FileState], *, limit: int = MAX_DATASETS) -> list[DataSet]:
    """Return files as data sets, by place and name.

    Up to `limit` files are one each. More are grouped by directory and ending, such as
    ``data/*.csv``. If those are too many, by directory, at the depth where there are few enough;
    there is at least one for each place.
    """
    states = list(dict.fromkeys(files))
    found = _by(states, lambda file: file.path)
    if len(found) > limit:
        found = _by(states, _ending)
    depth = max((each.path.count("/") for each in states), default=0)
    while len(found) > limit and depth >= 0:
        found = _by(states, lambda file, depth=depth: _directory(file, depth))  # type: ignore[misc]
        depth -= 1
    return found


def _by(files: list[FileState], pattern: Callable[[FileState], str]) -> list[DataSet]:
    sets: defaultdict[tuple[str, str], list[FileState]] = defaultdict(list)
    for each in sorted(files, key=lambda file: (file.path, file.version or 0)):
        sets[each.place, pattern(each)].append(each)
    return [DataSet(*name, tuple(sets[name])) for name in sorted(sets)]


def _ending(file: FileState) -> str:
    folder, separator, name = file.path.rpartition("/")
    return f"{folder}{separator}*{PurePosixPath(name).suffix}"


def _directory(file: FileState, depth: int) -> str:
    return "/".join([*file.path.split("/")[:-1][:depth], "**"])
