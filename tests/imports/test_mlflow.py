"""MLflow runs become runs. The sources were written by MLflow 3: see `keep_mlflow.py`."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise

import pytest
from places import on_one
from sources import unpack
from trees import contents, write

from index import Run, Skipped
from index.errors import ImportMismatchError, ImportSourceError, UnknownSessionError
from index.imports import read_mlflow

alone = on_one(because="what MLflow keeps is read before a store is written to")


@pytest.fixture
def kept(tmp_path):
    """A tracking directory in `files`, and a server's database and artifacts in `server`."""
    unpack("mlflow", tmp_path)
    return tmp_path


@pytest.fixture(params=["files/mlruns", "server/mlflow.db"])
def source(request, kept):
    return kept / request.param


@pytest.fixture
def session(store):
    return store.session("session-1")


def by_name(session):
    runs = [session.run(each.run) for each in session.runs()]
    return {run.snapshots()[0].notes["mlflow"]["run"]: run for run in runs}


def one_run(kept, name="try 1"):
    """Return the directory of a run."""
    files = (kept / "files/mlruns").glob("*/*/tags/mlflow.runName")
    (found,) = (file.parents[1] for file in files if file.read_text() == name)
    return found


def test_each_run_is_a_run_with_its_artifacts(session, source):
    reports = read_mlflow(session, source)
    assert [(each.format, each.skipped) for each in reports] == [("mlflow", ())] * 3
    assert sorted((each.snapshots, each.versions) for each in reports) == [(1, 0), (1, 2), (2, 3)]
    assert {each.run for each in reports} == {each.run for each in session.runs()}
    runs = by_name(session)
    files = {"model.bin": b"model 0", "notes/read.txt": b"hello\n"}
    assert contents(runs["try 0"]) == files
    (model,) = runs["try 1"].snapshots()[0].notes["mlflow"]["models"].items()
    assert model[1] == "net"
    assert contents(runs["try 1"]) == {
        **files, "model.bin": b"model 1", f"models/{model[0]}/weights.bin": b"weights",
    }  # fmt: skip
    assert contents(runs["broken"]) == {}


def test_values_are_notes(session, source):
    read_mlflow(session, source)
    run = by_name(session)["try 1"]
    snapshot = run.snapshots()[0]
    assert snapshot.notes["imported"] == {"from": "mlflow", "revision": run.id}
    assert (snapshot.provenance.agent, snapshot.provenance.code_hash) == ("ada", "c0ffee")
    notes = snapshot.notes["mlflow"]
    assert notes["experiment"] == "digits"
    assert notes["params"] == {"lr": "0.2"}
    assert notes["tags"]["note"] == "first"
    assert notes["metrics"] == {"rmse": "nan", "train/loss": 1 / 3}
    assert [point[:2] for point in notes["history"]["train/loss"]] == [
        [0, 1.0], [1, 0.5], [2, 1 / 3],
    ]  # fmt: skip
    assert notes["start_time"] < notes["end_time"]
    assert notes["start_time"].endswith("+00:00")


def test_a_run_gets_its_status(session, source):
    read_mlflow(session, source)
    runs = by_name(session)
    assert {name: run.summary().status for name, run in runs.items()} == {
        "try 0": "finished",
        "try 1": "finished",
        "broken": "failed",
    }


def test_a_second_import_records_what_is_new(session, source):
    read_mlflow(session, source)
    assert [each.snapshots for each in read_mlflow(session, source)] == [0, 0, 0]


@alone
def test_new_values_and_artifacts_make_a_snapshot(session, kept):
    place = one_run(kept)
    read_mlflow(session, place)
    write(place, {"metrics/new": b"1700000000000 1.5 0\n"})
    assert [each.snapshots for each in read_mlflow(session, place)] == [1]
    write(place, {"artifacts/more.txt": b"more"})
    assert [each.versions for each in read_mlflow(session, place)] == [1]
    (model,) = (place.parent / "models").iterdir()
    write(model, {"artifacts/weights.bin": b"other"})
    assert [each.versions for each in read_mlflow(session, place)] == [1]
    run = session.run(place.name)
    assert run.snapshots()[2].notes["mlflow"]["metrics"]["new"] == 1.5
    assert len(run.snapshots()) == 5
    assert run.history(f"models/{model.name}/weights.bin")[-1].version == 2


def test_after_an_interruption_it_goes_on(session, source, monkeypatch):
    def track(self, *arguments, **options):
        if options.get("status") == "failed":
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    original = Run.track
    monkeypatch.setattr(Run, "track", track)
    with pytest.raises(KeyboardInterrupt):
        read_mlflow(session, source)
    monkeypatch.undo()
    read_mlflow(session, source)
    assert by_name(session).keys() == {"try 0", "try 1", "broken"}
    numbers = {name: len(run.snapshots()) for name, run in by_name(session).items()}
    assert numbers == {"try 0": 1, "try 1": 2, "broken": 1}


def test_after_an_interruption_it_goes_on_with_the_models(session, source, monkeypatch):
    def track(self, *arguments, **options):
        if "prefix" in options:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    original = Run.track
    monkeypatch.setattr(Run, "track", track)
    with pytest.raises(KeyboardInterrupt):
        read_mlflow(session, source)
    monkeypatch.undo()
    assert 1 in [each.versions for each in read_mlflow(session, source)]
    assert len(contents(by_name(session)["try 1"])) == 3


@alone
def test_a_single_run_may_have_another_id(session, kept):
    (report,) = read_mlflow(session, one_run(kept), run="mine")
    assert report.run == "mine"
    with pytest.raises(ImportSourceError, match="it has 3 runs"):
        read_mlflow(session, kept / "files/mlruns", run="mine")
    with pytest.raises(ImportSourceError, match="holds another run of MLflow"):
        read_mlflow(session, one_run(kept, "try 0"), run="mine")
    session.run("theirs").put("a", b"1")
    with pytest.raises(ImportSourceError, match="has a history of its own"):
        read_mlflow(session, one_run(kept), run="theirs")


@alone
def test_a_copy_of_a_run_and_an_id_that_no_run_can_have_are_named_and_left_out(session, kept):
    original = one_run(kept)
    experiment = original.parent
    first = read_mlflow(session, experiment)
    shutil.copytree(original, experiment / f"0 copy of {original.name}")
    write(experiment, {
        f"0 copy of {original.name}/artifacts/more": b"of the copy",
        "odd/meta.yaml": b"run_id: '..'\n",
    })  # fmt: skip
    for _ in range(2):
        reports = read_mlflow(session, experiment)
        assert {each.run for each in reports} == {each.run for each in first}
        assert [each.snapshots for each in reports] == [0, 0, 0]
    assert {
        each.path: each.reason for each in reports[0].skipped if "metrics" not in each.path
    } == {
        f"0 copy of {original.name}": "another directory has the same run_id",
        "odd": "'..' can't be the run id: it reads as a relative path",
    }


@alone
def test_an_alias_in_a_description_stands_for_nothing(session, kept):
    many = [f"{name}: &{name} [{', '.join(9 * [f'*{before}'])}]"
            for before, name in pairwise("abcdefghijkl")]  # fmt: skip
    write(one_run(kept).parent, {
        "bomb/meta.yaml": "\n".join(["a: &a [x]", *many, "run_id: *l"]).encode(),
    })  # fmt: skip
    found = [
        each for report in read_mlflow(session, one_run(kept).parent) for each in report.skipped
    ]
    assert Skipped("bomb", "its meta.yaml is not valid YAML, or none that MLflow writes") in found


@alone
def test_an_experiment_and_a_directory_with_a_database_do(session, kept):
    assert len(read_mlflow(session, one_run(kept).parent)) == 3
    assert len(read_mlflow(session, kept / "server")) == 3


@alone
def test_each_directory_without_a_proper_description_is_named(session, kept):
    experiment = one_run(kept).parent
    write(experiment, {
        "damaged/meta.yaml": b"run_id: damaged\n  bad: [\n",
        "nameless/meta.yaml": b"lifecycle_stage: active\n",
        "empty/meta.yaml": b"",
        "bare/artifacts/a": b"a",
        "tags/mlflow.note": b"no run",
        "models/m-1/meta.yaml": b"name: net\n",
    })  # fmt: skip
    (experiment / "linked").symlink_to("damaged")
    (experiment.parent / "lost").mkdir()
    reports = read_mlflow(session, experiment.parent)
    assert [each.skipped for each in reports[1:]] == [(), ()]
    name = experiment.name
    assert {each.path: each.reason for each in reports[0].skipped} == {
        f"{name}/damaged": "its meta.yaml is not valid YAML, or none that MLflow writes",
        f"{name}/nameless": "its meta.yaml has no run_id",
        f"{name}/empty": "its meta.yaml is empty, or not one that MLflow writes",
        f"{name}/bare": "it has no meta.yaml",
        f"{name}/linked": "it is a link, which is not followed",
        f"{name}/models/m-1": "its meta.yaml has no source_run_id",
        "lost": "it has no meta.yaml",
    }
    assert [each.snapshots for each in read_mlflow(session, experiment.parent)] == [0, 0, 0]
    with pytest.raises(ImportSourceError, match=r"no runs of MLflow \(\.: its meta\.yaml is not"):
        read_mlflow(session, experiment / "damaged")


@alone
def test_deleted_runs_are_left_out(session, kept):
    about = one_run(kept) / "meta.yaml"
    about.write_text(about.read_text().replace(": active", ": deleted"))
    assert len(read_mlflow(session, kept / "files/mlruns")) == 2
    with closing(sqlite3.connect(kept / "server/mlflow.db")) as database:
        database.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = 'try 1'")
        database.commit()
    assert len(read_mlflow(session, kept / "server")) == 2


@alone
def test_artifacts_elsewhere_are_reported(session, kept):
    place = one_run(kept)
    shutil.rmtree(place / "artifacts")
    about = place / "meta.yaml"
    lines = [each for each in about.read_text().splitlines() if "artifact_uri" not in each]
    about.write_text("\n".join([*lines, "artifact_uri: s3://bucket/1/artifacts"]))
    (report,) = read_mlflow(session, place)
    assert report.skipped == (("artifacts", "they are elsewhere: s3://bucket/1/artifacts"),)
    with closing(sqlite3.connect(kept / "server/mlflow.db")) as database:
        database.execute("UPDATE runs SET artifact_uri = '/etc' WHERE name = 'broken'")
        database.commit()
    reports = read_mlflow(session, kept / "server")
    assert [each for report in reports for each in report.skipped] == [
        ("artifacts", "they are elsewhere: /etc")
    ]


@alone
def test_a_long_history_keeps_its_last_value(session, kept, monkeypatch):
    monkeypatch.setattr("index.imports.mlflow_runs._MAX_POINTS", 100)
    place = one_run(kept)
    lines = "".join(f"17000000000{n:02} {n}.5 {n}\n" for n in range(99))
    write(place, {"metrics/long": lines.encode()})
    (report,) = read_mlflow(session, place)
    reason = "only its last value is recorded, not its history of 99 points"
    assert report.skipped == (("metrics/long", reason),)
    notes = session.run(report.run).snapshots()[0].notes["mlflow"]
    assert notes["metrics"]["long"] == 98.5
    assert notes["history"].keys() == {"train/loss"}


@alone
def test_nothing_outside_is_read(session, kept, tmp_path):
    write(tmp_path / "outside", {"secret": b"1700000000000 1.5 0\n"})
    place = one_run(kept)
    (place / "metrics" / "linked").symlink_to(tmp_path / "outside" / "secret")
    (place / "params" / "folder").symlink_to(tmp_path / "outside")
    os.mkfifo(place / "tags" / "pipe")
    (place / "artifacts" / "link").symlink_to(tmp_path / "outside" / "secret")
    (report,) = read_mlflow(session, place)
    assert {each.path for each in report.skipped} == {
        "metrics/linked", "params/folder", "tags/pipe",
    }  # fmt: skip
    run = session.run(report.run)
    assert run.read_bytes("link") == os.fsencode(tmp_path / "outside" / "secret")
    assert run.snapshots()[0].notes["mlflow"]["params"].keys() == {"lr"}
    shutil.move(place / "artifacts", tmp_path / "moved")
    (place / "artifacts").symlink_to(tmp_path / "moved")
    (model,) = (place.parent / "models").iterdir()
    shutil.move(model / "artifacts", tmp_path / "weights")
    (model / "artifacts").symlink_to(tmp_path / "weights")
    (again,) = read_mlflow(session, place, run="again")
    assert again.versions == 0
    assert {each.path for each in {*again.skipped} - {*report.skipped}} == {
        "artifacts", f"models/{model.name}",
    }  # fmt: skip


@alone
def test_a_damaged_metric_is_reported(session, kept):
    write(one_run(kept), {"metrics/rmse": b"no number\n", "tags/large": b"x" * (1 << 21)})
    (report,) = read_mlflow(session, one_run(kept))
    assert {each.path: each.reason for each in report.skipped} == {
        "metrics/rmse": "it is no metric as MLflow writes it",
        "tags/large": "it is no file of MLflow's size",
    }


@alone
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("ALTER TABLE runs DROP COLUMN artifact_uri", "other columns or values"),
        ("UPDATE metrics SET value = 'x'", "other columns or values"),
        ("DROP TABLE metrics", "no such table: metrics"),
    ],
)
def test_a_database_with_other_columns_is_refused_in_one_sentence(session, kept, change, reason):
    database = kept / "server" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(change)
    with pytest.raises(ImportSourceError, match=f"no database of MLflow .*{reason}"):
        read_mlflow(session, database)
    with pytest.raises(UnknownSessionError):
        session.runs()


@alone
def test_what_is_not_mlflow_is_refused(session, kept, tmp_path):
    (tmp_path / "other.db").write_bytes(b"SQLite format 3\0no")
    with pytest.raises(ImportSourceError, match="it is no database of MLflow"):
        read_mlflow(session, tmp_path / "other.db")
    with pytest.raises(ImportSourceError, match="there is no file or directory of that name"):
        read_mlflow(session, tmp_path / "gone")
    with pytest.raises(ImportSourceError, match="it has no runs of MLflow"):
        read_mlflow(session, kept / "files")


@alone
def test_artifacts_that_change_meanwhile_are_reported(session, kept, monkeypatch):
    place = one_run(kept)

    def track(self, *arguments, **options):
        snapshot = original(self, *arguments, **options)
        write(place, {"artifacts/model.bin": b"another"})
        return snapshot

    original = Run.track
    monkeypatch.setattr(Run, "track", track)
    with pytest.raises(ImportMismatchError, match=r"'model.bin' in snapshot 1: it has other bytes"):
        read_mlflow(session, place)
