"""Fixtures: a store made by migrating, copied for each test, and a work directory."""

from __future__ import annotations

import os
import shutil
from contextlib import closing

import hypothesis
import pytest
from postgres import Databases, PostgresServer

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


@pytest.fixture(scope="session")
def postgres():
    """Databases on a PostgreSQL that is up as long as the tests are."""
    if url := os.environ.get("CAS_TEST_POSTGRES"):
        with closing(Databases(url)) as databases:
            yield databases
        return
    server = PostgresServer()
    try:
        yield Databases(server.url())
    finally:
        server.stop()


@pytest.fixture(scope="session")
def empty_index(postgres, empty_store):
    """A migrated index on PostgreSQL of the empty store; copied, never used."""
    url = postgres.create()
    ArtifactStore.open(index=url, blobs=empty_store).close()
    return url


@pytest.fixture
def store_root(empty_store, tmp_path):
    """The directory of an embedded store, or of the blobs of one whose index is elsewhere."""
    root = tmp_path / "store"
    shutil.copytree(empty_store, root)
    return root


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, store_root):
    """Where a store is, as `ArtifactStore.open` takes it: one for each kind of index."""
    if request.param == "sqlite":
        yield {"root": store_root}
        return
    databases = request.getfixturevalue("postgres")
    url = databases.create(request.getfixturevalue("empty_index"))
    yield {"index": url, "blobs": store_root}
    databases.drop(url)


@pytest.fixture
def store(place):
    with ArtifactStore.open(**place) as opened:
        yield opened


@pytest.fixture
def run(store):
    return store.session("session-1").run("run-1")


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def s3_service():
    """A bucket of a real S3 service, started when the first test asks for it."""
    from s3 import s3_place  # botocore takes its time, and few tests need it

    with s3_place() as place:
        yield place


@pytest.fixture
def s3(s3_service):
    """A place of its own in that bucket."""
    return s3_service.elsewhere()


@pytest.fixture
def inspector(s3):
    from s3 import Inspector

    return Inspector(s3)


@pytest.fixture
def proxy(s3_service):
    """Stands between whoever takes its URL for the endpoint and the service."""
    from fault_proxy import FaultProxy

    between = FaultProxy(s3_service.endpoint)
    yield between
    between.close()
