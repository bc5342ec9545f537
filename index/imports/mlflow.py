"""Import of MLflow runs: artifacts as files; parameters, metrics and tags as notes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from index import Skipped
from index.errors import ImportSourceError, InvalidNameError
from index.imports.directories import compare_directory, has_changed, iter_files
from index.imports.mlflow_runs import list_runs
from index.imports.scratch import temporary_folder
from index.imports.sources import label_of, shown
from index.imports.tally import Tally, note_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from index import ImportReport, Progress, RunStatus, Session
    from index.imports.mlflow_runs import MlflowRun

__all__ = ["read_mlflow"]

_STATUS: Final[dict[str, RunStatus]] = {
    "RUNNING": "running",
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "cancelled",
}
_EVERYTHING: Final[dict[str, Any]] = {"hidden": True, "default_ignores": False}


def read_mlflow(
    session: Session,
    source: str | os.PathLike[str],
    *,
    run: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[ImportReport, ...]:
    """Record MLflow runs, each as a run of the session; return their reports.

    The first report also names the directories of runs that MLflow's files do not describe.

    The id of a run is that of MLflow. Its files are the artifacts, and those of models that it has
    logged, below ``models/ID``, each in a snapshot of its own. Its notes have the name, the
    experiment, the parameters, the tags, the last value of each metric and the history of metrics,
    and the times of the run. It gets the status that MLflow gives it. The user is the agent, and
    the git commit the hash of the code. If you repeat the import, a run with nothing new is passed
    over; one with new values or artifacts gets another snapshot.

    Parameters
    ----------
    source
        A tracking directory (``mlruns``), one experiment or run in it, or the SQLite database of a
        tracking server (``mlflow.db``), with the artifacts beside it in ``mlruns`` or
        ``mlartifacts``. It is only read, without MLflow.
    run
        Another id, if the source has a single run.

    Raises
    ------
    ImportSourceError
        When it is none of these, or a run holds something else. Also when others write to the run
        during the import.
    ImportMismatchError
        When what was recorded differs from what MLflow has.
    MissingPackageError
        When PyYAML is missing: ``pip install 'runcas[imports]'``.
    """
    root = Path(source)
    skipped: list[Skipped] = []
    found = _usable(session, root, list(list_runs(root, skipped)), run, skipped)
    if not found:
        damaged = "".join(f" ({path}: {reason})" for path, reason in skipped[:1])
        reason = f"it has no runs of MLflow{damaged}; name a tracking directory"
        raise ImportSourceError(str(root), reason)
    if run is not None and len(found) > 1:
        raise ImportSourceError(
            str(root),
            f"it has {len(found)} runs, which can't all be {run!r}; name one run's folder",
        )
    first, *others = (_record(session, str(root), each, run or each.id, progress) for each in found)
    return replace(first, skipped=(*skipped, *first.skipped)), *others


def _usable(
    session: Session,
    root: Path,
    found: list[MlflowRun],
    run: str | None,
    skipped: list[Skipped],
) -> list[MlflowRun]:
    """Return the runs that this store can have, one for each id; the others go to `skipped`."""
    kept: dict[str, MlflowRun] = {}
    # MLflow names the directory of a run by its id. Another one with this id is a copy.
    for each in sorted(found, key=lambda one: one.place is not None and one.place.name != one.id):
        reason = "another directory has the same run_id"
        try:
            session.run(run or each.id)
            if kept.setdefault(each.id, each) is each:
                continue
        except InvalidNameError as error:
            reason = str(error)
        path = each.id if each.place is None else os.path.relpath(each.place, root)
        skipped.append(Skipped(shown(path), reason))
    return [*kept.values()]


def _record(
    session: Session,
    source: str,
    found: MlflowRun,
    run: str,
    progress: Callable[[Progress], None] | None,
) -> ImportReport:
    tally = Tally(session.run(run), "mlflow", source, progress)
    tally.skipped += found.skipped
    notes = {"imported": note_of("mlflow", found.id, found.skipped), "mlflow": found.notes}
    imported = tally.begin()
    if imported and imported[-1][1]["revision"] != found.id:
        raise ImportSourceError(source, f"run {run!r} holds another run of MLflow; take another")
    provenance: dict[str, Any] = {
        "agent": label_of(found.user or ""),
        "code_hash": label_of(found.commit or ""),
    }
    prefixes = {model: f"models/{model}" for model in found.models}
    if (
        not imported
        or imported[-1][0].notes != notes
        or (found.artifacts is not None and has_changed(tally, found.artifacts))
    ):
        with temporary_folder() as nothing:
            snapshot = tally.run.track(
                found.artifacts or nothing,
                **_EVERYTHING,
                **provenance,
                notes=notes,
                status=_STATUS.get(found.status),
            )
        tally.count(snapshot)
        if found.artifacts is not None:
            listed = dict(iter_files(found.artifacts))
            others = [f"{prefix}/" for prefix in prefixes.values()]
            compare_directory(tally, snapshot, found.artifacts, listed, others=others)
        if tally.run.snapshot(snapshot.number).notes != notes:
            tally.differ("notes", snapshot, "they are not what MLflow has")
    for model, place in found.models.items():
        listed = dict(iter_files(place))
        snapshot = tally.run.track(place, prefix=prefixes[model], **_EVERYTHING, **provenance)
        if snapshot.recorded:
            tally.count(snapshot)
            compare_directory(tally, snapshot, place, listed, f"{prefixes[model]}/")
    return tally.report()
