"""Runs as W3C PROV, read back by the library of its authors."""

from __future__ import annotations

import io
import sys

import fsspec
import pytest
from prov.model import (
    PROV_ATTR_TIME,
    ProvActivity,
    ProvAgent,
    ProvAlternate,
    ProvAssociation,
    ProvAttribution,
    ProvDerivation,
    ProvDocument,
    ProvEntity,
    ProvGeneration,
    ProvUsage,
)
from recorded_runs import make_hostile_run
from trees import write

from cas.digest import Digest
from index import ArtifactStore
from index.errors import ExportFailedError, MissingPackageError
from index.export import export_prov, prov
from index.export.activities import read_run

BLAKE3 = "urn:runcas:term:blake3"


@pytest.fixture
def session(store_root):
    with ArtifactStore.open(store_root) as store:
        yield store.session("my session")


@pytest.fixture
def run(session, tmp_path):
    return make_hostile_run(session, tmp_path / "work")


def read(data, syntax="json"):
    return ProvDocument.deserialize(io.BytesIO(data), format=syntax)


def exported(run, **options):
    stream = io.BytesIO()
    export_prov(run, stream, **options)
    return stream.getvalue()


def attribute(record, name):
    return next((value for key, value in record.attributes if key.uri == name), None)


def pairs(document, kind):
    """Return the first two arguments of each relation of a kind."""
    return {
        tuple(argument.uri for argument in record.args[:2]) for record in document.get_records(kind)
    }


@pytest.mark.parametrize("syntax", ["json", "provn", "jsonld", "xml"])
def test_what_is_read_back_is_what_was_written(run, syntax):
    written = prov.prov_document(read_run(run))
    assert read(exported(run, syntax=syntax), syntax) == written


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("a.json", "json"),
        ("a.PROVN", "provn"),
        ("a.jsonld", "jsonld"),
        ("a.xml", "xml"),
        ("a", "json"),
    ],
)
def test_the_syntax_is_that_of_the_name(run, tmp_path, name, syntax):
    report = export_prov(run, tmp_path / name)
    assert read((tmp_path / name).read_bytes(), syntax) == prov.prov_document(read_run(run))
    assert (report.format, report.target) == ("prov", str(tmp_path / name))
    assert report.snapshots == 4


def test_every_version_is_an_entity_with_its_digest(run):
    document = read(exported(run))
    entities = {each.identifier.uri: each for each in document.get_records(ProvEntity)}
    versions = [version for path in run for version in run.history(path)]
    recorded = read_run(run)
    assert len(versions) > 10
    for version in versions:
        entity = entities[recorded.iri_of(version)]
        assert attribute(entity, BLAKE3) == str(version.digest)


def test_the_name_of_a_version_is_a_url_of_its_bytes(store_root, run):
    document = read(exported(run))
    opened = 0
    for entity in document.get_records(ProvEntity):
        name, digest = entity.identifier.uri, attribute(entity, BLAKE3)
        if name.startswith("cas://my%20session/") and digest is not None:
            with fsspec.open(name, store=str(store_root)) as stream:
                assert str(Digest.of(stream.read())) == digest
            opened += 1
    assert opened == 18


def test_activities_used_and_made_versions_by_their_agents(run):
    document = read(exported(run))
    root = "cas://my%20session"
    mine = f"{root}/run%201%40%3Cb%3E"
    plan, result = f"{mine}#node/plan", f"{mine}@v1/data/result.csv"
    first, second = (f"{mine}#node/step_1/step/fit%2E/event/{name}" for name in ("first", "second"))
    outside = "urn:runcas:reference:s3%3A%2F%2Fbucket%2Fraw%2520file.csv"
    earlier = f"{root}/earlier@v1/raw/t%C3%A4ble.csv"
    agent = f"{root}#agent/planner%20%3CA%3E"
    assert {each.identifier.uri for each in document.get_records(ProvActivity)} == {
        plan, first, second
    }  # fmt: skip
    assert pairs(document, ProvUsage) == {
        (plan, earlier),
        (plan, outside),
        (plan, f"{mine}@v1/data/dot%2E"),
        (first, result),
        (second, f"{mine}@v2/data/result.csv"),
    }
    assert pairs(document, ProvGeneration) >= {
        (result, plan), (f"{mine}@v3/data/result.csv", second)
    }  # fmt: skip
    assert pairs(document, ProvDerivation) >= {
        (result, earlier),
        (result, outside),
        (f"{mine}@v2/data/result.csv", result),
        (f"{mine}@v1/plots/first.svg", result),
    }
    assert (f"{mine}@v1/plots/first.svg", earlier) not in pairs(document, ProvDerivation)
    assert (plan, agent) in pairs(document, ProvAssociation)
    assert (result, agent) in pairs(document, ProvAttribution)
    assert agent in {each.identifier.uri for each in document.get_records(ProvAgent)}


def test_a_version_was_generated_when_it_was_recorded(run):
    (generation,) = (
        record
        for record in read(exported(run)).get_records(ProvGeneration)
        if record.args[0].uri.endswith("first.svg")
    )
    (time,) = generation.get_attribute(PROV_ATTR_TIME)
    assert time == run.file("plots/first.svg").created_at


def test_what_a_version_was_made_from_is_what_the_lineage_says(session):
    run = session.run("again")
    for number in (1, 2):  # the node runs again when its input has changed
        run.put("raw.csv", f"raw {number}".encode())
        run.use("raw.csv", node_id="clean")
        run.put("table.csv", f"table {number}".encode(), node_id="clean", event_id=f"e{number}")
        run.use("table.csv", node_id="plot", event_id=f"e{number}")
        run.put("plot.svg", f"<svg>{number}</svg>".encode(), node_id="plot")
    made = {}
    for version in (version for path in run for version in run.history(path)):
        lineage = session.lineage(version, direction="up", depth=1)
        names = {f"v{each.id}": read_run(run).iri_of(each) for each in lineage.versions}
        made |= {(names[f"v{version.id}"], names[each.end]): each for each in lineage.edges
                 if each.kind == "used"}  # fmt: skip
    document = read(exported(run))
    assert len(made) == 4
    assert pairs(document, ProvDerivation) == made.keys()
    assert {each for _, each in pairs(document, ProvUsage)} == {each for _, each in made}
    assert len(list(document.get_records(ProvActivity))) == 3


def test_an_activity_with_too_many_derivations_has_none(session, tmp_path):
    run = session.run("wide")
    names = [f"{n}.txt" for n in range(101)]
    write(tmp_path / "work", {f"in/{name}": b"in" for name in names})
    run.track(tmp_path / "work")
    run.use(*(f"in/{name}" for name in names), node_id="wide")
    write(tmp_path / "work", {f"out/{name}": b"out" for name in names})
    run.track(tmp_path / "work", node_id="wide")
    document = read(exported(run))
    assert len(names) ** 2 > prov.MAX_DERIVATIONS
    assert len(pairs(document, ProvUsage)) == len(pairs(document, ProvGeneration)) == len(names)
    assert not list(document.get_records(ProvDerivation))
    (activity,) = document.get_records(ProvActivity)
    assert attribute(activity, "urn:runcas:term:derivations").startswith("left out")


def test_a_document_with_too_many_derivations_has_those_of_the_first_activities(run, monkeypatch):
    monkeypatch.setattr(prov, "_MAX_IN_ALL", 3)
    document = read(exported(run))
    made = {made for made, _ in pairs(document, ProvDerivation)}
    assert made == {"cas://my%20session/run%201%40%3Cb%3E@v1/data/result.csv"}
    said = [
        attribute(each, "urn:runcas:term:derivations")
        for each in document.get_records(ProvActivity)
    ]
    assert [bool(each) for each in said] == [False, True, True]


def test_a_document_of_a_past_snapshot_knows_nothing_later(run):
    text = exported(run, at=2).decode()
    assert "step_1" not in text
    assert "data/result.csv" in text


def test_what_a_rewind_copied_is_another_form_of_the_original(run):
    run.rewind(2)
    document = read(exported(run))
    mine = "cas://my%20session/run%201%40%3Cb%3E"
    copy, original = f"{mine}@v4/data/result.csv", f"{mine}@v1/data/result.csv"
    assert pairs(document, ProvAlternate) == {(copy, original)}
    assert copy not in {made for made, _ in pairs(document, ProvGeneration)}
    assert copy not in {made for made, _ in pairs(document, ProvDerivation)}


def test_an_empty_run_is_a_document(session):
    run = session.run("empty")
    run.put("a.txt", b"a")
    run.remove("a.txt")
    assert list(read(exported(run, at=1)).get_records(ProvEntity))
    assert "hadMember" not in exported(run, syntax="provn").decode()


def test_a_syntax_that_there_is_not_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="one of json, provn"):
        export_prov(run, tmp_path / "a", syntax="yaml")
    assert not (tmp_path / "a").exists()


def test_nothing_is_replaced(run, tmp_path):
    (tmp_path / "a.json").write_text("mine")
    with pytest.raises(ExportFailedError, match="exists already"):
        export_prov(run, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "mine"


def test_a_package_that_is_missing_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "prov.model", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'runcas\[prov\]'"):
        export_prov(run, tmp_path / "a.json")


def test_xml_needs_lxml(run, tmp_path, monkeypatch):
    monkeypatch.setattr(prov, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="lxml"):
        export_prov(run, tmp_path / "a.xml")
    export_prov(run, tmp_path / "a.json")
