"""fsspec's own suites for filesystems: copy, get, put, open, pipe."""

from __future__ import annotations

import uuid

import pytest
from fsspec.tests import abstract
from places import CORNERS, filesystem_options

from index.filesystem import CasFileSystem


@pytest.fixture(scope="module")
def shared(request, stores, tmp_path_factory):
    """One store for all tests of a process: each has a run of its own."""
    place = stores.make(request.param, tmp_path_factory.mktemp("suites"))
    yield CasFileSystem(**filesystem_options(place))
    stores.drop(place)


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


everywhere = pytest.mark.parametrize("shared", CORNERS, indirect=True)
here = pytest.mark.parametrize("shared", CORNERS[:1], indirect=True)
"""The names that copies and puts of trees give depend on no kind of store, and take long."""


@here
class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


@everywhere
class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


@here
class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


@everywhere
class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


@everywhere
class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass
