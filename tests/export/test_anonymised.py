"""Anonymous exports: no id, agent, host or command is left, and the graph is the same."""

from __future__ import annotations

import io
import json
import re

import pytest
from recorded_runs import make_hostile_run
from trees import write

from index import ArtifactStore, Reference
from index.export import Pseudonyms, export_openlineage, export_prov, export_rocrate

NAMES = (
    "my session", "my%20session", "run 1@", "run%201", "planner", "engineer", "earlier", "plan",
    "step_1", "fit", "first/", "event/second", "secret-host", "raw-data", "/home/ada", "s3cr3t",
    "importer",
)  # fmt: skip
"""What no document may have. Paths of files stay: `plots/first.svg` is no event."""


@pytest.fixture
def run(store_root, tmp_path):
    with ArtifactStore.open(store_root) as store:
        run = make_hostile_run(store.session("my session"), tmp_path / "work")
        outside = ("https://u:s3cr3t@secret-host:8443/data/x.csv?q=1", "file:///home/ada/y.csv")
        run.use(*(Reference(uri, "ab" * 32, 1) for uri in outside), node_id="plan")
        write(tmp_path / "work", {"z.txt": b"z"})
        run.record(["true", "--password", "s3cr3t"], tmp_path / "work", agent="engineer")
        run.set_status("failed", reason="secret-host is down")
        yield run


def documents(run, pseudonyms):
    """Return each document, and the metadata of the crate, as text."""
    made = {}
    for name, export in (("prov", export_prov), ("openlineage", export_openlineage)):
        stream = io.BytesIO()
        export(run, stream, pseudonyms=pseudonyms)
        made[name] = stream.getvalue().decode()
    return made


def crate_text(run, folder, pseudonyms):
    export_rocrate(run, folder, pseudonyms=pseudonyms)
    both = ("ro-crate-metadata.json", "recorded-workflow.json")
    return "".join((folder / name).read_text() for name in both if (folder / name).exists())


def words(text):
    """Return a document without what is allowed to stay: names of formats, phases and files."""
    return re.sub(r"planning|explanation|(plots|files/plots)/(first|second)\.svg", "", text)


@pytest.mark.parametrize("name", ["prov", "openlineage", "rocrate"])
def test_no_id_agent_host_or_command_is_left(run, tmp_path, name):
    text = (
        crate_text(run, tmp_path / "crate", Pseudonyms())
        if name == "rocrate"
        else documents(run, Pseudonyms())[name]
    )
    assert [each for each in NAMES if each in words(text)] == []
    assert "data/result.csv" in text
    assert str(run.file("data/result.csv").digest) in text


def test_the_report_has_the_pseudonyms_too(run):
    report = export_prov(run, io.BytesIO(), pseudonyms=Pseudonyms())
    assert report.session.startswith("session-")
    assert report.run.startswith("run-")


def test_the_graph_stays_the_same(run, tmp_path):
    plain = json.loads(documents(run, None)["prov"])
    hidden = json.loads(documents(run, Pseudonyms())["prov"])
    assert {kind: len(all_of) for kind, all_of in plain.items()} == {
        kind: len(all_of) for kind, all_of in hidden.items()
    }
    used = [sorted(map(len, documents_used(each))) for each in (plain, hidden)]
    assert len(used[0]) == len(used[1])


def documents_used(document):
    return [each["prov:entity"] for each in document["used"].values()]


def test_a_name_has_one_pseudonym_in_a_document(run):
    text = documents(run, Pseudonyms())["prov"]
    assert len(set(re.findall(r"agent:agent-[0-9a-f]+", text))) == 2


def test_with_a_key_every_document_has_the_same_pseudonyms(run):
    key = Pseudonyms(b"a secret")
    assert documents(run, key) == documents(run, Pseudonyms(b"a secret"))
    others = Pseudonyms(b"another"), Pseudonyms(), Pseudonyms()
    assert len({key.of("run", "a"), *(each.of("run", "a") for each in others)}) == 4


def test_one_name_of_two_kinds_has_two_pseudonyms():
    key = Pseudonyms()
    assert key.of("node", "a").removeprefix("node-") != key.of("step", "a").removeprefix("step-")


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("https://u:p@secret-host:80/a%20b?q=1#f", "/a%20b"),
        ("http://[secret-host", None),
        ("file:///home/ada/x", None),
        ("urn:secret-host", None),
        ("zip://a.csv::https://secret-host/x.zip", None),
        ("https://archive/2026/https://secret-host/x", None),
        ("https://proxy/https%3A%2F%2Fsecret-host/x", None),
    ],
)
def test_an_address_has_another_host_or_is_replaced(uri, kept):
    replaced = Pseudonyms().of_uri(uri)
    assert "secret-host" not in replaced
    assert "ada" not in replaced
    if kept is None:
        assert re.fullmatch(r"urn:runcas:input-[0-9a-f]{10}", replaced)
    else:
        assert re.fullmatch(rf"https://host-[0-9a-f]{{10}}{kept}", replaced)


@pytest.mark.parametrize(
    ("uri", "replaced"),
    [
        ("cas://secret-team/alice@v2/data/x%20y", "{session}/{run}@v2/data/x%20y"),
        ("cas://secret-team/alice@3/x", "{session}/{run}@3/x"),
        ("CAS://secret-team/%61lice/x?y", "{session}/{run}/x?y"),
        ("cas://secret-team/alice@best/x", "{session}/{run}@{tag}/x"),
        ("cas://secret-team/@best/x", "{session}/{tagged}/x"),
        ("cas://secret-team", "{session}"),
        (f"cas://sha/{'ab' * 32}", f"sha/{'ab' * 32}"),
    ],
)
def test_a_reference_to_a_run_has_the_pseudonyms_of_its_session_and_run(uri, replaced):
    key = Pseudonyms()
    named = {"session": "secret-team", "run": "alice", "tag": "best"}
    words = {kind: key.of(kind, name) for kind, name in named.items()}
    words["tagged"] = key.of("run", "@best")
    assert key.of_uri(uri) == f"cas://{replaced.format(**words)}"


@pytest.mark.parametrize("name", ["prov", "openlineage", "rocrate"])
def test_a_reference_to_a_run_leads_to_the_same_name_in_a_document(run, tmp_path, name):
    uri = "cas://my session/earlier@v1/raw/täble.csv"
    run.use(Reference(uri, "ab" * 32, 1), node_id="plan")
    key = Pseudonyms()
    text = (
        crate_text(run, tmp_path / "crate", key) if name == "rocrate" else documents(run, key)[name]
    )
    assert [each for each in NAMES if each in words(text)] == []
    assert key.of("run", "earlier") in text


def test_a_link_out_of_the_run_is_described_without_its_target(store_root, tmp_path):
    links = {"up": "../ada/a", "home": "/home/ada/a", "d/in": "../a", "d/far": "../../ada/x"}
    write(tmp_path / "work", {"a": b"a", "d/b": b"b"})
    for link, target in links.items():
        (tmp_path / "work" / link).symlink_to(target)
    with ArtifactStore.open(store_root) as store:
        run = store.run("linked")
        run.track(tmp_path / "work")
        text = crate_text(run, tmp_path / "hidden", Pseudonyms())
        assert "ada/" not in text
        assert text.count("a symbolic link.") == 3
        assert "a symbolic link to ../a." in text
        assert "a symbolic link to /home/ada/a." in crate_text(run, tmp_path / "plain", None)


def test_an_empty_key_is_refused():
    with pytest.raises(ValueError, match="is empty"):
        Pseudonyms(b"")
