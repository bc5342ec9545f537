"""A store and the filesystem over it."""

from __future__ import annotations

import pytest
from places import places

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
def run(store):
    return store.session("s").run("r")
