"""Export of a run as an OCFL object: one OCFL version for each snapshot.

Source: Oxford Common File Layout Specification, version 1.1.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from index import ExportReport
from index.errors import ExportFailedError
from index.export.contents import ALGORITHM, Contents, address_of, sha512_of, write_history
from index.export.targets import new_directory

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from index import FileVersion, Progress, Run, Snapshot

__all__ = ["export_ocfl"]

_DECLARATION: Final = "ocfl_object_1.1"
_TYPE: Final = "https://ocfl.io/1.1/spec/#inventory"
_HISTORY: Final = "extensions/runcas-history"
"""The directory of an extension that is not registered. A reader ignores what it does not know."""

_MOST: Final = 2_000_000
"""Entries of an inventory, which has all files of all versions: some 400 MB. Inventories are held
in memory by those who read them."""

_MOST_EARLIER: Final = 1_000_000
"""Entries of all inventories but the last one. What is beyond is left out: each repeats those
before it, and the standard recommends them only."""


def export_ocfl(
    run: Run,
    target: str | os.PathLike[str],
    *,
    progress: Callable[[Progress], None] | None = None,
) -> ExportReport:
    """Write a run with its history as a new OCFL object, which `read_ocfl` imports as it was.

    Each snapshot is a version of the object, and each content one file, which is named by its
    BLAKE3 digest. The extension ``runcas-history`` has the whole history, with provenance, modes,
    times and tags. To OCFL, a symbolic link is a file that holds its target. A path that is not
    valid UTF-8 has ``%FF`` in place of such bytes, and then ``%25`` in place of a ``%``.

    Parameters
    ----------
    target
        The new directory, or an empty one.

    Raises
    ------
    ExportFailedError
        When the target exists or can't be written, when the run has no snapshots, or so many of so
        many files that an inventory of all would be too large. Nothing is left of it.
    DanglingFileError, DamagedFileError
        When bytes are missing or damaged in storage. Nothing is left of it.
    """
    with new_directory(target) as root:
        history = root / _HISTORY / "history.jsonl"
        history.parent.mkdir(parents=True)
        snapshots = write_history(run, history, str(target))
        sidecar = history.with_name(f"{history.name}.{ALGORITHM}")
        sidecar.write_text(f"{sha512_of(history)} {history.name}\n")
        (root / f"0={_DECLARATION}").write_text(f"{_DECLARATION}\n")
        contents = Contents(run, progress)
        _Object(run, root, contents, str(target)).write(snapshots)
    counts = (len(snapshots), contents.files, contents.bytes)
    return ExportReport(run.key.session, run.id, "ocfl", str(target), *counts)


class _Object:
    """An OCFL object that is written version by version."""

    def __init__(self, run: Run, root: Path, contents: Contents, target: str) -> None:
        self._run = run
        self._target = target
        self._root = root
        self._contents = contents
        self._state: dict[str, FileVersion] = {}
        self._manifest: dict[str, list[str]] = {}
        self._versions: dict[str, Any] = {}
        self._entries = 0
        self._earlier = 0

    def write(self, snapshots: Sequence[Snapshot]) -> None:
        """Write all versions, and the inventory in the root of the object."""
        for snapshot in snapshots:
            self._add(snapshot)
            self._entries += len(self._state)
            if self._entries > _MOST:
                raise ExportFailedError(
                    self._target,
                    f"the {len(snapshots)} snapshots of run {self._run.id!r} list more than"
                    f" {_MOST:,} files, too many for an OCFL inventory; export it as a bundle or a"
                    " bag",
                )
            is_last = snapshot is snapshots[-1]
            self._earlier += 0 if is_last else self._entries
            if is_last or self._earlier <= _MOST_EARLIER:
                self._write_inventory(self._root / f"v{snapshot.number}", snapshot)
        self._write_inventory(self._root, snapshots[-1])

    def _add(self, snapshot: Snapshot) -> None:
        for version in snapshot.removed:
            self._state.pop(version.path, None)
        folder = self._root / f"v{snapshot.number}"
        folder.mkdir()
        for version in (*snapshot.added, *snapshot.changed):
            digest = version.digest
            if digest is None:  # adopted without bytes; never current
                continue
            self._state[version.path] = version
            if digest not in self._contents.known:
                (folder / "content").mkdir(exist_ok=True)
                file = folder / "content" / str(digest)
                found = self._contents.write(version, digest, file)
                self._manifest[found] = [str(file.relative_to(self._root))]
        state: dict[str, list[str]] = {}
        names = {path: _logical(path) for path in self._state}
        if len({*names.values()}) < len(names):
            raise ExportFailedError(
                self._target,
                f"two paths of run {self._run.id!r} are one in UTF-8; export it as a bag or a"
                " bundle",
            )
        for path, version in self._state.items():
            assert version.digest is not None  # noqa: S101 - others were passed over
            state.setdefault(self._contents.known[version.digest], []).append(names[path])
        self._versions[f"v{snapshot.number}"] = {
            "created": snapshot.created_at.isoformat(),
            "message": _message(snapshot),
            **({"user": {"name": snapshot.provenance.agent}} if snapshot.provenance.agent else {}),
            "state": state,
        }

    def _write_inventory(self, folder: Path, head: Snapshot) -> None:
        file = folder / "inventory.json"
        inventory = {
            "id": address_of(self._run),
            "type": _TYPE,
            "digestAlgorithm": ALGORITHM,
            "head": f"v{head.number}",
            "manifest": self._manifest,
            "versions": self._versions,
        }
        with file.open("x", encoding="ascii") as opened:
            json.dump(inventory, opened, indent=1)
        (folder / f"{file.name}.{ALGORITHM}").write_text(f"{sha512_of(file)} {file.name}\n")


def _logical(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        encoded = path.replace("%", "%25")
        return "".join(
            quote(each, safe="", errors="surrogateescape") if "\udc80" <= each <= "\udcff" else each
            for each in encoded
        )
    return path


def _message(snapshot: Snapshot) -> str:
    labels = {each: value for each, value in snapshot.provenance.to_dict().items() if value}
    made_by = "".join(f", {name} {value}" for name, value in labels.items() if name != "agent")
    changes = ("added", "changed", "removed")
    counts = ", ".join(f"{len(getattr(snapshot, each))} {each}" for each in changes)
    return f"snapshot {snapshot.number}{made_by}: {counts}"
