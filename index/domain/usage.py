"""Usage: how many bytes a session holds, and how many it may hold."""

from __future__ import annotations

from dataclasses import dataclass

from index.domain.names import MAX_ROW_ID, is_count
from index.domain.results import Result
from index.errors import QuotaExceededError

__all__ = ["Usage", "check_quota"]


@dataclass(frozen=True, slots=True)
class Usage(Result):
    """The bytes of a session, before compression. A content counts once in each run that has it.

    What other sessions hold has no influence.
    """

    session: str
    bytes: int
    quota_bytes: int | None
    """The most that it may hold; None without a quota."""

    def check(self, more: int) -> None:
        """Raise QuotaExceededError if so many more bytes are too many."""
        if self.quota_bytes is not None and more > 0 and self.bytes + more > self.quota_bytes:
            raise QuotaExceededError(self.session, self.bytes, self.quota_bytes)


def check_quota(quota: int | None) -> int | None:
    """Return a number of bytes, or None for no quota; raise ValueError if it is neither."""
    if quota is not None and not (is_count(quota) and quota <= MAX_ROW_ID):
        raise ValueError(f"a quota is a number of bytes, or None for no quota, not {quota!r}")
    return quota
