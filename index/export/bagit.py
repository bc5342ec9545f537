"""Export of a run, or of one state of it, as a bag.

Source: RFC 8493, The BagIt File Packaging Format (V1.0).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from index import ExportReport, Skipped, __version__
from index.export.contents import ALGORITHM, Contents, address_of, sha512_of, write_history
from index.export.names import fits
from index.export.targets import new_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from cas.digest import Digest
    from index import FileVersion, Progress, Run, Snapshot

__all__ = ["export_bagit"]

_TAGS: Final = "runcas"
"""The directory of tag files that only this library reads."""

_ENCODED: Final = {"%": "%25", "\n": "%0A", "\r": "%0D"}
"""What is percent-encoded in manifests (RFC 8493, section 2.1.3)."""


def export_bagit(
    run: Run,
    target: str | os.PathLike[str],
    *,
    at: int | str | Snapshot | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExportReport:
    """Write a run with its history as a new bag, which `read_bagit` imports as it was.

    ``data/files`` has the present files. ``data/versions`` has the contents of past versions, of
    links, and of files whose names are too long or read differently by programs, each named by its
    BLAKE3 digest. The tag file ``runcas/history.jsonl`` has the whole history, with provenance,
    modes, times and tags.

    Parameters
    ----------
    target
        The new directory, or an empty one.
    at
        A snapshot: then ``data`` has just its files, and ``runcas/manifest.json`` says what they
        are. Links, files whose bytes were dropped, and names that are not valid UTF-8 or too long
        for a file are left out.

    Raises
    ------
    ExportFailedError
        When the target exists or can't be written, or the run has no snapshots. Nothing is left of
        it.
    DanglingFileError, DamagedFileError
        When bytes are missing or damaged in storage. Nothing is left of it.
    """
    with new_directory(target) as root:
        (root / _TAGS).mkdir()
        bag = _Bag(root, Contents(run, progress))
        if at is None:
            snapshots = write_history(run, root / _TAGS / "history.jsonl", str(target))
            bag.add_history(snapshots)
            count = len(snapshots)
        else:
            with (root / _TAGS / "manifest.json").open("x", encoding="ascii") as opened:
                json.dump(run.manifest(at=at), opened, indent=1)
            bag.add_state(run.iter_files(at=at))
            count = 1
        bag.finish()
    counts = (count, bag.contents.files, bag.contents.bytes, tuple(bag.left_out))
    return ExportReport(run.key.session, run.id, "bagit", str(target), *counts)


class _Bag:
    """A bag that is being written."""

    def __init__(self, root: Path, contents: Contents) -> None:
        self._root = root
        self.contents = contents
        self.left_out: list[Skipped] = []
        self._lines: list[str] = []
        self._data = root / "data"
        self._data.mkdir()

    def add_history(self, snapshots: Iterable[Snapshot]) -> None:
        """Add the present files, and all other contents of a history."""
        current: dict[str, FileVersion] = {}
        every: dict[Digest, FileVersion] = {}
        for snapshot in snapshots:
            for version in snapshot.removed:
                current.pop(version.path, None)
            for version in (*snapshot.added, *snapshot.changed):
                if version.digest is not None:
                    current[version.path] = version
                    every.setdefault(version.digest, version)
        for path, version in current.items():
            if _is_plain(path) and fits(path) and not version.is_link:
                self._add(version, f"files/{path}")
        for digest, version in every.items():
            if digest not in self.contents.known:
                self._add(version, f"versions/{digest}")

    def add_state(self, versions: Iterable[FileVersion]) -> None:
        """Add the files of one snapshot."""
        for version in versions:
            if version.loss is not None:
                self.left_out.append(Skipped(version.path, version.loss))
            elif version.is_link:
                self.left_out.append(Skipped(version.path, "it is a link, which a bag can't hold"))
            elif not _is_utf8(version.path):
                self.left_out.append(Skipped(version.path, "its name is not valid UTF-8"))
            elif not fits(version.path):
                self.left_out.append(Skipped(version.path, "its name is too long for a file"))
            else:
                self._add(version, version.path)

    def _add(self, version: FileVersion, path: str) -> None:
        digest = version.digest
        assert digest is not None  # noqa: S101 - the callers look only at stored versions
        file = self._data / path
        file.parent.mkdir(parents=True, exist_ok=True)
        self._list(self.contents.write(version, digest, file), f"data/{path}")
        file.chmod(0o644 | version.mode & 0o111)
        with suppress(OSError, OverflowError):  # a time that this filesystem can't hold
            os.utime(file, ns=(version.mtime_ns, version.mtime_ns))

    def _list(self, digest: str, path: str) -> None:
        encoded = "".join(_ENCODED.get(each, each) for each in path)
        self._lines.append(f"{digest}  {encoded}\n")

    def finish(self) -> None:
        """Write the tag files, the manifests last."""
        info = {
            "Bag-Software-Agent": f"runcas {__version__}",
            "Bagging-Date": f"{datetime.now(UTC):%Y-%m-%d}",
            "External-Identifier": address_of(self.contents.run),
            "Payload-Oxum": f"{self.contents.bytes}.{self.contents.files}",
        }
        self._write("bagit.txt", ("BagIt-Version: 1.0\n", "Tag-File-Character-Encoding: UTF-8\n"))
        self._write("bag-info.txt", (f"{name}: {value}\n" for name, value in info.items()))
        self._write(f"manifest-{ALGORITHM}.txt", self._lines)
        self._lines = []
        for file in sorted((*self._root.glob("*.txt"), *(self._root / _TAGS).iterdir())):
            self._list(sha512_of(file), str(file.relative_to(self._root)))
        self._write(f"tagmanifest-{ALGORITHM}.txt", self._lines)

    def _write(self, name: str, lines: Iterable[str]) -> None:
        with (self._root / name).open("x", encoding="utf-8", newline="") as opened:
            opened.writelines(lines)


def _is_utf8(path: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in path)


def _is_plain(path: str) -> bool:
    """Whether all programs read the name from a manifest alike.

    Some don't decode a ``%``, end a line at other characters than the standard's, or strip it.
    """
    return path.isprintable() and "%" not in path and path == path.strip()
