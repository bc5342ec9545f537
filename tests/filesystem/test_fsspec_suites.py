"""fsspec's own suites for filesystems: copy, get, put, open, pipe."""

from __future__ import annotations

import pytest
from fsspec.tests import abstract

from index.filesystem import CasFileSystem


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, options):
        return CasFileSystem(**options)

    @pytest.fixture
    def fs_path(self):
        return "session/run"

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
