"""Every result has one JSON form: in the API, in ``--json`` and in events."""

from __future__ import annotations

import dataclasses
import json
import pickle
import threading
from datetime import timedelta

import pytest
from places import EACH_INDEX, places
from trees import write

import index
from index import ArtifactStore, DAGTracker, Provenance, provenance, recover
from index.domain.results import Result, make_of, to_json
from index.export import export_zip
from index.imports import read_steps

place = places(EACH_INDEX)

NO_RESULTS = {"NewFile", "RuleClassifier", "Run", "Session"}
"""Public dataclasses that the caller makes, and handles."""


def public_values():
    return [
        value
        for name in index.__all__
        if name not in NO_RESULTS
        and isinstance(value := getattr(index, name), type)
        and (hasattr(value, "_fields") or dataclasses.is_dataclass(value))
    ]


def test_every_public_result_has_one():
    found = public_values()
    assert index.FileVersion in found
    assert len(found) > 20
    for kind in found:
        assert callable(kind.to_dict), kind
        assert hasattr(kind, "_fields") or issubclass(kind, Result), kind


def test_one_of_many_rows_is_made_as_by_the_class():
    values = range(len(dataclasses.fields(index.Input)))
    made = make_of(index.Input)(*values)
    assert type(made) is index.Input
    assert made == index.Input(*values)
    assert repr(made) == repr(index.Input(*values))
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.path = "other"
    needed = [1] * sum(
        each.default is dataclasses.MISSING for each in dataclasses.fields(index.FileVersion)
    )
    assert make_of(index.FileVersion)(*needed) == index.FileVersion(*needed)


@pytest.fixture
def filled(run, work):
    write(work, {"a": b"1", "data/b.csv": b"22"})
    run.track(work, agent="engineer", phase="control", node_id="n1")
    run.put("final.md", b"333", is_final_output=True, meta={"rows": [1, None, "é"]})
    return run


def is_plain(value):
    """Whether a value is made of JSON's types alone, and not of subclasses of them."""
    if isinstance(value, dict):
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def results_of(store, run, work, tmp_path):
    """Yield a result of every kind."""
    version = run.file("a")
    yield from (version, version.provenance, run.snapshots()[0], run.diff(1, 2), run.diff(0))
    write(work, {"a": b"11"})
    changed = run.track(work)
    yield from (changed, run.diff(2), run.diff(2).changed[0], *run.list_dir())
    yield from (
        run.stats(),
        store.stats(),
        *store.runs(),
        store.stored(version.digest),
        *run.stats_by("agent", "is_final_output"),
    )
    restored = run.restore(tmp_path / "out")
    yield from (restored, restored.changes[0])
    for rows in ("1,2\n", "1,3\n"):
        run.put("t.csv", f"a,b\n{rows * 20}".encode())
    compared = store.session("session-1").compare(*run.history("t.csv"))
    yield from (compared, compared.table, compared.table.columns[0])
    changes = store.follow(stop=threading.Event())
    yield from (run.tag("best"), run.record(["true"], work), next(changes))
    yield store.session("session-1").tag_run("best", run.id)
    with ArtifactStore.open(tmp_path / "other") as other:
        plan = store.plan_sync(other)
        yield from (plan, store.sync_to(other), plan.report.runs[0])
    yield from (store.back_up(), store.verify(), store.repair(dry_run=True), store.repair())
    yield store.session("session-1").run("run-1").fork("run-2").delete()
    store.session("s").run("gone").put("gone", b"of no use", agent="me")
    yield store.session("s").run("gone").delete()
    plan = store.plan_gc(grace=timedelta(0))
    yield from (plan, *plan.iter_blobs(), plan.execute())
    report = index.doctor(tmp_path / "other")
    yield from (report, report.findings[0])
    yield run.status(work)
    yield index.Progress(1, 2)
    yield index.RestoreWarning("a", "its mode can't be set")
    write(tmp_path / "folders", {"step_1/a": b"1", "loose": b"l"})
    imported = read_steps(store.session("s"), tmp_path / "folders")
    yield from (imported, *imported.skipped)
    rule = index.VersionRule(larger_than=0, older_than=timedelta(0))
    policy = index.RetentionPolicy(keep_last=1, keep_within=timedelta(days=1), versions=(rule,))
    run.put("t.csv", b"newer")
    session = store.session("session-1")
    plan = session.plan_retention(policy)
    yield from (policy, rule, plan, plan.runs[0], plan.versions[0], run.hold("x"), session.usage())
    report = plan.execute()
    yield from (report, report.skipped[0])
    with provenance(node_id="n3"):
        (noted,) = run.use("t.csv")
        run.put("made", b"of t.csv")
    run.put("t.csv", b"newest")
    lineage = session.lineage(run.file("made"))
    yield from (noted, lineage, lineage.edges[0], lineage.activities[0], session.stale()[0])
    yield index.Reference("s3://bucket/raw.csv", digest=version.digest)
    yield export_zip(run, tmp_path / "out.zip")
    holder = index.Holder("s", "r", None, None, None)
    yield holder
    yield index.Fault(index.FaultKind.MISSING_BLOB, "s", "d", version.digest, (holder,), 1)
    events = []
    tracker = DAGTracker(store, "session-1", "run-1", files_updated=events.append)
    write(work, {"a": b"111"})
    yield tracker.track_files_in_work_dir(work, "n2")
    yield tracker.track_files_in_work_dir(work / "nowhere", "n2")
    yield from events


def test_it_is_made_of_plain_json_types(store, filled, work, tmp_path):
    seen = set()
    for result in results_of(store, filled, work, tmp_path):
        told = result.to_dict()
        assert is_plain(told), (type(result), told)
        assert json.loads(json.dumps(told)) == told
        seen.add(type(result).__name__)
    missing = {kind.__name__ for kind in public_values()} - seen
    assert missing <= {"RecoveryReport", "AdoptionReport"}


def test_a_version_is_the_same_wherever_it_is_told(store, filled, work):
    version = filled.file("data/b.csv")
    told = version.to_dict()
    assert told["digest"] == str(version.digest)
    assert told["created_at"] == version.created_at.isoformat()
    assert told["mode"] == f"{version.mode:o}"
    assert told["agent"] == "engineer"
    assert told in filled.snapshots()[0].to_dict()["added"]
    assert told in filled.manifest()["files"]
    assert told in [entry.to_dict()["version"] for entry in filled.list_dir("data")]
    assert told in filled.diff(0, 1).to_dict()["added"]
    assert filled.file("final.md").to_dict()["meta"] == {"rows": [1, None, "é"]}


def test_a_label_that_is_missing_can_not_be_taken_for_one(filled):
    filled.put("other", b"4", agent="null")
    counts = filled.stats().to_dict()["files_by_agent"]
    assert counts == {"engineer": 2, "": 1, "null": 1}


def test_what_a_result_computes_is_told_too(store, filled, work, tmp_path):
    assert store.verify().to_dict()["is_sound"] is True
    assert store.repair().to_dict()["is_complete"] is True
    receipt = filled.fork("copy").delete().to_dict()
    assert (receipt["released_bytes"], receipt["kept_bytes"]) == (0, 6)
    failed = DAGTracker(store, "s", "r").track_files_in_work_dir(work / "nowhere")
    assert failed.to_dict()["complete"] is False
    assert "nowhere" in failed.to_dict()["error"]
    assert Provenance(agent="a").to_dict()["agent"] == "a"
    assert to_json(ValueError()) == "ValueError"


def test_the_command_prints_it(cas, store_root, work, monkeypatch):
    write(work, {"a": b"1", "data/b.csv": b"22"})
    with ArtifactStore.open(store_root) as store:
        run = store.session("default").run("r")
        snapshot = run.track(work, agent="engineer")
        told = {
            ("ls", "-R"): [version.to_dict() for version in run.files()],
            ("ls", "data"): [entry.to_dict() for entry in run.list_dir("data")],
            ("log", "a"): [version.to_dict() for version in run.history("a")],
            ("snapshots",): [each.to_dict() for each in run.snapshots()],
            ("diff", "0"): run.diff(0).to_dict(),
            ("stats", "--run", "r"): run.stats().to_dict(),
            ("stats", "--by", "agent"): [group.to_dict() for group in store.stats_by("agent")],
        }
        assert told["snapshots",][0]["added"] == snapshot.to_dict()["added"]
    for command, expected in told.items():
        code, out, err = cas("--store", store_root, *command, "--json")
        assert code == 0, err
        assert json.loads(out) == expected


def test_a_recovery_has_one(store_root, tmp_path):
    with ArtifactStore.open(store_root) as store:
        store.session("s").run("r").put("a", b"1", agent="me")
    (store_root / "index.db").unlink()
    report = recover(store_root)
    assert is_plain(report.to_dict())
    assert report.to_dict()["is_whole"] is True
    assert report.to_dict()["unconfirmed"][0]["agent"] == "me"
