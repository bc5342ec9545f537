"""The runs of an example, exported in each format, before the judge of that format."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import bagit
import pytest
from judges import check_event, crate_issues, judged_by_ocfl
from prov.model import ProvDocument

from index import ArtifactStore
from index.export import FORMATS, export_openlineage, export_prov, export_rocrate
from index.imports import read_bagit, read_bundle, read_ocfl

EXAMPLES = Path(__file__).parents[2] / "examples"

TREE = """
final.svg@1 of colour  (colour, editor)
└─ figure.svg@1 of colour
   └─ = figure.svg@1 of draw  (draw, plotter)
      └─ table.csv@1 of clean  (clean, cleaner)
         └─ raw.csv@1 of clean  (load, loader)
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Where the example has recorded two runs and a fork, and what it has printed."""
    here = tmp_path_factory.mktemp("example") / "demo"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    script = ["sh", EXAMPLES / "two_runs.sh", here]
    done = subprocess.run(
        script, check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    return here, done.stdout


@pytest.fixture(scope="module")
def run(example):
    with ArtifactStore.open(example[0] / ".cas") as store:
        yield store.session("example").run("colour")


def test_it_prints_what_its_figure_was_made_from_over_two_runs_and_a_fork(example):
    assert example[1].endswith(TREE)


def test_as_prov_it_is_read_back_by_the_library(run):
    documents = []
    for syntax in ("json", "provn", "jsonld", "xml"):
        stream = io.BytesIO()
        export_prov(run, stream, syntax=syntax)
        documents.append(ProvDocument.deserialize(io.BytesIO(stream.getvalue()), format=syntax))
    assert all(document == documents[0] for document in documents)
    names = {agent.identifier.localpart for agent in documents[0].records if agent.is_element()}
    assert {"plotter", "editor"} <= names


def test_as_openlineage_its_events_are_valid(run):
    stream = io.BytesIO()
    export_openlineage(run, stream)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    for event in events:
        check_event(event)
    jobs = {event["job"]["name"] for event in events if event["eventType"] == "COMPLETE"}
    assert {"node/draw", "node/colour"} <= jobs


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["process", "workflow", "provenance"])
def test_as_a_crate_it_passes_the_required_checks(run, tmp_path, profile):
    export_rocrate(run, tmp_path / "crate", profile=profile)
    assert crate_issues(tmp_path / "crate", profile, tmp_path) == []


def exported(run, name, target):
    return FORMATS[name].exporter(name)(run, target)


def test_as_ocfl_and_as_a_bag_it_is_valid(run, tmp_path):
    exported(run, "ocfl", tmp_path / "object")
    assert judged_by_ocfl(tmp_path / "object")[0]
    exported(run, "bagit", tmp_path / "bag")
    bagit.Bag(str(tmp_path / "bag")).validate()


def test_as_zip_and_tar_it_holds_the_files(run, tmp_path):
    exported(run, "zip", tmp_path / "a.zip")
    exported(run, "tar", tmp_path / "a.tar")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert archive.read("final.svg") == run.read_bytes("final.svg")
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert archive.extractfile("final.svg").read() == run.read_bytes("final.svg")


@pytest.mark.parametrize(
    ("name", "read"), [("ocfl", read_ocfl), ("bagit", read_bagit), ("bundle", read_bundle)]
)
def test_it_comes_back_as_it_was(run, tmp_path, name, read):
    exported(run, name, tmp_path / "archive")
    with ArtifactStore.open(tmp_path / "other") as other:
        report = read(other.session("there"), tmp_path / "archive")
        back = other.session("there").run(report.run)
        assert [(v.path, v.digest, v.agent, v.created_at) for v in back.files()] == [
            (v.path, v.digest, v.agent, v.created_at) for v in run.files()
        ]
        assert [(i.path, i.digest, i.node_id) for i in back.inputs()] == [
            (i.path, i.digest, i.node_id) for i in run.inputs()
        ]
        assert len(back.snapshots()) == len(run.snapshots())


def test_no_format_is_left_out():
    tested = {"prov", "openlineage", "rocrate", "ocfl", "bagit", "bundle", "zip", "tar"}
    assert set(FORMATS) == tested
