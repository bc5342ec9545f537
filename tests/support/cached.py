"""A blob store in memory with a cache on disk; it counts the requests to storage."""

from __future__ import annotations

from pathlib import Path

from chunkers import EqualChunks

from cas import BlobStore
from cas.backends.memory import MemoryBackend
from cas.cache.cache import PackCache
from cas.catalog import MemoryCatalog
from cas.store import open_settings


class CountingBackend(MemoryBackend):
    def __init__(self):
        super().__init__()
        self.reads = []
        """Start and size of every requested range, without those of settings."""

    def read(self, name, start=0, size=None):
        if name.startswith("packs/"):
            self.reads.append((start, size))
        return super().read(name, start, size)


class CachedStore:
    def __init__(self, root, *, limit=1 << 30, calls=None, chunk_size=1 << 20):
        self.root = Path(root)
        self.backend = CountingBackend()
        self.catalog = MemoryCatalog()
        self.settings = open_settings(self.backend, create=True)
        self.chunk_size = chunk_size
        self.open(limit=limit, calls=calls)

    def open(self, *, limit=1 << 30, calls=None):
        """Start again, as another process would."""
        self.cache = PackCache(self.root, limit=limit, calls=calls)
        self.blobs = BlobStore(self.backend, self.catalog, self.settings, self.cache)
        self.blobs.chunker = EqualChunks(self.chunk_size)

    def write(self, *blobs):
        """Store blobs in one batch; return their digests."""
        with self.blobs.batch() as batch:
            digests = [batch.add_pieces([blob])[0] for blob in blobs]
            self.catalog.record(batch.finish())
        return digests

    def asked(self):
        """Return the requests to storage since the last call."""
        reads, self.backend.reads = self.backend.reads, []
        return reads


def kept(root):
    """Return the files of a cache, found without the cache."""
    return sorted(Path(root, "runcas-v1", "packs").glob("*/*/*"))


def left_half_written(root):
    return sorted(Path(root, "runcas-v1", "tmp").iterdir())


def size_on_disk(root):
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in kept(root))
