"""The name of a blob: BLAKE3-256 of its bytes.

Source of the algorithm: the BLAKE3 specification (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020);
default hash mode, 32 bytes of output, which is what ``b3sum`` prints.
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
"""Bytes in memory, in whichever of the three forms."""

DIGEST_SIZE: Final = 32
"""Bytes in a digest."""

HASH_THREADS: Final = 1
"""Threads that BLAKE3 may use within one update: never more than the caller's own.

Its shared pool hangs in a process that was forked after its parent used it, and what threads gain
on idle cores is not there while others read, compress and write. Source:
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

    A value: immutable, hashable, ordered by its bytes. It is `bytes`, so that a database driver
    binds it and a set of a million of them stays small; it prints as text, never as raw bytes.
    """

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Take the 32 raw bytes of a digest; raise `InvalidDigestError` for anything else."""
        if len(raw) != DIGEST_SIZE:
            raise InvalidDigestError(raw)
        return super().__new__(cls, raw)

    @classmethod
    def of(cls, data: Buffer) -> Self:
        """Hash `data` whole, on the calling thread."""
        return bytes.__new__(cls, blake3(data).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; raise `InvalidDigestError` unless it is exactly that."""
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
        """Return a hash that goes on from here by itself."""
        other = Hasher.__new__(Hasher)
        other._blake3 = self._blake3.copy()  # noqa: SLF001 - of its own class
        other.size = self.size
        return other

    def digest(self) -> Digest:
        """Return the digest of everything appended so far; more may follow."""
        return Digest(self._blake3.digest())
