from __future__ import annotations

import pytest
from backend_conformance import BackendConformance

from cas.backends.memory import MemoryBackend


class TestMemoryBackend(BackendConformance):
    @pytest.fixture
    def backend(self):
        return MemoryBackend()

    def stored_names(self, backend):
        return set(backend.objects)

    def stored_bytes(self, backend, name):
        return backend.objects[name]
