"""The plan of a collection. Planning changes nothing."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from index.db.queries import packs
from index.decorators import awaitable
from index.domain.results import Result, to_json
from index.maintenance.gc.collect import Collection
from index.maintenance.gc.compact import choose, described, saved_by_merging
from index.maintenance.gc.orphans import find_orphans
from index.maintenance.gc.report import DeadPack, Fate, GarbageBlob, Tally
from index.maintenance.gc.survey import iter_candidates
from index.maintenance.gc.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from index.context import StoreContext
    from index.db.queries.liveness import Candidate
    from index.db.queries.packs import PackUsage
    from index.domain.progress import Progress
    from index.maintenance.gc.report import CompactedPack, GcReport, Orphan
    from index.maintenance.gc.settings import GcOptions

__all__ = ["GcPlan", "plan_gc"]

_LOG: Final = logging.getLogger("index.maintenance")


@dataclass(frozen=True, slots=True)
class GcPlan(Result):
    """The plan of a collection. `execute` runs it on everything that is garbage by then."""

    options: GcOptions
    swept: Tally
    """Blobs to delete now."""
    condemned: Tally
    """Blobs to condemn now. They are deleted after the grace period."""
    waiting: Tally
    """Blobs whose grace period is not over."""
    unmarked: Tally
    """Condemned blobs that something refers to again."""
    packs: tuple[DeadPack, ...]
    compacted: tuple[CompactedPack, ...]
    orphans: tuple[Orphan, ...]
    """Objects without a row."""
    _context: StoreContext = field(repr=False)

    @property
    def bytes_freed(self) -> int:
        """Bytes freed: packs, dead parts of rewritten packs, and orphans if they are removed."""
        removed = sum(o.size for o in self.orphans) if self.options.remove_orphans else 0
        dead = sum(c.dead for c in self.compacted) + saved_by_merging(self.compacted)
        return sum(p.size for p in self.packs) + dead + removed

    def iter_blobs(self) -> Iterator[GarbageBlob]:
        """Yield condemned and unneeded blobs by digest, read from the index range by range."""
        settings, now = self.options.settings, self._context.clock()
        since = self.options.cutoff(now)
        transactions = Transactions(self._context.database, settings.rest)
        for found in iter_candidates(transactions, settings, since):
            for blob in found:
                yield GarbageBlob(
                    _fate(blob, since), blob.digest, blob.size, blob.stored_size,
                    blob.session, blob.run, blob.path, blob.agent,
                )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON types, with the blobs of `iter_blobs`."""
        return {
            "grace_s": self.options.settings.grace.total_seconds(),
            "bytes_freed": self.bytes_freed,
            "swept": to_json(self.swept),
            "condemned": to_json(self.condemned),
            "waiting": to_json(self.waiting),
            "unmarked": to_json(self.unmarked),
            "packs": to_json(self.packs),
            "compacted": to_json(self.compacted),
            "orphans": to_json(self.orphans),
            "blobs": [blob.to_dict() for blob in self.iter_blobs()],
        }

    def execute(self, *, progress: Callable[[Progress], None] | None = None) -> GcReport:
        """Collect garbage; return the report.

        Writers, readers and other collections may run at the same time. It can be interrupted at
        any point; the next collection continues from there.

        Parameters
        ----------
        progress
            Called from time to time with the blobs swept and bytes deleted so far.

        Raises
        ------
        BackendError, IndexUnavailableError
            When storage or the database can't be used.
        """
        report = Collection(self._context, self.options, progress, self.swept).run()
        extra = {"swept": report.swept.blobs, "condemned": report.condemned.blobs}
        extra |= {"packs_deleted": report.packs_deleted, "bytes_freed": report.bytes_freed}
        text = "collected garbage: %d blobs swept, %d condemned, %d packs deleted, %d bytes freed"
        _LOG.info(text, *extra.values(), extra=extra)
        return report

    execute_async = awaitable(execute)


def plan_gc(context: StoreContext, options: GcOptions) -> GcPlan:
    """Return the plan of a collection; write nothing."""
    transactions = Transactions(context.database, options.settings.rest)
    now = context.clock()
    since = options.cutoff(now)
    tallies = {fate: [0, 0] for fate in Fate}
    swept_entries: Counter[int] = Counter()
    swept_bytes: Counter[int] = Counter()
    for found in iter_candidates(transactions, options.settings, since):
        for blob in found:
            fate = _fate(blob, since)
            tallies[fate][0] += 1
            tallies[fate][1] += blob.stored_size
            if fate is Fate.SWEPT and blob.pack_id is not None:
                swept_entries[blob.pack_id] += 1
                swept_bytes[blob.pack_id] += blob.stored_size
    left = [
        usage._replace(
            entries=usage.entries - swept_entries[usage.id],
            stored_size=usage.stored_size - swept_bytes[usage.id],
        )
        for usage in transactions.read(packs.list_usage)
    ]
    chosen = choose(left, options.settings, options.max_bytes) if options.compact else ()
    return GcPlan(
        options=options,
        swept=Tally(*tallies[Fate.SWEPT]),
        condemned=Tally(*tallies[Fate.CONDEMNED]),
        waiting=Tally(*tallies[Fate.WAITING]),
        unmarked=Tally(*tallies[Fate.UNMARKED]),
        packs=(*_unfinished(transactions, since), *_empty(left)),
        compacted=described(chosen),
        orphans=tuple(find_orphans(transactions, context.blobs.backend)),
        _context=context,
    )


def _fate(blob: Candidate, since: datetime | None) -> Fate:
    if blob.condemned_at is not None and blob.is_needed:
        return Fate.UNMARKED
    if since is None:
        return Fate.SWEPT
    if blob.condemned_at is None:
        return Fate.CONDEMNED
    return Fate.SWEPT if blob.condemned_at <= since else Fate.WAITING


def _unfinished(transactions: Transactions, since: datetime | None) -> Iterator[DeadPack]:
    for state, reason in (("dead", "dead"), ("pending", "never recorded")):
        for pack in transactions.read(partial(packs.list_of_state, state=state)):
            if state == "dead" or since is None or pack.created_at <= since:
                yield DeadPack(pack.name, pack.size, reason)


def _empty(usages: Iterable[PackUsage]) -> Iterator[DeadPack]:
    for usage in usages:
        if not usage.entries:
            yield DeadPack(usage.name, usage.size, "nothing needs it")
