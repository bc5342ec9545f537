"""Exports of runs with versions whose bytes were dropped, or were never stored."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

import bagit
import pytest
from judges import check_event, judged_by_ocfl
from lived import known_of
from places import on_one, places
from prov.model import ProvAlternate, ProvDerivation, ProvDocument, ProvEntity, ProvGeneration
from sqlalchemy import text

from cas.digest import Digest
from index import ArtifactStore
from index.export import FORMATS, Pseudonyms
from index.export.activities import read_run
from index.imports import read_bagit, read_bundle, read_ocfl

place = places(("sqlite-local",))

READ = {"ocfl": read_ocfl, "bagit": read_bagit, "bundle": read_bundle}

OLD = Digest.of(b"old")

each_state = pytest.mark.parametrize("name", ["zip", "tar", "bagit", "rocrate"])
each_document = pytest.mark.parametrize("name", ["rocrate", "prov", "openlineage"])
each_history = pytest.mark.parametrize("name", [*READ])


@pytest.fixture
def history(run):
    """A run whose file `a` was replaced, and whose file `b` stays."""
    run.put_many([("a", b"old"), ("b", b"b")], node_id="first", agent="ann")
    run.put("a", b"new", node_id="second", agent="ann")
    return run


@pytest.fixture
def dropped(history):
    history.drop("a", version=1, reason="too large for Bob", agent="cleaner")
    return history


@pytest.fixture
def never_stored(store, history):
    """The same run, as if the first version had been adopted when its file was gone."""
    with store.context.database.writing() as connection:
        connection.execute(text("UPDATE cas_files SET digest = NULL WHERE end_snapshot = 2"))
    return history


def export(name, run, target, **options):
    return FORMATS[name].exporter(name)(run, target, **options)


def why(run):
    day = run.file("a", version=1).dropped["at"][:10]
    return f"its bytes, blake3:{OLD}, were dropped on {day}: too large for Bob"


def told_of_first_version(name, run, **options):
    """Return what a document says of version 1 of `a`: digest, size, and what became of it."""
    stream = io.BytesIO()
    export(name, run, stream, **options)
    if name == "rocrate":
        with zipfile.ZipFile(stream) as crate:
            graph = json.loads(crate.read("ro-crate-metadata.json"))["@graph"]
        (found,) = (each for each in graph if each["@id"].endswith("@v1/a"))
        size = found.get("contentSize")
        return found.get("identifier"), size and int(size), found["description"]
    if name == "prov":
        document = ProvDocument.deserialize(io.BytesIO(stream.getvalue()), format="json")
        (entity,) = (
            each
            for each in document.get_records(ProvEntity)
            if each.identifier.uri.endswith("@v1/a")
        )
        found = {key.localpart: value for key, value in entity.attributes}
        digest = found.get("blake3")
        return digest and f"blake3:{digest}", found.get("size"), found["loss"]
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    for event in events:
        check_event(event)
    (made,) = (
        each
        for event in events
        for each in event["outputs"]
        if each["facets"]["runcas_versions"]["versions"][0]["version"] == 1
        and each["name"].endswith("/a")
    )
    facet = made["facets"]["runcas_versions"]
    digest, loss = (facet["versions"][0].get(key) for key in ("blake3", "loss"))
    return digest and f"blake3:{digest}", facet["size"], loss


class TestFiles:
    @each_state
    def test_a_state_names_the_dropped_file_and_has_the_others(self, dropped, tmp_path, name):
        target = tmp_path / ("t" if name == "bagit" else "t.zip")
        report = export(name, dropped, target, at=1)
        assert report.left_out == (("a", why(dropped)),)
        assert (report.files, report.bytes) == (1, 1)
        if name == "bagit":
            bagit.Bag(str(target)).validate()

    @each_state
    def test_a_state_says_what_was_never_stored(self, never_stored, tmp_path, name):
        report = export(name, never_stored, tmp_path / "t", at=1)
        assert report.left_out == (("a", "its bytes were never stored"),)

    def test_an_archive_says_itself_what_was_dropped(self, dropped, tmp_path):
        export("tar", dropped, tmp_path / "t", at=1)
        with tarfile.open(tmp_path / "t") as archive:
            left_out = archive.extractfile("LEFT-OUT.txt").read().decode()
        assert left_out == f"a: {why(dropped)}\n"

    @each_history
    def test_a_history_comes_back_with_what_was_dropped(self, dropped, tmp_path, name):
        report = export(name, dropped, tmp_path / "t")
        assert report.left_out == ()
        with ArtifactStore.open(tmp_path / "again") as there:
            READ[name](there.session("s"), tmp_path / "t")
            again = there.session("s").run(dropped.id)
            assert again.file("a", version=1).dropped["reason"] == "too large for Bob"
            assert known_of(again) == known_of(dropped)

    def test_an_object_with_a_dropped_version_is_valid(self, dropped, tmp_path):
        export("ocfl", dropped, tmp_path / "t")
        assert judged_by_ocfl(tmp_path / "t")[0]

    def test_the_files_of_a_bag_of_a_state_come_back(self, dropped, tmp_path):
        export("bagit", dropped, tmp_path / "t", at=1)
        with ArtifactStore.open(tmp_path / "again") as there:
            read_bagit(there.session("s"), tmp_path / "t", run="again")
            assert [each.path for each in there.session("s").run("again").files()] == ["b"]


@on_one(because="the documents are made from what the API says")
class TestDocuments:
    @each_document
    def test_a_document_names_a_dropped_version_by_its_digest(self, dropped, name):
        digest, size, loss = told_of_first_version(name, dropped)
        assert (digest, size) == (f"blake3:{OLD}", 3)
        assert why(dropped) in loss

    @each_document
    def test_a_document_says_what_was_never_stored(self, never_stored, name):
        digest, _, loss = told_of_first_version(name, never_stored)
        assert digest is None
        assert "its bytes were never stored" in loss

    @each_document
    def test_an_anonymous_document_hides_who_dropped_a_version_and_why(self, dropped, name):
        stream = io.BytesIO()
        export(name, dropped, stream, pseudonyms=Pseudonyms())
        data = stream.getvalue()
        if name == "rocrate":
            with zipfile.ZipFile(stream) as crate:
                data = crate.read("ro-crate-metadata.json")
        assert b"Bob" not in data
        assert b"cleaner" not in data
        assert str(OLD).encode() in data


@pytest.fixture
def rewound(run):
    """A run that held A, B, A, B and A; the last three are copies."""
    for content in (b"A", b"B"):
        run.put("f", content, node_id="n", agent="ann")
    for snapshot in (1, 2, 1):
        run.rewind(snapshot)
    return run


def relations(run):
    document = ProvDocument.deserialize(io.BytesIO(exported(run)), format="json")
    return {
        kind: {tuple(each.uri for each in record.args[:2]) for record in document.get_records(kind)}
        for kind in (ProvAlternate, ProvGeneration, ProvDerivation)
    }


def exported(run):
    stream = io.BytesIO()
    export("prov", run, stream)
    return stream.getvalue()


@on_one(because="the documents are made from what the API says")
class TestCopies:
    def test_dropped_versions_are_copies_of_what_they_were_copies_of(self, store, rewound):
        before = relations(rewound)
        for version in (1, 3, 2, 4):
            rewound.drop("f", version=version, reason="x")
        assert relations(rewound) == before
        names = {each.version: read_run(rewound).iri_of(each) for each in rewound.history("f")}
        assert before[ProvAlternate] == {
            (names[3], names[1]), (names[4], names[2]), (names[5], names[1])
        }  # fmt: skip
        lineage = store.session("session-1").lineage(rewound.file("f"), direction="up")
        ids = {f"v{each.id}": names[each.version] for each in lineage.versions}
        same = {(ids[e.start], ids[e.end]) for e in lineage.edges if e.kind == "same"}
        assert same == {(names[5], names[1])}

    def test_what_was_never_stored_is_a_copy_of_nothing(self, store, rewound):
        with store.context.database.writing() as connection:
            connection.execute(text("UPDATE cas_files SET digest = NULL WHERE end_snapshot > 0"))
        assert relations(rewound)[ProvAlternate] == set()
