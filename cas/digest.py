"""Digests, the names of blobs: BLAKE3-256 of their bytes.

Source of the algorithm: the BLAKE3 specification (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020),
in the default hash mode with 32 bytes of output. ``b3sum`` prints the same digests.
"""

from __future__ import annotations

import re
from typing import Final, Self, TypeAlias

from blake3 import blake3

from cas.error_base import AnnotatedError

__all__ = [
    "DIGEST_SIZE",
    "HASH_THREADS",
    "Buffer",
    "CasError",
    "Digest",
    "Hasher",
    "InvalidDigestError",
]

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes in memory, as any of the three types."""

DIGEST_SIZE: Final = 32
"""Size of a digest in bytes."""

HASH_THREADS: Final = 1
"""Threads that BLAKE3 may use in one update: only that of the caller.

BLAKE3's shared thread pool hangs in a process that was forked after its parent used the pool. More
threads help only on idle cores, and other threads read, compress and write meanwhile. Source:
benchmarks/results/bench_hash.md, "threads"; docs/adr/0019-no-hashing-threads.md.
"""

_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class CasError(AnnotatedError):
    """Base of every error that `cas` raises on purpose."""


class InvalidDigestError(CasError, ValueError):
    """Text or bytes that cannot be a BLAKE3-256 digest."""

    value: object

    def __str__(self) -> str:
        return f"{self.value!r} is not a digest: expected 64 lowercase hexadecimal characters"


class Digest(bytes):
    """A BLAKE3-256 digest: 32 bytes whose text form is 64 lowercase hexadecimal characters.

    A digest is immutable, hashable, and ordered by its bytes. It is a subclass of `bytes`, so that
    database drivers can bind it and a set of a million digests stays small. It prints as text.
    """

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Create a digest from 32 raw bytes; raise `InvalidDigestError` for any other length."""
        if len(raw) != DIGEST_SIZE:
            raise InvalidDigestError(raw)
        return super().__new__(cls, raw)

    @classmethod
    def of(cls, data: Buffer) -> Self:
        """Return the digest of `data`, hashed on the calling thread."""
        return bytes.__new__(cls, blake3(data).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text form; raise `InvalidDigestError` for any other text."""
        if not _HEX.fullmatch(text):
            raise InvalidDigestError(text)
        return cls(bytes.fromhex(text))

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"Digest.parse({self.hex()!r})"


class Hasher:
    """An incremental hash of a byte sequence. Not safe for use by two threads at once."""

    __slots__ = ("_blake3", "size")

    size: int
    """Bytes hashed so far."""

    def __init__(self) -> None:
        self._blake3 = blake3(max_threads=HASH_THREADS)
        self.size = 0

    def update(self, data: Buffer) -> None:
        """Append `data`."""
        self._blake3.update(data)
        self.size += memoryview(data).nbytes

    def copy(self) -> Hasher:
        """Return an independent copy of the present state."""
        other = Hasher.__new__(Hasher)
        other._blake3 = self._blake3.copy()  # noqa: SLF001 - of its own class
        other.size = self.size
        return other

    def digest(self) -> Digest:
        """Return the digest of all bytes appended so far. You can append more afterwards."""
        return Digest(self._blake3.digest())
