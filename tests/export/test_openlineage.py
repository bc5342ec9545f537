"""Runs as OpenLineage events, validated by the schemas of the specification and our own."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter

import pytest
from jsonschema import ValidationError
from judges import check_event
from recorded_runs import make_hostile_run
from trees import write

from cas.digest import Digest
from index import ArtifactStore
from index.errors import ExportFailedError, MissingPackageError
from index.export import export_openlineage


@pytest.fixture
def session(store_root):
    with ArtifactStore.open(store_root) as store:
        yield store.session("my session")


@pytest.fixture
def run(session, tmp_path):
    return make_hostile_run(session, tmp_path / "work")


@pytest.fixture
def wide_run(session, tmp_path):
    """A run whose one step reads and writes many files."""
    run = session.run("wide")
    write(tmp_path / "wide", {f"in/{n}.csv": b"%d" % n for n in range(6)})
    run.track(tmp_path / "wide")
    run.use(*(f"in/{n}.csv" for n in range(6)), node_id="wide")
    for folder in ("a", "b", "c"):
        names = [f"out/{folder}/{n}{ending}" for n in range(3) for ending in (".csv", ".png", "")]
        write(tmp_path / "wide", {name: name.encode() for name in names})
    run.track(tmp_path / "wide", node_id="wide")
    return run


def events(run, **options):
    stream = io.BytesIO()
    export_openlineage(run, stream, **options)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def ends(found):
    """Return the last event of each job."""
    return {event["job"]["name"]: event for event in found}


def names(datasets):
    return [dataset["name"] for dataset in datasets]


def test_every_event_and_facet_is_valid_by_its_schema(run):
    found = events(run)
    for event in found:
        check_event(event)
    assert Counter(event["eventType"] for event in found) == {"START": 4, "COMPLETE": 4}


def test_the_schemas_find_what_is_wrong(run):
    event = next(event for event in events(run) if event["outputs"])
    event["outputs"][0]["facets"]["runcas_versions"]["blake3"] = "no digest"
    with pytest.raises(ValidationError, match="no digest"):
        check_event(event)
    del event["outputs"][0]["facets"]["runcas_versions"], event["run"]["runId"]
    with pytest.raises(ValidationError, match="runId"):
        check_event(event)


def test_the_run_is_the_parent_of_its_activities(run):
    found = events(run)
    (whole,) = {event["run"]["runId"] for event in found if "parent" not in event["run"]["facets"]}
    assert (found[0]["run"]["runId"], found[-1]["run"]["runId"]) == (whole, whole)
    parents = {event["run"]["facets"]["parent"]["run"]["runId"] for event in found[1:-1]}
    assert parents == {whole}
    attempts = {event["run"]["runId"] for event in found if "fit" in event["job"]["name"]}
    assert len(attempts) == 2


def test_an_event_has_what_was_used_and_made(run):
    done = ends(events(run))["node/plan"]
    assert [(each["namespace"], each["name"]) for each in done["inputs"]] == [
        ("cas://my%20session", "earlier/raw/t%C3%A4ble.csv"),
        ("cas://my%20session", "run%201%40%3Cb%3E/data/dot%2E"),
        ("s3://bucket", "raw%20file.csv"),
    ]
    (made,) = done["outputs"]
    assert made["name"] == "run%201%40%3Cb%3E/data/result.csv"
    digest = run.history("data/result.csv")[0].digest
    assert made["facets"]["version"]["datasetVersion"] == f"blake3:{digest}"
    versions = made["facets"]["runcas_versions"]["versions"]
    assert versions == [{"path": "data/result.csv", "version": 1, "blake3": str(digest)}]
    statistics = made["outputFacets"]["outputStatistics"]
    assert (statistics["fileCount"], statistics["size"]) == (1, 1)


@pytest.mark.parametrize(
    ("limit", "inputs", "outputs"),
    [
        (27, [f"wide/in/{n}.csv" for n in range(6)], 27),
        (
            9,
            [f"wide/in/{n}.csv" for n in range(6)],
            [f"wide/out/{folder}/*{end}" for folder in "abc" for end in ("", ".csv", ".png")],
        ),
        (5, ["wide/in/*.csv"], ["wide/out/a/**", "wide/out/b/**", "wide/out/c/**"]),
        (2, ["wide/in/*.csv"], ["wide/out/**"]),
    ],
)
def test_beyond_a_limit_a_data_set_is_a_pattern(wide_run, limit, inputs, outputs):
    found = events(wide_run, limit=limit)
    for event in found:
        check_event(event)
    done = ends(found)["node/wide"]
    assert names(done["inputs"]) == inputs
    if isinstance(outputs, int):
        assert len(done["outputs"]) == outputs
    else:
        assert names(done["outputs"]) == outputs
    counted = [each["outputFacets"]["outputStatistics"]["fileCount"] for each in done["outputs"]]
    assert sum(counted) == 27


def test_a_pattern_names_its_versions_by_the_digest_of_what_b3sum_prints(wide_run):
    (read,) = ends(events(wide_run, limit=2))["node/wide"]["inputs"]
    lines = "".join(f"{Digest.of(b'%d' % n)}  in/{n}.csv\n" for n in range(6))
    assert read["facets"]["runcas_versions"]["blake3"] == str(Digest.of(lines.encode()))
    assert read["facets"]["runcas_versions"]["files"] == 6


def test_the_digest_of_a_pattern_is_that_of_what_b3sum_prints_for_any_names(session, tmp_path):
    run, work = session.run("odd"), tmp_path / "odd"
    named = {
        "in/a b": b"1", "in/a{b": b"2", "in/aAb": b"3", "in/back\\slash": b"4",
        "in/new\nline": b"5", "in/ä": b"6", "in/bad\udcff": b"7", "in/100%25.": b"8",
    }  # fmt: skip
    write(work, named)
    run.track(work, node_id="n")
    made = ends(events(run, limit=1))["node/n"]["outputs"][0]
    # As b3sum 1.2.0 prints them, in the order of `find . -type f | LC_ALL=C sort`.
    lines = (
        f"{Digest.of(b'8')}  in/100%25.\n"
        f"{Digest.of(b'1')}  in/a b\n"
        f"{Digest.of(b'3')}  in/aAb\n"
        f"{Digest.of(b'2')}  in/a{{b\n"
        f"\\{Digest.of(b'4')}  in/back\\\\slash\n"
        f"{Digest.of(b'7')}  in/bad\ufffd\n"
        f"\\{Digest.of(b'5')}  in/new\\nline\n"
        f"{Digest.of(b'6')}  in/ä\n"
    )
    assert made["facets"]["runcas_versions"]["blake3"] == str(Digest.of(lines.encode()))


def test_a_run_without_steps_has_the_events_of_the_run_alone(session, tmp_path):
    run = session.run("plain")
    write(tmp_path / "plain", {"a.txt": b"a"})
    run.track(tmp_path / "plain")
    start, end = events(run)
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["eventTime"] <= end["eventTime"]
    assert names(end["outputs"]) == ["plain/a.txt"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [("finished", "COMPLETE"), ("failed", "FAIL"), ("cancelled", "ABORT"), ("running", "RUNNING")],
)
def test_the_last_event_tells_how_the_run_went(run, status, expected):
    run.set_status(status, reason="disk full" if status == "failed" else None)
    last = events(run)[-1]
    check_event(last)
    assert last["eventType"] == expected
    if status == "failed":
        assert last["run"]["facets"]["errorMessage"]["message"] == "disk full"


def test_ids_are_the_same_at_each_export(run):
    first, second = ([event["run"]["runId"] for event in events(run)] for _ in range(2))
    assert first == second


def test_a_file_of_a_past_snapshot_knows_nothing_later(run, tmp_path):
    report = export_openlineage(run, tmp_path / "events.jsonl", at=2)
    assert "step_1" not in (tmp_path / "events.jsonl").read_text()
    assert (report.format, report.snapshots) == ("openlineage", 2)
    run.set_status("finished")
    assert events(run, at=2)[-1]["eventType"] == "RUNNING"


def test_nothing_is_replaced(run, tmp_path):
    (tmp_path / "events").write_text("mine")
    with pytest.raises(ExportFailedError, match="exists already"):
        export_openlineage(run, tmp_path / "events")


def test_a_limit_below_one_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        export_openlineage(run, tmp_path / "events", limit=0)


def test_a_client_that_is_missing_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openlineage.client.transport.file", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'runcas\[openlineage\]'"):
        export_openlineage(run, tmp_path / "events")


def test_a_full_disk_leaves_no_part_of_the_file(run, tmp_path, monkeypatch):
    def write_nothing(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openlineage.client.transport.file.Serde.to_json", write_nothing)
    said = r"'.*events': its events can't be written to a temporary file: No space left on device$"
    with pytest.raises(ExportFailedError, match=said):
        export_openlineage(run, tmp_path / "events")
    assert not (tmp_path / "events").exists()
