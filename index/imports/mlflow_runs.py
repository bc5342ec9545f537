"""What MLflow keeps of runs: in a tracking directory, or in the SQLite database of a server."""

from __future__ import annotations

import math
import os
import sqlite3
import stat
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from index import Skipped
from index.errors import ImportSourceError
from index.imports.sources import UnreadableFileError, load_yaml, shown, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["MlflowRun", "list_runs"]

_MAX_VALUE: Final = 1 << 20
"""Bytes of one parameter, tag or description. MLflow itself takes at most 8,000."""

_MAX_METRIC: Final = 64 << 20
_MAX_POINTS: Final = 10_000
"""Points of all metrics of a run that go into its notes. They are read with every listing."""

_STATUS: Final = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
"""Source: mlflow, `protos/service.proto`, RunStatus."""

_ABOUT: Final = "meta.yaml"
_OTHERS: Final = frozenset(("tags", "datasets", "traces", "models"))
"""Directories of an experiment that are no runs; in a tracking directory, models are the registry.
Source: mlflow, `store/tracking/file_store.py`, RESERVED_EXPERIMENT_FOLDERS."""

_LINK: Final = "it is a link, which is not followed"


@dataclass(frozen=True, slots=True)
class MlflowRun:
    """A run of MLflow."""

    id: str
    place: Path | None
    """Its directory; None if it is a row of a database."""
    status: str
    user: str | None
    commit: str | None
    artifacts: Path | None
    notes: dict[str, Any]
    skipped: tuple[Skipped, ...]
    models: dict[str, Path]
    """By id: the artifacts of models that the run has logged, which MLflow 3 keeps beside runs."""


class _Point(NamedTuple):
    step: int
    value: float | str
    time_ms: int


def list_runs(source: Path, skipped: list[Skipped]) -> Iterator[MlflowRun]:
    """Yield the runs of a tracking directory, an experiment, a run's directory, or a database.

    Directories that should be experiments, runs or models, and can't be read, go to `skipped`.

    Raises
    ------
    ImportSourceError
        When it can't be read.
    MissingPackageError
        When PyYAML is missing.
    """
    if source.is_file():
        yield from _runs_of_database(source)
        return
    if not source.is_dir():
        raise ImportSourceError(str(source), "there is no file or directory of that name")
    found = _Tracked(source, skipped)
    about = found.read(source) if os.path.lexists(source / _ABOUT) else {}
    if _id_of(about):
        above = source.absolute().parent
        experiment = found.read(above).get("name") if os.path.lexists(above / _ABOUT) else None
        yield _run_of_directory(source, about, str(experiment), found.models(above))
    elif "experiment_id" in about:
        yield from found.runs(source, about)
    elif (source / "mlflow.db").is_file():
        yield from _runs_of_database(source / "mlflow.db")
    else:
        for each, experiment in found.described(source, "experiment_id"):
            yield from found.runs(each, experiment)


class _Tracked:
    """What a tracking directory has. It notes what it can't read."""

    def __init__(self, source: Path, skipped: list[Skipped]) -> None:
        self._source = source
        self._skipped = skipped

    def read(self, directory: Path) -> dict[str, Any]:
        """Return what is said of a directory; nothing, and a note of it, if that can't be read."""
        try:
            return _read_yaml(directory / _ABOUT)
        except UnreadableFileError as error:
            self._skip(directory, str(error))
            return {}

    def _skip(self, path: Path, reason: str) -> None:
        self._skipped.append(Skipped(shown(os.path.relpath(path, self._source)), reason))

    def described(self, directory: Path, *fields: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the directories in one, and what is said of each, which has one of the fields."""
        for each in sorted(directory.iterdir()):
            if each.name.startswith(".") or each.name in _OTHERS or not each.is_dir():
                continue
            if each.is_symlink():
                self._skip(each, _LINK)
                continue
            about = self.read(each)
            if any(about.get(field) not in (None, "") for field in fields):
                yield each, about
            elif about:
                self._skip(each, f"its {_ABOUT} has no {fields[0]}")

    def runs(self, directory: Path, about: Mapping[str, Any]) -> Iterator[MlflowRun]:
        """Yield the runs of an experiment that are not deleted."""
        models = self.models(directory)
        for each, run in self.described(directory, "run_id", "run_uuid"):
            if run.get("lifecycle_stage") != "deleted":
                yield _run_of_directory(each, run, str(about.get("name")), models)

    def models(self, experiment: Path) -> dict[str, dict[str, tuple[str, Path]]]:
        """Return the names and artifacts of logged models, by run and by id."""
        found: defaultdict[str, dict[str, tuple[str, Path]]] = defaultdict(dict)
        place = experiment / "models"
        if _is_directory(place):
            for each, model in self.described(place, "source_run_id"):
                artifacts = each / "artifacts"
                found[str(model["source_run_id"])][each.name] = str(model.get("name")), artifacts
        return found


def _id_of(about: Mapping[str, Any]) -> str:
    return str(about.get("run_id") or about.get("run_uuid") or "")


def _run_of_directory(
    directory: Path,
    about: Mapping[str, Any],
    experiment: str,
    models: Mapping[str, dict[str, tuple[str, Path]]],
) -> MlflowRun:
    skipped: list[Skipped] = []
    params = _read_values(directory / "params", skipped)
    tags = _read_values(directory / "tags", skipped)
    metrics = {}
    for name, text in _read_values(directory / "metrics", skipped, _MAX_METRIC).items():
        try:
            metrics[name] = sorted(_points(text), key=lambda each: (each.step, each.time_ms))
        except ValueError:
            skipped.append(Skipped(f"metrics/{name}", "it is no metric as MLflow writes it"))
    status, run = about.get("status"), _id_of(about)
    return _run(
        {
            "id": run,
            "place": directory,
            "name": about.get("run_name") or tags.get("mlflow.runName"),
            "experiment": experiment,
            "status": _STATUS.get(status, status) if isinstance(status, int) else status,
            "start_time": about.get("start_time"),
            "end_time": about.get("end_time"),
            "artifact_uri": about.get("artifact_uri"),
            "user": about.get("user_id"),
        },
        (params, tags, metrics),
        [directory / "artifacts"],
        models.get(run, {}),
        skipped,
        is_elsewhere=_is_remote(str(about.get("artifact_uri"))),
    )


def _runs_of_database(file: Path) -> Iterator[MlflowRun]:
    """Yield the runs of a tracking server's SQLite database."""
    try:
        uri = f"{file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            yield from [_run_of_row(file, connection, row) for row in connection.execute(_RUNS)]
    except (sqlite3.Error, LookupError, ValueError, TypeError, OverflowError) as error:
        why = error if isinstance(error, sqlite3.Error) else "it has other columns or values"
        raise ImportSourceError(str(file), f"it is no database of MLflow ({why})") from error


_RUNS: Final = """
    SELECT runs.*, experiments.name AS experiment FROM runs
    JOIN experiments ON experiments.experiment_id = runs.experiment_id
    WHERE runs.lifecycle_stage = 'active' ORDER BY runs.start_time, runs.run_uuid"""


def _run_of_row(file: Path, connection: sqlite3.Connection, row: sqlite3.Row) -> MlflowRun:
    run = str(row["run_uuid"])

    def values(table: str) -> dict[str, str]:
        query = f"SELECT key, value FROM {table} WHERE run_uuid = ? ORDER BY key"  # noqa: S608 - ours
        found = connection.execute(query, (run,))
        return {text_of(str(key)): text_of(str(value)) for key, value in found}

    metrics: defaultdict[str, list[_Point]] = defaultdict(list)
    for key, value, time, step, is_nan in connection.execute(
        "SELECT key, value, timestamp, step, is_nan FROM metrics WHERE run_uuid = ?"
        " ORDER BY key, step, timestamp, value",
        (run,),
    ):
        number = "nan" if is_nan else _number(value)
        metrics[text_of(str(key))].append(_Point(int(step), number, int(time)))
    # Where the database says that they are may be anywhere, or on another machine.
    is_plain = run.replace("-", "").isalnum()
    experiment = int(row["experiment_id"])
    beside = [file.absolute().parent / each / str(experiment) for each in _BESIDE]
    places = [each / run / "artifacts" for each in beside]
    about = {
        "id": run,
        "artifact_uri": row["artifact_uri"],
        "experiment": row["experiment"],
        "status": row["status"],
        "start_time": row["start_time"],
        "end_time": row["end_time"],
        "name": row["name"],
        "user": row["user_id"],
    }
    uri = str(row["artifact_uri"])
    return _run(
        about,
        (values("params"), values("tags"), metrics),
        places if is_plain else (),
        _models_of_row(connection, run, beside),
        [],
        is_elsewhere=_is_remote(uri) or Path(uri).parts[-4:] not in [p.parts[-4:] for p in places],
    )


def _models_of_row(
    connection: sqlite3.Connection, run: str, beside: Iterable[Path]
) -> dict[str, tuple[str, Path]]:
    """Return the names and artifacts of the models that a run has logged, by id."""
    if not connection.execute(
        "SELECT 1 FROM sqlite_master WHERE name = 'logged_models'"
    ).fetchone():
        return {}  # written by an MLflow before 3
    rows = connection.execute(
        "SELECT model_id, name FROM logged_models WHERE source_run_id = ?"
        " AND lifecycle_stage = 'active' ORDER BY model_id",
        (run,),
    )
    found = {}
    for model, name in rows:
        if str(model).replace("-", "").isalnum():
            places = [each / "models" / model / "artifacts" for each in beside]
            found[model] = str(name), next(filter(_is_directory, places), places[0])
    return found


def _is_remote(uri: str) -> bool:
    """Whether an address of artifacts is none of a directory."""
    return "://" in uri and not uri.startswith("file://")


_BESIDE: Final = ("mlruns", "mlartifacts")
"""Where a tracking server keeps artifacts by default, in the directory in which it was started."""


def _run(
    about: Mapping[str, Any],
    values: tuple[dict[str, str], dict[str, str], Mapping[str, list[_Point]]],
    places: Sequence[Path],
    models: Mapping[str, tuple[str, Path]],
    skipped: list[Skipped],
    *,
    is_elsewhere: bool,
) -> MlflowRun:
    params, tags, metrics = values
    history = {name: points for name, points in metrics.items() if len(points) > 1}
    for name in sorted(history, key=lambda each: -len(history[each])):
        if sum(map(len, history.values())) > _MAX_POINTS:
            points = len(history.pop(name))
            reason = f"only its last value is recorded, not its history of {points} points"
            skipped.append(Skipped(f"metrics/{name}", reason))
    artifacts = next(filter(_is_directory, places), None)
    if artifacts is None and is_elsewhere:
        skipped.append(Skipped("artifacts", f"they are elsewhere: {about['artifact_uri']}"))
    elif artifacts is None and any(map(Path.is_symlink, places)):
        skipped.append(Skipped("artifacts", _LINK))
    kept = {model: path for model, (_, path) in models.items() if _is_directory(path)}
    for model in models.keys() - kept.keys():
        reason = "its artifacts are not in their place, or a link, which is not followed"
        skipped.append(Skipped(f"models/{model}", reason))
    notes = {
        "run": about["name"] and text_of(str(about["name"])),
        "experiment": text_of(str(about["experiment"])),
        "status": about["status"] and str(about["status"]),
        "start_time": _time(about["start_time"]),
        "end_time": _time(about["end_time"]),
        "params": params,
        "tags": tags,
        "metrics": {name: points[-1].value for name, points in metrics.items() if points},
        "history": {name: [list(point) for point in history[name]] for name in sorted(history)},
        "models": {model: text_of(name) for model, (name, _) in models.items()},
    }
    return MlflowRun(
        text_of(str(about["id"])),
        about.get("place"),
        str(about["status"]),
        tags.get("mlflow.user") or (about["user"] and text_of(str(about["user"]))),
        tags.get("mlflow.source.git.commit"),
        artifacts,
        {name: value for name, value in notes.items() if value not in (None, {})},
        tuple(skipped),
        kept,
    )


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _time(milliseconds: object) -> str | None:
    if not isinstance(milliseconds, int):
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def _number(text: str | float) -> float | str:
    """Return a number that JSON can hold, or its name."""
    number = float(text)
    return number if math.isfinite(number) else str(number)


def _points(text: str) -> Iterator[_Point]:
    """Yield the lines of a metric's file: its time, value and step, and perhaps more."""
    for line in text.splitlines():
        time, value, step, *_ = [*line.split(), "0"]
        yield _Point(int(step), _number(value), int(time))


def _read(path: Path, limit: int) -> bytes | None:
    """Return the bytes of a file; None if it is none, or too large. A link is not followed."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        data = file.read(limit + 1)
    return data if len(data) <= limit else None


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return what a file of MLflow says. Raises UnreadableFileError."""
    try:
        found = load_yaml(_read(path, _MAX_VALUE) or b"", "an import of MLflow runs")
    except FileNotFoundError as error:
        raise UnreadableFileError(f"it has no {path.name}") from error
    except OSError as error:
        raise UnreadableFileError(f"its {path.name} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = f"its {path.name} is not valid YAML, or none that MLflow writes"
        raise UnreadableFileError(reason) from error
    if not (found and isinstance(found, dict)):
        raise UnreadableFileError(f"its {path.name} is empty, or not one that MLflow writes")
    return found


def _read_values(
    directory: Path, skipped: list[Skipped], limit: int = _MAX_VALUE
) -> dict[str, str]:
    """Return the files below a directory as text, by name. MLflow has one for each value."""
    values = {}
    for where, directories, names in os.walk(directory):
        directories.sort()
        linked = (name for name in directories if Path(where, name).is_symlink())
        for name in sorted((*names, *linked)):
            path = Path(where, name)
            key = text_of(os.fsencode(path.relative_to(directory)))
            try:
                data = _read(path, limit)
            except OSError as error:
                skipped.append(Skipped(f"{directory.name}/{key}", str(error.strerror)))
                continue
            if data is None:
                skipped.append(Skipped(f"{directory.name}/{key}", "it is no file of MLflow's size"))
            else:
                values[key] = text_of(data)
    return values
