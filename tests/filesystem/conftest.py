"""A store and the filesystem over it."""

from __future__ import annotations

import pytest
from places import credentials_of, filesystem_options

from index.filesystem import CasFileSystem


@pytest.fixture
def options(place):
    """The options of a filesystem over an empty store."""
    return filesystem_options(place)


@pytest.fixture
def portable(options, place, monkeypatch):
    """Those options without what only this process has; others find the credentials."""
    for name, value in credentials_of(place).items():
        monkeypatch.setenv(name, value)
    named = dict(options)
    if "storage_options" in named:
        named["storage_options"] = {**named["storage_options"]}
        del named["storage_options"]["session"]
    return named


@pytest.fixture
def fs(options):
    return CasFileSystem(**options)


@pytest.fixture
def run(store):
    return store.session("s").run("r")
