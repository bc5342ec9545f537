from __future__ import annotations

import uuid

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cas.backends.fsspec import ObjectStoreBackend
from cas.testing import BackendConformance


class TestFsspecMemory(BackendConformance):
    """Whole objects, written by one thread at a time."""

    @pytest.fixture
    def backend(self):
        backend = ObjectStoreBackend(f"memory://{uuid.uuid4().hex}/store")
        yield backend
        backend.close()

    def stored_names(self, backend):
        start = backend.url.removeprefix("memory:/") + "/"
        names = {name for name in MemoryFileSystem.store if name.startswith(start)}
        return {name.removeprefix(start) for name in names}

    def stored_bytes(self, backend, name):
        path = f"{backend.url.removeprefix('memory:/')}/{name}"
        return MemoryFileSystem.store[path].getvalue()


class TestAnyOtherFilesystem(BackendConformance):
    """An unknown filesystem: directories, uploads with a rename, no conditional write."""

    @pytest.fixture
    def backend(self, tmp_path):
        self.root = tmp_path / "root"
        backend = ObjectStoreBackend(f"local://{self.root}")
        yield backend
        backend.close()

    def stored_names(self, backend):
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}

    def stored_bytes(self, backend, name):
        return (self.root / name).read_bytes()


class TestS3(BackendConformance):
    @pytest.fixture
    def backend(self, s3, inspector):
        self.inspector = inspector
        backend = ObjectStoreBackend(s3.url, s3.options())
        yield backend
        backend.close()

    def stored_names(self, backend):
        return self.inspector.names()

    def stored_bytes(self, backend, name):
        return self.inspector.read(name)
