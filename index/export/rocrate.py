"""Export of a run as an RO-Crate, with the Workflow Run profiles."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import TYPE_CHECKING, BinaryIO, Final

from cas.deflating import set_level
from cas.digest import Digest
from index import ExportReport, Progress, Skipped
from index.export.activities import read_run
from index.export.anonymise import anonymised
from index.export.crate_entities import (
    METADATA,
    CrateAbout,
    CrateFiles,
    metadata_of,
)
from index.export.names import escaped, fits, is_text
from index.export.recorded_workflow import WORKFLOW, workflow_of
from index.export.targets import new_directory, new_file, shown_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from index import FileVersion, Run, Snapshot
    from index.export.anonymise import Pseudonyms
    from index.export.crate_entities import CrateProfile
    from index.export.targets import FileTarget

__all__ = ["export_rocrate"]

_PIECE: Final = 1 << 20
"""Bytes that are read at once."""

_LINK: Final = "it is a symbolic link; the metadata has its target"
_HIDDEN_LINK: Final = "it is a symbolic link that leads out of the run; its target is not shown"

_PERMISSIONS: Final = 0o777

_YEARS: Final = (315_532_800, 4_354_819_198)
"""The first and the last second that a zip file can name: 1980 to 2107."""


def export_rocrate(
    run: Run,
    target: FileTarget,
    *,
    at: int | str | Snapshot | None = None,
    profile: CrateProfile | None = None,
    title: str | None = None,
    description: str | None = None,
    licence: str | None = None,
    pseudonyms: Pseudonyms | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExportReport:
    """Write the files of a run, with who made them from what, into a new RO-Crate 1.1.

    The files are in ``files/``. A name that is not UTF-8, or has control characters, is
    percent-encoded, and its file is in ``renamed/``; if it is too long for a file, a digest is its
    name there.
    Links, earlier versions and inputs of other runs are not in the crate: it describes them, by
    their `cas://` URL and digest.

    Parameters
    ----------
    target
        The path of a new directory. If it ends with ``.zip``, or is a binary stream, a zip file.
    at
        The snapshot; None for the newest.
    profile
        What describes the run: ``"process"`` the activities, ``"workflow"`` the run as one
        execution of a workflow, ``"provenance"`` also its steps. None for the last one if any
        activity has a node or step, and for the first one otherwise.
    title, description
        Of the crate. None for a sentence with the ids of the run and its session.
    licence
        A URL or a text. A crate must have one; None says that nobody gave any.
    pseudonyms
        What replaces ids, agents and hosts. The files stay as they are. Targets of links that lead
        out of the run are left out.

    Raises
    ------
    ExportFailedError
        When the target exists or can't be written. There is no part of it.
    DanglingFileError, DamagedFileError
        When bytes are missing or damaged in storage. There is no part of the target.
    """
    recorded = anonymised(read_run(run, at=at), pseudonyms)
    about = CrateAbout(title, description, licence)
    digests: dict[str, str] = {}
    links: dict[str, str | None] = {}
    left_out: list[Skipped] = []
    total = 0
    with _writing(target, recorded.recorded_at) as payload:
        for version in recorded.present:
            if version.loss is not None:
                left_out.append(Skipped(version.path, version.loss))
                continue
            with run.open(version.path, version=version.version) as stream:
                if version.is_link:
                    target_of_link = stream.read().decode("utf-8", "surrogateescape")
                    is_shown = pseudonyms is None or _stays(version.path, target_of_link)
                    links[version.path] = target_of_link if is_shown else None
                    left_out.append(Skipped(version.path, _LINK if is_shown else _HIDDEN_LINK))
                    continue
                digests[version.path] = payload.add(_name_of(version.path), version, stream)
            total += version.size
            if progress is not None:
                progress(Progress(len(digests), total))
        names = {path: _name_of(path) for path in digests}
        graph = metadata_of(recorded, about, CrateFiles(names, digests, links), profile)
        if graph.has_workflow:
            payload.write(WORKFLOW, _json(workflow_of(recorded)))
        payload.write(METADATA, _json(graph.document))
    where = shown_target(target)
    counts = (recorded.at, len(digests), total, tuple(left_out))
    return ExportReport(recorded.session, recorded.run, "rocrate", where, *counts)


def _stays(path: str, target: str) -> bool:
    """Whether a link leads to another path of the run, and not to one of the machine."""
    found = normpath(join(dirname(path), target))
    return not found.startswith("/") and found != ".." and not found.startswith("../")


def _name_of(path: str) -> str:
    """Return the name of a file in the crate, which no other path has."""
    if is_text(path) and fits(path):
        return f"files/{path}"
    name = escaped(path, kept="/")
    if not fits(name):
        name = f"blake3-{Digest.of(path.encode('utf-8', 'surrogateescape'))}"
    return f"renamed/{name}"


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


@contextmanager
def _writing(target: FileTarget, made_at: datetime) -> Iterator[_Directory | _Zip]:
    if isinstance(target, str | os.PathLike) and Path(target).suffix.lower() != ".zip":
        with new_directory(target) as folder:
            yield _Directory(folder)
        return
    with new_file(target) as opened, zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED) as made:
        yield _Zip(made, made_at)


class _Directory:
    """Writes a crate as a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, name: str, version: FileVersion, stream: BinaryIO) -> str:
        """Write a file; return its SHA-256."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as opened:
            digest = _copied(stream, opened)
        path.chmod(version.mode & _PERMISSIONS)
        os.utime(path, ns=(version.mtime_ns, version.mtime_ns))
        return digest

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the crate itself."""
        (self._root / name).write_bytes(data)


class _Zip:
    """Writes a crate as a zip file."""

    def __init__(self, made: zipfile.ZipFile, made_at: datetime) -> None:
        """Bind to an open file, and to the time that the crate's own files get."""
        self._made = made
        self._made_at = made_at

    def add(self, name: str, version: FileVersion, stream: BinaryIO) -> str:
        """Write a file; return its SHA-256."""
        seconds = min(max(version.mtime_ns // 10**9, _YEARS[0]), _YEARS[1])
        info = zipfile.ZipInfo(name, time.gmtime(seconds)[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = (version.mode & _PERMISSIONS | 0o100000) << 16
        info.file_size = version.size
        set_level(info, stream)
        with self._made.open(info, "w") as opened:
            return _copied(stream, opened)

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the crate itself."""
        info = zipfile.ZipInfo(name, self._made_at.timetuple()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o100644 << 16
        self._made.writestr(info, data)


def _copied(source: BinaryIO, target: object) -> str:
    digest = hashlib.sha256()
    while piece := source.read(_PIECE):
        digest.update(piece)
        target.write(piece)  # type: ignore[attr-defined]  # a file, or one in a zip file
    return digest.hexdigest()
