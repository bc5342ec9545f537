"""Fixtures: a store on each kind of index and of blobs, and a work directory."""

from __future__ import annotations

import gc
import os
from functools import partial

import hypothesis
import hypothesis.internal.conjecture.providers
import pytest
from chunkers import EqualChunks
from places import CORNERS, Servers, Stores, objects_of, places
from shared import share_compilations, share_migrations

from index import ArtifactStore
from index.cli import main

pytest.register_assert_rewrite("cas.testing")

# Python's garbage collector took an eighth of the processor time of the tests.
gc.set_threshold(100_000, 50, 100)

# Each engine compiles every statement for itself, which took a quarter of the time of short tests.
share_compilations()
share_migrations()

_ALWAYS = {
    "deadline": None,
    "print_blob": False,
    "report_multiple_bugs": False,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
_REPEATABLE = {**_ALWAYS, "derandomize": True, "database": None}
hypothesis.settings.register_profile("default", max_examples=25, **_REPEATABLE)
hypothesis.settings.register_profile("nightly", max_examples=2000, derandomize=False, **_ALWAYS)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Hypothesis also draws constants of loaded modules. Which modules are loaded depends on the
# tests that ran before, so two runs would draw different examples from the same seed.
hypothesis.internal.conjecture.providers._get_local_constants = (
    hypothesis.internal.conjecture.providers.Constants
)


def pytest_collection_modifyitems(items):
    """Begin with the slow tests, shared among the workers, so that none of them is the last.

    pytest-xdist first gives each worker one block of the tests, all of about the same size.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    others = [item for item in items if not item.get_closest_marker("slow")]
    ends = [len(others) * number // workers for number in range(workers + 1)]
    items[:] = [
        item
        for number in range(workers)
        for item in (*slow[number::workers], *others[ends[number] : ends[number + 1]])
    ]


@pytest.fixture(scope="session")
def servers():
    """PostgreSQL and S3; each starts when a test first needs it."""
    with Servers() as running:
        yield running


@pytest.fixture(scope="session")
def stores(servers, tmp_path_factory):
    """Makes empty stores, and copies of prepared ones, on each combination."""
    return Stores(servers, tmp_path_factory.mktemp("templates"))


@pytest.fixture(scope="session")
def postgres(servers):
    """Databases on a PostgreSQL that runs as long as the tests."""
    return servers.databases


@pytest.fixture(scope="session")
def empty_store(stores, tmp_path_factory):
    """The directory of an embedded store without records; copied, never used."""
    return stores.make("sqlite-local", tmp_path_factory.mktemp("empty"))["root"]


@pytest.fixture
def store_root(stores, tmp_path):
    """The directory of an embedded store: SQLite and blobs side by side."""
    return stores.make("sqlite-local", tmp_path / "embedded")["root"]


place = places(CORNERS)


@pytest.fixture
def objects(place):
    """The blobs of that store in storage, read and damaged below the API."""
    return objects_of(place)


@pytest.fixture
def store(place):
    with ArtifactStore.open(**place) as opened:
        yield opened


@pytest.fixture
def run(store):
    return store.session("session-1").run("run-1")


@pytest.fixture
def equal_chunks(monkeypatch):
    """Have stores cut at every MiB, so that a test can say what the chunks are."""
    monkeypatch.setattr("cas.store.Chunker", lambda _size: EqualChunks(1 << 20))


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def s3_service(servers):
    """A bucket of a real S3 service."""
    return servers.s3


@pytest.fixture
def s3(s3_service):
    """A new prefix in that bucket."""
    return s3_service.elsewhere()


@pytest.fixture
def inspector(s3):
    from s3 import Inspector

    return Inspector(s3)


@pytest.fixture
def proxy(s3_service):
    """A proxy between the service and clients that use its URL as endpoint."""
    from fault_proxy import FaultProxy

    between = FaultProxy(s3_service.endpoint)
    yield between
    between.close()


@pytest.fixture(scope="session")
def chromium():
    """A browser; it starts with the first window."""
    from browser import Browser

    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def open_window(chromium, tmp_path):
    """Open a window: `with open_window(size=PHONE, dark=True) as window: …`."""
    return partial(chromium.window, os.environ.get("CAS_KEEP_SCREENSHOTS", tmp_path))


@pytest.fixture
def cas(tmp_path, monkeypatch, capfdbinary):
    """Run the command in-process in an empty directory; return (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("CAS_") and not name.startswith(("CAS_TEST_", "CAS_KEEP_")):
            monkeypatch.delenv(name)

    def call(*arguments):
        with pytest.raises(SystemExit) as done:
            main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return done.value.code, out.decode(), err.decode()

    return call
