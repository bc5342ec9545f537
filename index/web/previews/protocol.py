"""Messages between the previewer and its worker processes.

A message is a letter, its length in four bytes, and that many bytes. The previewer sends a job; the
worker asks for bytes of the file as often as it needs, and at the end sends its answer.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = [
    "ANSWER",
    "BYTES",
    "JOB",
    "LARGEST",
    "READ",
    "SPENT",
    "WorkerLostError",
    "receive",
    "send",
]

JOB: Final = b"J"
"""To the worker, JSON: the name and the size of a file."""
READ: Final = b"R"
"""To the previewer, two numbers of eight bytes: the offset and the count of bytes."""
BYTES: Final = b"B"
"""To the worker: the bytes, fewer only at the end of the file."""
SPENT: Final = b"S"
"""To the worker, empty: no more bytes of this file are given."""
ANSWER: Final = b"A"
"""To the previewer, JSON: the preview."""

LARGEST: Final = 16 << 20
"""Bytes of the largest message."""

_HEAD: Final = struct.Struct(">cI")


class WorkerLostError(Exception):
    """The other process has ended, or sends what is no message."""


def send(stream: BinaryIO, letter: bytes, payload: bytes) -> None:
    """Write a message.

    Raises
    ------
    WorkerLostError
        When the other side has ended.
    """
    try:
        stream.write(_HEAD.pack(letter, len(payload)) + payload)
        stream.flush()
    except (OSError, ValueError) as error:
        raise WorkerLostError from error


def receive(stream: BinaryIO) -> tuple[bytes, bytes]:
    """Read a message: its letter and its bytes.

    Raises
    ------
    WorkerLostError
        When the other side has ended, or the message is too large.
    """
    try:
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise WorkerLostError
        letter, length = _HEAD.unpack(head)
        payload = stream.read(length) if length <= LARGEST else b""
    except (OSError, ValueError) as error:
        raise WorkerLostError from error
    if len(payload) < length:
        raise WorkerLostError
    return letter, payload
