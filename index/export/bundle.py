"""Export of a run as a bundle: one file with its history, which another store imports.

A bundle is a tar file of the storage of a small store, ``cas.json`` and packs, that holds the run
alone. Where this library is not at hand, ``docs/unpack.py`` reads the packs.
"""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from index import ArtifactStore, ExportReport
from index.errors import ExportFailedError
from index.export.targets import new_file, shown_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from index import Progress, Run
    from index.export.targets import FileTarget

__all__ = ["export_bundle"]


def export_bundle(
    run: Run, target: FileTarget, *, progress: Callable[[Progress], None] | None = None
) -> ExportReport:
    """Write a run with its whole history into one new file, which `read_bundle` imports.

    Nothing of other runs is in it, but for bytes that are equal. A fork is complete, without the
    run that it comes from. The bytes are compressed as they are stored. The file is first made as a
    directory: beside it, or among the temporary files for a stream.

    Parameters
    ----------
    target
        The path of the new file, or a binary stream to write to.

    Raises
    ------
    UnknownRunError
        When there is no such run.
    ExportFailedError
        When the file exists or can't be written, or bytes of the run are missing or damaged. There
        is no part of the file.
    """
    run.summary()
    shown = shown_target(target)
    beside = None if shown == "-" else Path(shown).parent
    with (
        new_file(target) as opened,
        tempfile.TemporaryDirectory(prefix=".cas-export-", dir=beside) as folder,
    ):
        with ArtifactStore.open(folder) as copy:
            report = copy.session(run.key.session).copy_run(run, progress=progress)
            if report.unsynced:
                reason = f"run {run.id!r} can't be copied: {report.unsynced[0].reason}"
                raise ExportFailedError(shown, reason)
            stats = copy.stats()
        root = Path(folder)
        with tarfile.open(fileobj=opened, mode="w|", format=tarfile.PAX_FORMAT) as made:
            for file in (root / "cas.json", *sorted(root.glob("packs/*/*"))):
                made.add(file, str(file.relative_to(root)), filter=_plain)
    counts = (report.runs[0].snapshots, stats.versions, stats.version_bytes)
    return ExportReport(run.key.session, run.id, "bundle", shown, *counts)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out who made the file, and when."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
