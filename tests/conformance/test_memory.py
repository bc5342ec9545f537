from __future__ import annotations

import pytest

from cas.backends.memory import MemoryBackend
from cas.testing import BackendConformance


class TestMemoryBackend(BackendConformance):
    @pytest.fixture
    def backend(self):
        return MemoryBackend()

    def stored_names(self, backend):
        return set(backend.objects)

    def stored_bytes(self, backend, name):
        return backend.objects[name]
