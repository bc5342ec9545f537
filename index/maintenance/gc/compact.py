"""Compaction: rewrite packs that are mostly dead, and merge small ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cas.errors import CorruptPackError, UnsupportedFormatError
from cas.packs.pack import pack_size
from cas.packs.packer import PACK_SIZE
from cas.packs.rewriter import MOST_ENTRIES, PackRewriter
from index.db.catalog import SqlCatalog
from index.db.queries import packs
from index.maintenance.gc.report import CompactedPack, DamagedEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy.engine import Connection

    from cas.catalog import Location
    from cas.digest import Digest
    from cas.packs.pack import SealedPack
    from cas.packs.rewriter import EntryFault, MovedEntry
    from index.context import StoreContext
    from index.db.queries.packs import PackUsage
    from index.maintenance.gc.settings import GcSettings
    from index.maintenance.gc.transactions import Transactions

__all__ = ["Compacted", "choose", "compact", "described", "saved_by_merging"]

_MOSTLY_DEAD = "mostly dead"
_SMALL = "small"


class Compacted(NamedTuple):
    """The result of compaction."""

    packs: int
    bytes_written: int
    damaged: list[DamagedEntry]


def choose(
    usages: Iterable[PackUsage], settings: GcSettings, budget: int | None
) -> list[tuple[PackUsage, str]]:
    """Return the packs worth rewriting, with the reasons; those that free most come first.

    A pack with damaged entries must stay, so rewriting the rest of it gains nothing.

    Parameters
    ----------
    budget
        Stored bytes that may be copied; None for no limit.
    """
    sound = [usage for usage in usages if usage.entries and not usage.damaged]
    dead = [
        usage
        for usage in sound
        if _dead(usage) >= max(settings.least_dead, settings.dead_share * usage.size)
    ]
    chosen = [(usage, _MOSTLY_DEAD) for usage in sorted(dead, key=_dead, reverse=True)]
    # A small pack with very many entries counts as full; merging would only copy it.
    small = [
        usage
        for usage in sound
        if usage.size < settings.small_pack and usage.entries < MOST_ENTRIES // 8
    ]
    if len(small) >= settings.small_packs:
        taken = {usage.id for usage in dead}
        rest = (usage for usage in small if usage.id not in taken)
        chosen += [(usage, _SMALL) for usage in sorted(rest, key=lambda usage: usage.size)]
    if budget is None:
        return chosen
    within = []
    for usage, reason in chosen:
        budget -= usage.stored_size
        if budget >= 0:
            within.append((usage, reason))
    return within


def described(chosen: Iterable[tuple[PackUsage, str]]) -> tuple[CompactedPack, ...]:
    """Return the chosen packs, for reports."""
    return tuple(
        CompactedPack(usage.name, usage.size, usage.stored_size, _dead(usage), reason)
        for usage, reason in chosen
    )


def saved_by_merging(chosen: Sequence[CompactedPack]) -> int:
    """Return the bytes saved because fewer packs hold the same entries."""
    few = -(-sum(pack.live for pack in chosen) // PACK_SIZE)
    return max(len(chosen) - few, 0) * pack_size(0, 0)


def _dead(usage: PackUsage) -> int:
    """Return the dead bytes of a pack, with their part of the footer."""
    return max(usage.size - pack_size(usage.entries, usage.stored_size), 0)


def compact(
    context: StoreContext,
    transactions: Transactions,
    usages: Sequence[PackUsage],
    report: Callable[[], None],
) -> Compacted:
    """Copy the entries of packs into new packs, and point the rows there.

    No row points to the old packs afterwards, so the collection deletes them. Damaged entries, and
    their packs, stay.
    """
    written = 0
    damaged: list[DamagedEntry] = []

    def record(sealed: SealedPack, moved: Sequence[MovedEntry]) -> None:
        nonlocal written
        if transactions.write(lambda c: packs.move_entries(c, sealed, moved)) is not None:
            written += sealed.size
        report()

    register = SqlCatalog(context.database, context.clock).register_pack
    backend = context.blobs.backend
    with PackRewriter(backend, register=register, on_published=record) as rewriter:
        for usage in usages:

            def look(
                connection: Connection, usage: PackUsage = usage
            ) -> list[tuple[Digest, Location]]:
                return packs.list_entries(connection, usage)

            entries = transactions.read(look)
            try:
                faults = rewriter.copy(usage.name, usage.size, entries)
            except (CorruptPackError, UnsupportedFormatError) as error:
                # Its entries may be intact and readable; verification decides that.
                damaged.append(DamagedEntry(usage.name, None, str(error)))
                continue
            damaged += _noted(context, transactions, faults)
        rewriter.finish()
    return Compacted(len(usages), written, damaged)


def _noted(
    context: StoreContext, transactions: Transactions, faults: Sequence[EntryFault]
) -> list[DamagedEntry]:
    """Mark damaged blobs; return the faults that remain."""
    wrong = [fault for fault in faults if fault.is_damage]
    now = context.clock()
    marked = transactions.write(lambda c: packs.mark_damaged(c, wrong, now)) if wrong else None
    remaining = [*(marked or ()), *(fault for fault in faults if not fault.is_damage)]
    return [DamagedEntry(fault.source.pack, fault.digest, fault.reason) for fault in remaining]
