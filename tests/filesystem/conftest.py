"""A store and the filesystem over it."""

from __future__ import annotations

import pytest
from places import places

from index import ArtifactStore
from index.filesystem import CasFileSystem

place = places(("sqlite-local",))


@pytest.fixture
def options(place):
    """The options of a filesystem over an empty store."""
    named = dict(place)
    if "root" in named:
        named["store"] = str(named.pop("root"))
    return named


@pytest.fixture
def fs(options):
    return CasFileSystem(**options)


@pytest.fixture
def store(place):
    with ArtifactStore.open(**place) as opened:
        yield opened


@pytest.fixture
def run(store):
    return store.session("s").run("r")
