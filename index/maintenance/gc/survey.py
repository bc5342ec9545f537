"""Survey of all blobs, range by range, for those that nothing needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.db.queries import liveness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from index.db.queries.liveness import Candidate
    from index.maintenance.gc.settings import GcSettings
    from index.maintenance.gc.transactions import Transactions

__all__ = ["iter_candidates", "split_batches"]


def iter_candidates(
    transactions: Transactions,
    settings: GcSettings,
    untouched_since: datetime | None,
    *,
    only_large: bool = False,
) -> Iterator[list[Candidate]]:
    """Yield blobs that are condemned or can be, range by range. Each range is read when it is due.

    No transaction stays open between ranges.
    """
    after: bytes = liveness.FIRST
    while True:

        def look(connection: Connection, after: bytes = after) -> tuple[bytes, list[Candidate]]:
            bound = liveness.find_bound(connection, after, settings.range, only_large=only_large)
            until = bound or liveness.LAST
            return until, liveness.list_candidates(
                connection, after, until, untouched_since=untouched_since, only_large=only_large
            )

        until, found = transactions.read(look)
        yield found
        if until == liveness.LAST:
            return
        after = until


def split_batches(
    candidates: Sequence[Candidate], settings: GcSettings, chunk_size: int
) -> Iterator[list[Candidate]]:
    """Yield batches of candidates. A large blob counts as many times as it has chunks.

    A single large blob may exceed a batch, because its rows can only be deleted together.
    """
    batch: list[Candidate] = []
    weight = 0
    for candidate in candidates:
        own = 1 if candidate.pack_id is not None else -(-candidate.size // chunk_size)
        if batch and weight + own > settings.batch:
            yield batch
            batch, weight = [], 0
        batch.append(candidate)
        weight += own
    if batch:
        yield batch
