"""Export of one state of a run as a zip or tar file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index import ExportReport
from index.export.targets import new_file, shown_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from index import Progress, Run, Snapshot
    from index.export.targets import FileTarget

__all__ = ["export_tar", "export_zip"]


def export_zip(
    run: Run,
    target: FileTarget,
    *,
    at: int | str | Snapshot | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExportReport:
    """Write the files of a run, with modes and times, into a new zip file.

    `Run.archive` says what it leaves out, and how it writes names.

    Parameters
    ----------
    target
        The path of the new file, or a binary stream to write to.
    at
        The snapshot; None for the present state.

    Raises
    ------
    ExportFailedError
        When the file exists or can't be written. There is no part of it.
    DanglingFileError, DamagedFileError
        When bytes are missing or damaged in storage. There is no part of the file.
    """
    return _export("zip", run, target, at, progress)


def export_tar(
    run: Run,
    target: FileTarget,
    *,
    at: int | str | Snapshot | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExportReport:
    """Write the files of a run into a new tar file. Parameters and errors are of `export_zip`."""
    return _export("tar", run, target, at, progress)


def _export(
    kind: Literal["zip", "tar"],
    run: Run,
    target: FileTarget,
    at: int | str | Snapshot | None,
    progress: Callable[[Progress], None] | None,
) -> ExportReport:
    made = run.archive(kind, at=at)
    with new_file(target) as opened:
        for piece in made.pieces(progress):
            opened.write(piece)
    counts = (1, made.files, made.bytes, tuple(made.left_out))
    return ExportReport(run.key.session, run.id, kind, shown_target(target), *counts)
