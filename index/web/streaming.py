"""Responses whose bytes are made while they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anyio import CancelScope, CapacityLimiter, fail_after
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync
from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Mapping

    from starlette.types import Message, Receive, Scope, Send

__all__ = ["Streamed"]

STALLED_S: Final = 600.0
"""Seconds that a reader may take for one piece. Then it loses its place to others: a download goes
on with a range request."""

MAKERS: Final = 4
"""Threads that make pieces. While one reads from storage, it holds twice the 8 MiB of a stream.
More would not be faster: what they do is decode and hash."""

_makers: Final[RunVar[CapacityLimiter]] = RunVar("index.web.makers")


class Streamed(StreamingResponse):
    """Pieces that threads make, each when the reader has taken the one before.

    When the reader is gone, or takes nothing for `STALLED_S`, the pieces are closed at once: files
    and the place among the archives are free again.
    """

    def __init__(
        self, pieces: Generator[bytes], status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(self._made(), status, headers)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            with fail_after(STALLED_S):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        finally:
            # Not on the loop: what is closed may wait for storage or for the index.
            with CancelScope(shield=True):
                await run_sync(self._pieces.close)

    async def _made(self) -> AsyncIterator[bytes]:
        limiter = _makers.get(None)
        if limiter is None:
            limiter = CapacityLimiter(MAKERS)
            _makers.set(limiter)
        while (piece := await run_sync(next, self._pieces, None, limiter=limiter)) is not None:
            yield piece
