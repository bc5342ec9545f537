"""A worker process: makes previews, one after another, within its limits."""

from __future__ import annotations

import json
import os
import resource
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from index.web.previews.content import Content
from index.web.previews.kinds import show
from index.web.previews.protocol import ANSWER, JOB, LARGEST, WorkerLostError, receive, send
from index.web.previews.visible import visible

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["main"]

_JOBS: Final = 200
"""Previews that a worker makes before another one takes its place: libraries leak memory."""

_ANSWER: Final = 8 << 20
"""Bytes of the largest preview."""


def main(memory: int, timeout: float) -> None:
    """Make previews until standard input closes.

    Parameters
    ----------
    memory
        Bytes of address space.
    timeout
        Seconds of processor time for each preview.
    """
    incoming, outgoing = _pipes()
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    with suppress(WorkerLostError):
        for number in range(1, _JOBS + 1):
            letter, payload = receive(incoming)
            if letter != JOB:
                return
            _limit_processor(timeout)
            job = json.loads(payload)
            content = Content(job["name"], job["size"], incoming, outgoing)
            send(outgoing, ANSWER, _answer(content, is_last=number == _JOBS))


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes to the previewer. What libraries print goes nowhere."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.dup2(2, 0)
    return incoming, outgoing


def _limit(what: int, most: int) -> None:
    with suppress(OSError, ValueError):  # macOS has no limit of address space
        resource.setrlimit(what, (most, most))


def _limit_processor(timeout: float) -> None:
    """End the process by a signal if it computes for too long, even if the previewer is gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + timeout) + 1
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _answer(content: Content, *, is_last: bool) -> bytes:
    preview = show(content)
    answer = {
        "kind": preview.kind,
        "truncated": preview.truncated,
        "note": preview.note,
        "content": _visible(preview.content),
        "last": is_last,
    }
    data = json.dumps(answer).encode()
    if len(data) > min(_ANSWER, LARGEST):
        note = "Its preview is too large."
        return json.dumps({"kind": "refused", "note": note, "content": {}}).encode()
    return data


def _visible(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return JSON with text that hides nothing. It is idempotent, and harmless in HTML."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list | tuple):
        return [_visible(each) for each in value]
    if isinstance(value, dict):
        return {key: _visible(each) for key, each in value.items()}
    return value
