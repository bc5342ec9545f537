"""Large blobs of chunks of any sizes, in memory."""

from __future__ import annotations

import random

from cas.backends.memory import MemoryBackend
from cas.catalog import ChunkedBlob, MemoryCatalog
from cas.chunker import CHUNK_SIZE, Chunker
from cas.digest import Digest
from cas.packs.pack import pack_object_name
from cas.reader import BlobReader
from cas.writer import BatchWriter

KIB = 1 << 10
MIB = 1 << 20


class Stored:
    """A large blob of chunks of any sizes, in memory; counts the bytes of each request."""

    def __init__(self, sizes):
        source = random.Random(1)
        self.chunks = [source.randbytes(size) for size in sizes]
        self.store()

    def store(self):
        self.backend, self.catalog = MemoryBackend(), MemoryCatalog()
        self.data = b"".join(self.chunks)
        with BatchWriter(self.backend, self.catalog, Chunker(CHUNK_SIZE)) as batch:
            parts = tuple(batch.add(chunk) for chunk in self.chunks)
            self.catalog.record(batch.finish())
        self.blob = ChunkedBlob(Digest.of(self.data), len(self.data), parts)
        self.catalog.placements[self.blob.digest] = self.blob
        self.requests = []
        read = self.backend.read

        def counting(name, start=0, size=None):
            data = read(name, start, size)
            self.requests.append(len(data))
            return data

        self.backend.read = counting
        self.reader = BlobReader(self.backend, self.catalog)

    def open(self):
        return self.reader.open(self.blob.digest)

    def ends(self):
        end = 0
        for chunk in self.chunks:
            end += len(chunk)
            yield end

    def damage(self, number):
        place = self.catalog.placements[self.blob.chunks[number]]
        name = pack_object_name(place.pack)
        stored = bytearray(self.backend.objects[name])
        stored[place.offset] ^= 1
        self.backend.objects[name] = bytes(stored)
