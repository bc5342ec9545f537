"""Export of a run as OpenLineage events."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from index import ExportReport
from index.errors import ExportFailedError, MissingPackageError
from index.export.activities import read_run
from index.export.anonymise import anonymised
from index.export.datasets import MAX_DATASETS
from index.export.targets import new_file, shown_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from index import Progress, Run, Snapshot
    from index.export.anonymise import Pseudonyms
    from index.export.targets import FileTarget

__all__ = ["export_openlineage"]


def export_openlineage(
    run: Run,
    target: FileTarget,
    *,
    at: int | str | Snapshot | None = None,
    limit: int = MAX_DATASETS,
    pseudonyms: Pseudonyms | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExportReport:
    """Write what a run did into a new file of OpenLineage events, one JSON object a line.

    The run has the events ``START`` and ``COMPLETE``, ``FAIL`` or ``ABORT``; ``RUNNING`` if it is
    said to be running. Each activity with a node, step or event has its own events, with the run
    as their parent. Each data set has its digest and size; see `datasets.DataSet`. The official
    client writes the events; it needs the extra ``openlineage``.

    Parameters
    ----------
    target
        The path of the new file, or a binary stream to write to.
    at
        The last snapshot to describe; None for the newest.
    limit
        The largest number of inputs, and of outputs, of an event. If there are more files, a data
        set is a pattern such as ``data/*.csv``.
    pseudonyms
        What replaces ids, agents and hosts.

    Raises
    ------
    ExportFailedError
        When the file exists or can't be written. There is no part of it.
    MissingPackageError
        When the client is not installed.
    """
    try:
        from openlineage.client.transport.file import FileConfig, FileTransport

        from index.export.lineage_events import events_of
    except ImportError as error:
        package, extra = "openlineage-python", "runcas[openlineage]"
        raise MissingPackageError("an export as OpenLineage", package, extra) from error
    if limit < 1:
        raise ValueError(f"limit is at least 1, not {limit}")
    recorded = anonymised(read_run(run, at=at), pseudonyms)
    with new_file(target) as opened, tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "events")
        written.touch()
        transport = FileTransport(FileConfig(str(written), append=True))
        try:
            for event in events_of(recorded, limit=limit):
                transport.emit(event)
        except RuntimeError as error:  # how the client tells of a full disk
            # Its words name a file that is gone.
            cause = getattr(error.__cause__, "strerror", None) or type(error.__cause__).__name__
            reason = f"its events can't be written to a temporary file: {cause}"
            raise ExportFailedError(shown_target(target), reason) from error
        with written.open("rb") as source:
            shutil.copyfileobj(source, opened)
        recorded.report_to(progress)
    where = shown_target(target)
    return ExportReport(recorded.session, recorded.run, "openlineage", where, recorded.at, 0, 0)
