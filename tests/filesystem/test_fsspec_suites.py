"""fsspec's own suites for filesystems: copy, get, put, open, pipe."""

from __future__ import annotations

import uuid

import pytest
from fsspec.tests import abstract

from index import ArtifactStore
from index.filesystem import CasFileSystem


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One store for all tests of a process: each has a run of its own."""
    folder = tmp_path_factory.mktemp("suites")
    ArtifactStore.open(folder).close()
    return CasFileSystem(store=folder)


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, shared):
        return shared

    @pytest.fixture
    def fs_path(self):
        return f"session/{uuid.uuid4()}"

    @pytest.fixture
    def fs_join(self):
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self):
        return False


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass
