"""Runs as RO-Crates, judged by the validator of the specification and its run profiles."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest
from judges import crate_issues
from recorded_runs import HOSTILE, make_hostile_run
from trees import packs_in, write

from cas.digest import Digest
from index import ArtifactStore
from index.errors import DanglingFileError, ExportFailedError
from index.export import export_rocrate


@pytest.fixture
def session(store_root):
    with ArtifactStore.open(store_root) as store:
        yield store.session("my session")


@pytest.fixture
def run(session, tmp_path):
    return make_hostile_run(session, tmp_path / "work")


@pytest.fixture
def plain_run(session, tmp_path):
    """A run of which nobody said anything."""
    run = session.run("plain")
    write(tmp_path / "plain", {"a.txt": b"a", "data/b.csv": b"b"})
    run.track(tmp_path / "plain")
    return run


def graph_of(crate):
    """Return the entities of a crate by their ids."""
    text = Path(crate, "ro-crate-metadata.json").read_bytes()
    entities = json.loads(text)["@graph"]
    found = {entity["@id"]: entity for entity in entities}
    assert len(found) == len(entities)
    return found


def as_list(value):
    return value if isinstance(value, list) else [value]


def ids(value):
    return [each["@id"] for each in as_list(value)]


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["process", "workflow", "provenance"])
def test_a_crate_passes_the_required_checks_of_its_profile(run, tmp_path, profile):
    target = tmp_path / ("crate" if profile == "process" else "crate.zip")
    export_rocrate(run, target, profile=profile)
    assert crate_issues(target, profile, tmp_path) == []


@pytest.mark.slow
def test_the_validator_finds_what_is_missing(run, tmp_path):
    export_rocrate(run, tmp_path / "crate")
    metadata = tmp_path / "crate" / "ro-crate-metadata.json"
    document = json.loads(metadata.read_bytes())
    entities = {entity["@id"]: entity for entity in document["@graph"]}
    del entities["./"]["license"]
    del entities["#control/node/plan"]["object"]
    metadata.write_text(json.dumps(document))
    (tmp_path / "crate" / "files" / "data" / "result.csv").unlink()
    found = " ".join(crate_issues(tmp_path / "crate", "provenance", tmp_path))
    assert "must specify a license" in found
    assert "must reference the action" in found
    assert "does not include the Data Entity 'files/data/result.csv'" in found


@pytest.mark.slow
def test_a_run_without_steps_is_a_valid_process_run_crate(plain_run, tmp_path):
    export_rocrate(plain_run, tmp_path / "crate")
    assert crate_issues(tmp_path / "crate", "process", tmp_path) == []
    graph = graph_of(tmp_path / "crate")
    assert graph["#activity/all"]["instrument"] == {"@id": "#tool/not-recorded"}
    assert ids(graph["#activity/all"]["result"]) == ["files/a.txt", "files/data/b.csv"]


def test_an_input_without_provenance_is_of_the_same_activity(plain_run, tmp_path):
    plain_run.use("a.txt")
    export_rocrate(plain_run, tmp_path / "crate")
    action = graph_of(tmp_path / "crate")["#activity/all"]
    assert ids(action["object"]) == ["files/a.txt"]
    assert ids(action["result"]) == ["files/a.txt", "files/data/b.csv"]


def test_every_version_is_named_by_its_digest(run, tmp_path):
    export_rocrate(run, tmp_path / "crate")
    graph = graph_of(tmp_path / "crate")
    digests = {
        identifier
        for entity in graph.values()
        if entity["@type"] == "File"
        for identifier in as_list(entity["identifier"])
    }
    versions = [version for path in run for version in run.history(path)]
    assert {f"blake3:{version.digest}" for version in versions} <= digests
    inputs = {f"blake3:{each.digest}" for each in run.inputs()}
    assert inputs <= digests


def test_the_files_of_a_crate_have_the_bytes_that_it_says(run, tmp_path):
    report = export_rocrate(run, tmp_path / "crate")
    described = 0
    for name, entity in graph_of(tmp_path / "crate").items():
        if "sha256" in entity:
            data = Path(tmp_path, "crate", unquote(name)).read_bytes()
            assert hashlib.sha256(data).hexdigest() == entity["sha256"]
            assert f"blake3:{Digest.of(data)}" == entity["identifier"][0]
            assert str(len(data)) == entity["contentSize"]
            described += 1
    assert described == report.files == len(HOSTILE) + 3
    assert report.bytes == sum(version.size for version in run.files() if not version.is_link)


def test_names_that_no_document_can_hold_are_written_so_that_none_is_lost(run, tmp_path):
    export_rocrate(run, tmp_path / "crate")
    graph = graph_of(tmp_path / "crate")
    named = {
        entity["identifier"][1]: Path(tmp_path, "crate", unquote(name)).read_bytes()
        for name, entity in graph.items()
        if "sha256" in entity
    }
    root = "cas://my%20session/run%201%40%3Cb%3E@v1"
    assert named[f"{root}/bad%FF.txt"] == b"not UTF-8"
    assert named[f"{root}/bad%25FF.txt"] == b"literal"
    assert (tmp_path / "crate" / "renamed" / "new%0Aline").read_bytes() == b"n"
    assert (tmp_path / "crate" / "files" / "ro-crate-metadata.json").read_bytes() == b"{}"


def test_a_zip_file_holds_the_same_crate(run, tmp_path):
    export_rocrate(run, tmp_path / "crate")
    stream = io.BytesIO()
    export_rocrate(run, stream)
    with zipfile.ZipFile(stream) as made:
        assert made.testzip() is None
        made.extractall(tmp_path / "extracted")
    assert graph_of(tmp_path / "extracted") == graph_of(tmp_path / "crate")
    files = {path.relative_to(tmp_path / "crate") for path in (tmp_path / "crate").rglob("*")}
    extracted = (tmp_path / "extracted").rglob("*")
    assert {path.relative_to(tmp_path / "extracted") for path in extracted} == files


def test_a_zip_file_can_be_written_to_a_pipe(run, tmp_path):
    class Pipe(io.RawIOBase):
        written = b""

        def writable(self):
            return True

        def write(self, data):
            self.written += bytes(data)
            return len(data)

    pipe = Pipe()
    export_rocrate(run, pipe)
    with zipfile.ZipFile(io.BytesIO(pipe.written)) as made:
        assert made.testzip() is None
        assert made.read("files/data/result.csv") == b"second"


def test_a_name_that_gets_too_long_is_a_digest(session, tmp_path):
    run, path = session.run("long"), "data/" + "\udcff" * 200
    run.put(path, b"long")
    export_rocrate(run, tmp_path / "crate")
    (entity,) = (each for each in graph_of(tmp_path / "crate").values() if "sha256" in each)
    assert (tmp_path / "crate" / entity["@id"]).read_bytes() == b"long"
    assert entity["identifier"][1].endswith("/data/" + "%FF" * 200)


def test_links_are_reported_and_described_with_their_targets(run, tmp_path):
    report = export_rocrate(run, tmp_path / "crate")
    assert [path for path, _ in report.left_out] == ["link", "out"]
    graph = graph_of(tmp_path / "crate")
    described = {
        entity["name"]: entity["description"]
        for entity in graph.values()
        if entity["@type"] == "File" and "symbolic link" in entity.get("description", "")
    }
    assert described["link"].endswith("a symbolic link to data/dot..")
    assert described["out"].endswith("a symbolic link to ../../etc/passwd.")


def test_an_activity_has_what_it_used_and_made_and_by_whom(run, tmp_path):
    export_rocrate(run, tmp_path / "crate")
    graph = graph_of(tmp_path / "crate")
    root = "cas://my%20session"
    plan = graph["#activity/node/plan"]
    assert ids(plan["object"]) == [
        f"{root}/earlier@v1/raw/t%C3%A4ble.csv",
        "s3://bucket/raw%20file.csv",
        "files/data/dot%2E",
    ]
    assert ids(plan["result"]) == [f"{root}/run%201%40%3Cb%3E@v1/data/result.csv"]
    assert graph[ids(plan["agent"])[0]]["name"] == "planner <A>"
    attempts = [f"node/step_1/step/fit%2E/event/{name}" for name in ("first", "second")]
    first, second = (graph[f"#activity/{attempt}"] for attempt in attempts)
    assert ids(first["result"])[1] == "files/plots/first.svg"
    assert ids(second["result"]) == ["files/data/result.csv", "files/plots/second.svg"]
    assert first["instrument"] == second["instrument"]
    assert graph[ids(first["instrument"])[0]]["softwareVersion"] == "c0de"
    assert ids(graph["recorded-workflow.json"]["step"]) == [
        "#step/node/plan",
        "#step/node/step_1/step/fit%2E",
    ]
    controls = [graph[f"#control/{attempt}"]["instrument"] for attempt in attempts]
    assert controls == [{"@id": "#step/node/step_1/step/fit%2E"}] * 2


def test_nobody_made_what_was_found(run, tmp_path):
    export_rocrate(run, tmp_path / "crate")
    entities = graph_of(tmp_path / "crate").values()
    made = {
        name
        for entity in entities
        if entity["@type"] == "CreateAction" and entity["@id"] != "#run"
        for name in ids(entity["result"])
    }
    assert "files/data/dot%2E" not in made


def test_nothing_is_said_that_nobody_knows(run, tmp_path):
    export_rocrate(run, tmp_path / "crate")
    graph = graph_of(tmp_path / "crate")
    assert graph["./"]["license"] == "No licence was given for these files."
    assert "author" not in graph["./"]
    assert "startTime" not in graph["#activity/node/plan"]
    assert graph[ids(graph["#activity/node/plan"]["agent"])[0]]["@type"] == "ProvAgent"
    steps = json.loads((tmp_path / "crate" / "recorded-workflow.json").read_bytes())
    assert "not the definition" in steps["description"]


def test_title_description_and_licence_are_those_given(run, tmp_path):
    licence = "https://spdx.org/licenses/CC-BY-4.0"
    export_rocrate(run, tmp_path / "crate", title="A", description="B", licence=licence)
    root = graph_of(tmp_path / "crate")["./"]
    assert (root["name"], root["description"], root["license"]) == ("A", "B", {"@id": licence})


def test_a_recorded_command_is_the_program_with_its_times_and_status(session, tmp_path):
    run = session.run("commands")
    write(tmp_path / "work", {"found.txt": b"before"})
    script = f"echo new > {tmp_path}/work/made.txt; exit 3"
    run.record(["sh", "-c", script], tmp_path / "work", agent="ada")
    export_rocrate(run, tmp_path / "crate")
    graph = graph_of(tmp_path / "crate")
    action = graph["#activity/all"]
    assert graph[action["instrument"]["@id"]]["name"] == "sh"
    assert action["actionStatus"] == {"@id": "http://schema.org/FailedActionStatus"}
    assert action["startTime"] <= action["endTime"]
    assert ids(action["result"]) == ["files/made.txt"]
    assert script in action["description"]


@pytest.mark.parametrize(
    "notes",
    [
        {"command": ["a\ud800\x00", 5], "started_at": 5, "duration_s": "long"},
        {"command": ["a"], "started_at": "2026-01-01", "exit_status": "none"},
        {"command": ["a"], "started_at": "2026-01-01T00:00:00Z", "duration_s": 1e300},
        {"command": []},
        {"command": "a"},
        ["command"],
    ],
    ids=str,
)
def test_notes_that_are_no_command_are_no_trouble(session, tmp_path, notes):
    run = session.run("noted")
    write(tmp_path / "work", {"a.txt": b"a"})
    run.track(tmp_path / "work", notes=notes)
    export_rocrate(run, tmp_path / "crate")
    action = graph_of(tmp_path / "crate")["#activity/all"]
    assert action["result"] == {"@id": "files/a.txt"}
    assert "endTime" not in action


def test_a_crate_of_a_past_snapshot_knows_nothing_later(run, tmp_path):
    export_rocrate(run, tmp_path / "crate", at=2)
    graph = graph_of(tmp_path / "crate")
    assert not [name for name in graph if "step_1" in name or "plots" in name]
    assert (tmp_path / "crate" / "files" / "data" / "result.csv").read_bytes() == b"1"


def test_a_fork_is_exported_like_any_run(run, tmp_path):
    export_rocrate(run.fork("fork", at=3), tmp_path / "crate")
    graph = graph_of(tmp_path / "crate")
    assert "#activity/node/step_1/step/fit%2E/event/first" in graph
    assert "files/plots/second.svg" not in graph


def test_a_file_that_a_rewind_brought_back_is_of_the_activity_that_made_it(run, tmp_path):
    run.rewind(2)
    export_rocrate(run, tmp_path / "crate")
    graph = graph_of(tmp_path / "crate")
    assert ids(graph["#activity/node/plan"]["result"]) == ["files/data/result.csv"]
    assert (tmp_path / "crate" / "files" / "data" / "result.csv").read_bytes() == b"1"
    assert "cas://my%20session/run%201%40%3Cb%3E@v2/data/result.csv" in graph


def test_the_library_rocrate_reads_it(run, tmp_path):
    export_rocrate(run, tmp_path / "crate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from rocrate.rocrate import ROCrate

        crate = ROCrate(tmp_path / "crate")
    assert crate.mainEntity.id == "recorded-workflow.json"
    assert crate.get("files/data/result.csv")["contentSize"] == "6"
    assert {action.id for action in crate.root_dataset["mentions"]} >= {"#run"}


def test_there_is_no_part_of_a_crate_whose_bytes_are_lost(store_root, run, tmp_path):
    for pack in packs_in(store_root):
        pack.unlink()
    for target in (tmp_path / "crate", tmp_path / "crate.zip"):
        with pytest.raises(DanglingFileError):
            export_rocrate(run, target)
    assert [path.name for path in tmp_path.iterdir() if "cr" in path.name] == []


def test_nothing_is_replaced(plain_run, tmp_path):
    write(tmp_path, {"crate/mine.txt": b"mine", "crate.zip": b"mine"})
    for target in (tmp_path / "crate", tmp_path / "crate.zip"):
        with pytest.raises(ExportFailedError, match="exists already"):
            export_rocrate(plain_run, target)
    assert (tmp_path / "crate.zip").read_bytes() == b"mine"


def test_a_profile_that_there_is_not_is_refused(plain_run, tmp_path):
    with pytest.raises(ValueError, match="one of process, workflow, provenance"):
        export_rocrate(plain_run, tmp_path / "crate", profile="other")
    assert not (tmp_path / "crate").exists()
