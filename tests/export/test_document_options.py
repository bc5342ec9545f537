"""Options of `cas export` that only some formats take."""

from __future__ import annotations

import json
import sys

import pytest
from trees import write

from index import ArtifactStore
from index.export import FORMATS


@pytest.fixture
def here(cas, store_root, tmp_path, monkeypatch):
    with ArtifactStore.open(store_root) as store:
        store.session("default").run("run-7").put("a.txt", b"a", agent="ada")
    write(tmp_path, {"empty": b"", "key": b"secret"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAS_STORE", str(store_root))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--as zip --title T", "--as zip takes no --title; it is for rocrate"),
        ("--as openlineage --syntax xml", "--as openlineage takes no --syntax; it is for prov"),
        ("--as tar --anonymise", "takes no --anonymise; it is for rocrate, prov, openlineage"),
        ("--as prov --key-file key", "--key-file is of --anonymise"),
        ("--as prov --anonymise --key-file empty", "empty is empty; put some random bytes"),
    ],
)
def test_an_option_of_another_format_is_refused(here, cas, options, said):
    before = set(here.iterdir())
    code, _, error = cas("export", "run-7", *options.split())
    assert code == 2
    assert said in error
    assert set(here.iterdir()) == before


def test_a_document_is_named_after_the_run(here, cas):
    for name in ("rocrate", "prov", "openlineage"):
        code, printed, _ = cas("export", "run-7", "--as", name)
        assert code == 0
    assert printed == "run-7.openlineage.jsonl: 1 snapshot exported as openlineage\n"
    made = {"run-7.crate.zip", "run-7.prov.json", "run-7.openlineage.jsonl"}
    assert made <= {path.name for path in here.iterdir()}


@pytest.mark.parametrize("name", ["rocrate", "prov", "openlineage"])
def test_an_anonymous_document_is_named_after_the_pseudonym_of_the_run(here, cas, name):
    before = set(here.iterdir())
    code, printed, _ = cas(
        "export", "run-7", "--as", name, "--anonymise", "--key-file", "key", "--json"
    )
    assert code == 0
    (made,) = set(here.iterdir()) - before
    assert made.name == f"{json.loads(printed)['run']}{FORMATS[name].ending}"
    assert "run-7" not in made.name


def test_a_package_that_is_missing_is_named(here, cas, monkeypatch):
    monkeypatch.setitem(sys.modules, "prov.model", None)
    code, _, error = cas("export", "run-7", "--as", "prov")
    assert code == 1
    assert "pip install 'runcas[prov]'" in error
