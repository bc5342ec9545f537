"""What a commit's DVC files say: outputs with their digests, and the stages that made them."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from index.imports.sources import UnreadableFileError, load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = ["CachedFile", "DvcCache", "Output", "Stage", "is_dvc_file", "read_dvc_file"]

_PIECE: Final = 1 << 20
_MAX_MANIFEST: Final = 1 << 30
"""Bytes of the list of a directory's files, which is held in memory: about 10 million files."""

_DIRECTORY: Final = ".dir"
_NOTED: Final = ("cmd", "params", "deps")
"""What the notes of a stage's snapshot have of it."""

_OTHER_SHAPE: Final = (AttributeError, LookupError, TypeError, ValueError, RecursionError)
"""What reading a document raises that has another shape than DVC's."""

_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Output:
    """A file or directory that DVC keeps: its path in the repository, and its digest."""

    path: str
    md5: str
    """With ``.dir`` at its end for a directory."""
    is_old: bool
    """Whether DVC 2 has stored it: at another place, and with a digest of text of its own."""
    is_executable: bool = False
    files: tuple[tuple[str, str], ...] = ()
    """Paths and digests, where the DVC file itself lists those of a directory."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage, or one ``.dvc`` file, has made of what."""

    name: str | None
    """None for a ``.dvc`` file."""
    outputs: tuple[Output, ...]
    inputs: tuple[tuple[str, str], ...] = ()
    """Paths and digests of what it read."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()


def is_dvc_file(path: str) -> bool:
    """Whether a path is that of a ``.dvc`` file or a ``dvc.lock``."""
    name = path.rpartition("/")[2]
    return name == "dvc.lock" or (name.endswith(".dvc") and name != ".dvc")


def read_dvc_file(path: str, data: bytes) -> list[Stage]:
    """Return the stages of a ``.dvc`` file or a ``dvc.lock``, each after what it reads.

    Raises
    ------
    UnreadableFileError
        When it is no such file.
    MissingPackageError
        When PyYAML is missing.
    """
    directory = posixpath.dirname(path)
    try:
        found = load_yaml(data, "an import of DVC files")
        if path.rpartition("/")[2] != "dvc.lock":
            place = posixpath.join(directory, str(found.get("wdir") or "."))
            return [_stage(None, found, place)]
        stages = found.get("stages", found)
        return _in_order([_stage(str(name), each, directory) for name, each in stages.items()])
    except _OTHER_SHAPE as error:
        raise UnreadableFileError("it is no file of DVC as DVC 2 or 3 writes it") from error


def _stage(name: str | None, found: dict[str, Any], place: str) -> Stage:
    outputs, skipped = [], []
    for each in found.get("outs") or ():
        path = posixpath.normpath(posixpath.join(place, str(each["path"])))
        if "://" in str(each["path"]) or path.startswith(("/", "../")) or path in (".", ".."):
            skipped.append((str(each["path"]), "it lies outside of the repository"))
            continue
        md5 = each.get("md5")
        if md5 is None and not each.get("files"):
            skipped.append((path, "its DVC file has no MD5 digest of it"))
            continue
        outputs.append(
            Output(
                path,
                str(md5 or _DIRECTORY),
                is_old=each.get("hash") != "md5",
                is_executable=bool(each.get("isexec")),
                files=tuple((str(f["relpath"]), str(f["md5"])) for f in each.get("files") or ()),
            )
        )
    inputs = [
        (posixpath.normpath(posixpath.join(place, str(each["path"]))), str(each["md5"]))
        for each in found.get("deps") or ()
        if each.get("path") and each.get("md5")
    ]
    notes = {
        key: json.loads(json.dumps(found[key], default=str), parse_constant=str)
        for key in _NOTED
        if found.get(key)
    }
    return Stage(name, tuple(outputs), tuple(inputs), notes, tuple(skipped))


def _in_order(stages: list[Stage]) -> list[Stage]:
    """Return stages so that none comes before one whose outputs it reads."""
    from graphlib import CycleError, TopologicalSorter

    maker = {each.path: number for number, stage in enumerate(stages) for each in stage.outputs}
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for number, stage in enumerate(stages):
        read = {maker[path] for path, _ in stage.inputs if path in maker} - {number}
        sorter.add(number, *sorted(read))
    try:
        return [stages[number] for number in sorter.static_order()]
    except CycleError:
        return stages


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file whose content is in the cache of DVC."""

    cache: DvcCache
    md5: str
    is_old: bool = False
    is_executable: bool = False
    remark: None = None

    @property
    def key(self) -> str:
        """Its digest in DVC."""
        return self.md5

    @property
    def mode(self) -> int:
        """The `stat` mode that DVC gives such a file."""
        return stat.S_IFREG | (0o755 if self.is_executable else 0o644)

    def pieces(self) -> Iterator[bytes]:
        """Yield the content. Raises UnreadableFileError, perhaps at the end."""
        return self.cache.iter_object(self.md5, is_old=self.is_old)

    def agrees(self, pieces: Iterable[bytes], size: int) -> bool:
        """Whether these bytes have that digest."""
        hashed = _Md5(is_old=self.is_old)
        for piece in pieces:
            hashed.update(piece)
        return self.md5 in hashed.digests()


class DvcCache:
    """The cache of a DVC repository, in the layouts of DVC 2 and 3. It is only read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._manifests: dict[tuple[str, bool], tuple[tuple[str, str], ...]] = {}

    def list_files(self, output: Output) -> tuple[tuple[str, str], ...]:
        """Return the files of a directory: their paths in it, and their digests.

        Raises UnreadableFileError.
        """
        if output.files:
            return output.files
        key = output.md5, output.is_old
        if key not in self._manifests:
            data = bytearray()
            for piece in self.iter_object(*key[:1], is_old=output.is_old):
                data += piece
                if len(data) > _MAX_MANIFEST:
                    raise UnreadableFileError("its list of files is too large")
            try:
                self._manifests[key] = tuple(
                    (str(each["relpath"]), str(each["md5"])) for each in json.loads(bytes(data))
                )
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise UnreadableFileError("its list of files in the cache is damaged") from error
        return self._manifests[key]

    def iter_object(self, md5: str, *, is_old: bool) -> Iterator[bytes]:
        """Yield an object of the cache. Raises UnreadableFileError, perhaps at the end."""
        digits = md5.removesuffix(_DIRECTORY)
        if len(digits) != 32 or not _HEX.issuperset(digits):
            raise UnreadableFileError("its digest in DVC is no MD5 digest")
        hashed = _Md5(is_old=is_old)
        fd = self._open(md5)
        with open(fd, "rb") as file:
            while piece := _read(file):
                hashed.update(piece)
                yield piece
        if digits not in hashed.digests():
            raise UnreadableFileError("its bytes in DVC's cache do not have their MD5 digest")

    def _open(self, md5: str) -> int:
        """Open an object. A link is not followed: it may lead anywhere."""
        for place in (("files", "md5", md5[:2], md5[2:]), (md5[:2], md5[2:])):
            path = self._directory.joinpath(*place)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _unreadable(error) from error
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
            raise UnreadableFileError("what DVC's cache has in its place is no file")
        raise UnreadableFileError(
            f"DVC's cache does not have it ({md5}); run `dvc fetch --all-commits` before the import"
        )


def _read(file: BinaryIO) -> bytes:
    try:
        return file.read(_PIECE)
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> UnreadableFileError:
    return UnreadableFileError(f"it can't be read in DVC's cache: {error.strerror}")


class _Md5:
    """The digest of DVC 3, and for what DVC 2 has stored, also that of text with Unix line ends.

    Source: dvc, `dvc_objects/hashfile` "md5-dos2unix".
    """

    def __init__(self, *, is_old: bool) -> None:
        self._plain = hashlib.md5(usedforsecurity=False)
        self._text = hashlib.md5(usedforsecurity=False) if is_old else None
        self._end = b""

    def update(self, piece: bytes) -> None:
        self._plain.update(piece)
        if self._text is not None:
            data = self._end + piece
            self._end = data[-1:] if data.endswith(b"\r") else b""
            self._text.update(data[: len(data) - len(self._end)].replace(b"\r\n", b"\n"))

    def digests(self) -> tuple[str, ...]:
        if self._text is None:
            return (self._plain.hexdigest(),)
        text = self._text.copy()
        text.update(self._end)
        return self._plain.hexdigest(), text.hexdigest()
