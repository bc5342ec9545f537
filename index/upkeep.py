"""What keeps a store sound: the part of `ArtifactStore` that looks at all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.awaiting import awaitable

if TYPE_CHECKING:
    from collections.abc import Callable

    from index.records import Progress
    from index.services import Services
    from index.verification.records import VerifyReport

__all__ = ["Upkeep"]


class Upkeep:
    """Verification and repair of a store. Safe for use by several threads."""

    @property
    def services(self) -> Services:
        """What the handles of this store share; for the parts of this library."""
        raise NotImplementedError

    def verify(
        self,
        *,
        depth: str | None = None,
        max_bytes: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> VerifyReport:
        """Look for what is missing, damaged or impossible; return it, in bounded memory.

        Others may go on with whatever they do. What is damaged for certain is noted: writers store
        it anew, and `repair` begins with it. What is right is noted too, pack by pack, so that the
        next call goes on where this one was interrupted or out of its budget. A fault is never
        raised.

        Parameters
        ----------
        depth
            ``"index"``: rows among themselves and against the list of objects. ``"packs"``, the
            default: size, header and footer of every pack as well. ``"bytes"``: every byte as well.
            A pack in which something looks wrong is read whole at any depth.
        max_bytes
            About how many bytes to read: at depth ``"bytes"``, which is then the default. What was
            not verified for the longest is read first.
        progress
            Called now and then with blobs and bytes so far.

        Raises
        ------
        BackendError, IndexUnavailableError
            When storage or the database fails; nothing is called damaged for that.
        ValueError
            When a budget is given for another depth.
        """
        from index.verification.records import Depth
        from index.verification.verifying import verify

        asked = Depth(depth or (Depth.PACKS if max_bytes is None else Depth.BYTES))
        if max_bytes is not None and (asked is not Depth.BYTES or max_bytes <= 0):
            raise ValueError("max_bytes is a number of bytes that depth 'bytes' may read")
        return verify(self.services, depth=asked, max_bytes=max_bytes, progress=progress)

    verify_async = awaitable(verify)
