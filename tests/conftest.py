"""Fixtures: a store made by migrating, copied for each test, and a work directory."""

from __future__ import annotations

import os
import shutil

import hypothesis
import pytest

from index import ArtifactStore

hypothesis.settings.register_profile("dev", max_examples=25, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=60, deadline=None, derandomize=True)
hypothesis.settings.register_profile("nightly", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev")
)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A migrated store that nothing was recorded in; copied, never used."""
    root = tmp_path_factory.mktemp("template") / "store"
    ArtifactStore.open(root).close()
    return root


@pytest.fixture
def store_root(empty_store, tmp_path):
    root = tmp_path / "store"
    shutil.copytree(empty_store, root)
    return root


@pytest.fixture
def store(store_root):
    with ArtifactStore.open(store_root) as opened:
        yield opened


@pytest.fixture
def run(store):
    return store.session("session-1").run("run-1")


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder
