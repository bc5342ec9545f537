"""Chains of journal records: which commits succeeded, and in which order.

A record is durable before its commit, so its commit may have failed. The chain shows which ones
succeeded. Each commit names the newest record that it found in the index. So a record that is named
has succeeded, and of several records that name the same predecessor at most one has. That one is
the record that is itself named, or that no later attempt replaced, or otherwise the newest.

No record names the last record of a run yet. Recovery applies it: a commit whose answer was lost
looks the same as one that was never sent, and the files that it describes did exist.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from cas.digest import Digest
from index.journal.entries import ForkEntry, HistoryEntry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from index.journal.entries import DeletionEntry, RunEntry

__all__ = ["Base", "Chains", "Key", "Step", "arrange", "start_of"]

_AFTER_BASE: Final = -1
"""The position, in the path of a known run, at which its forks are applied."""

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
"""When the first chain of a run begins: each other one is younger."""

Key: TypeAlias = tuple[str, str]
"""Session and run."""


@dataclass(frozen=True, slots=True)
class Base:
    """A run that a backup of the index already has."""

    newest: Digest | None
    """Its newest record in the backup; None if it had no chain."""
    revision: int
    created_at: str
    """As text, as in the record of a deletion."""
    seen_at: datetime
    """When the backup was made, which has the run."""


@dataclass(frozen=True, slots=True)
class Step:
    """A record to apply after all records that it depends on."""

    digest: Digest
    entry: RunEntry
    chain: Digest | Key
    """The start of its chain, or the known run that it continues."""
    parent: Digest | Key | None = None
    """For a fork, the parent chain, in its state at this step."""
    is_named: bool = False
    """Whether storage proves that the commit succeeded."""
    has_gap: bool = False
    """Whether the record before it is missing."""


@dataclass(slots=True)
class Chains:
    """The results of arranging the records."""

    steps: list[Step] = field(default_factory=list)
    never_arrived: list[Digest] = field(default_factory=list)
    discarded: dict[Digest | Key, bool] = field(default_factory=dict)
    """Chains that are over, each with whether its run was deleted: else a newer chain has it. They
    have steps only if forks depend on them."""
    gone: list[Key] = field(default_factory=list)
    """Runs that were deleted, and whose name no later run has."""


def arrange(
    entries: Mapping[Digest, RunEntry],
    deletions: Mapping[Digest, DeletionEntry],
    known: Mapping[Key, Base] | None = None,
    applied: Collection[Digest] = (),
) -> Chains:
    """Return the records in the order in which to apply them.

    Parameters
    ----------
    entries
        Records of runs by digest. Records with missing parts are left out.
    deletions
        Those that took effect, by digest.
    known
        Runs in the backup of the index.
    applied
        Records in that backup.
    """
    return _Arrangement(entries, deletions, known or {}, frozenset(applied)).arrange()


@dataclass(slots=True)
class _Chain:
    """The records of a chain from its start, in order."""

    start: Digest | Key
    key: Key
    path: list[tuple[Digest, bool]]
    """The records, each with whether there is a gap before it."""
    revision: int
    is_deleted: bool = False


class _Lifetime(NamedTuple):
    """When a deleted run was there."""

    made_at: datetime
    deleted_at: datetime
    begun_at: datetime | None
    """When the chain of its last record began; None if that is not known."""
    is_known: bool
    """Whether the backup knows of the deletion."""


def start_of(newest: Digest, entries: Mapping[Digest, RunEntry]) -> Digest:
    """Return where the chain of a record begins, or the first of it that is missing."""
    while (entry := entries.get(newest)) is not None and entry.previous is not None:
        if isinstance(entry, ForkEntry | HistoryEntry):
            break
        newest = entry.previous
    return newest


def _begun_at(start: RunEntry) -> datetime:
    """Return when a chain began. The first one of a run did before each other, by any clock."""
    return start.created_at if isinstance(start, HistoryEntry) else _FIRST


class _Arrangement:
    def __init__(
        self,
        entries: Mapping[Digest, RunEntry],
        deletions: Mapping[Digest, DeletionEntry],
        known: Mapping[Key, Base],
        applied: frozenset[Digest],
    ) -> None:
        self._given_up = {lost for entry in entries.values() for lost in entry.replaces}
        self._entries = {
            digest: entry
            for digest, entry in entries.items()
            if digest not in self._given_up and digest not in applied
        }
        self._applied = applied
        self._known = known
        self._deletions: dict[Digest, list[DeletionEntry]] = defaultdict(list)
        self._lifetimes: dict[Key, list[_Lifetime]] = defaultdict(list)
        """Those of deleted runs. Two runs of one name are never there at one time, so whatever was
        recorded for the name in between belongs to the deleted run. It need not be in the chain of
        the record that the deletion names: that chain begins with a `HistoryEntry` once storage has
        lost some of the run, and the older chain remains."""
        for digest, deletion in deletions.items():
            for name, head, created_at in deletion.runs:
                last = None if head is None else Digest.parse(head)
                if last is not None and (last in self._entries or last in applied):
                    self._deletions[last].append(deletion)
                if last not in applied:
                    made_at = datetime.fromisoformat(str(created_at))
                    start = None if last is None else entries.get(start_of(last, entries))
                    begun_at = None if start is None else _begun_at(start)
                    lifetime = _Lifetime(made_at, deletion.created_at, begun_at, digest in applied)
                    self._lifetimes[deletion.session, str(name)].append(lifetime)
        self._named = {e.previous for e in self._entries.values() if e.previous}
        self._named |= applied | self._deletions.keys()
        self._next: dict[Digest, list[Digest]] = defaultdict(list)
        self._forks: dict[Digest, list[Digest]] = defaultdict(list)
        self._roots: list[Digest] = []
        self._orphans: dict[Key, list[Digest]] = defaultdict(list)
        self._sort()

    def arrange(self) -> Chains:
        chains = [self._follow_known(key, base) for key, base in self._known.items()]
        chains += [self._follow(start) for start in self._roots]
        self._adopt_orphans(chains)
        chosen = self._choose(chains)
        live = [chain for chain in chosen if not chain.is_deleted]
        needed = self._needed(live, chains)
        living = {chain.start for chain in live}
        steps = list(self._steps([chain for chain in chains if chain.start in needed]))
        placed = {step.digest for step in steps} | self._outlived(chains, chosen)
        return Chains(
            steps,
            sorted(self._given_up | (self._entries.keys() - placed)),
            {each.start: each.is_deleted for each in chains if each.start not in living},
            sorted({c.key for c in chains if c.is_deleted} - {c.key for c in live}),
        )

    def _outlived(self, chains: Sequence[_Chain], chosen: Sequence[_Chain]) -> set[Digest]:
        """Return records of deleted runs, and of chains that a newer chain replaces."""
        replaced = {
            chain.key
            for chain in chosen
            if isinstance(chain.start, bytes)
            and isinstance(self._entries[chain.start], HistoryEntry)
        }
        return {
            digest
            for chain in chains
            if chain.is_deleted or chain.key in replaced
            for digest, _ in chain.path
        }

    def _sort(self) -> None:
        for digest, entry in self._entries.items():
            before = entry.previous
            if isinstance(entry, ForkEntry):
                self._roots.append(digest)
                if before is not None:
                    self._forks[before].append(digest)
            elif before is None or isinstance(entry, HistoryEntry):
                self._roots.append(digest)
            elif before in self._entries or before in self._applied:
                self._next[before].append(digest)
            else:
                self._orphans[entry.session, entry.run].append(digest)

    def _follow_known(self, key: Key, base: Base) -> _Chain:
        chain = _Chain(key, key, [], base.revision)
        if base.newest is not None:
            self._go_on(chain, base.newest)
        made_at = datetime.fromisoformat(base.created_at)
        chain.is_deleted |= self._was_deleted(chain, made_at, seen_at=base.seen_at)
        return chain

    def _follow(self, start: Digest) -> _Chain:
        entry = self._entries[start]
        chain = _Chain(start, (entry.session, entry.run), [(start, False)], entry.revision)
        self._go_on(chain, start)
        chain.is_deleted |= self._was_deleted(chain, self._made_at(start))
        return chain

    def _was_deleted(
        self,
        chain: _Chain,
        made_at: datetime,
        *,
        has_start: bool = True,
        seen_at: datetime | None = None,
    ) -> bool:
        """Whether a chain is of a deleted run of its name.

        The time at which its run was made tells it, whatever the clocks of other writers say. A
        chain whose start is missing has only the time of its first record. If a sync has brought
        the run back, its chain is younger than that of the deleted run; and a run of the backup is
        younger than the deletions that the backup knows of.
        """
        last_at = self._entries[chain.path[-1][0]].created_at if chain.path else made_at
        if seen_at is not None:
            last_at = max(last_at, seen_at)
        is_whole = has_start and isinstance(chain.start, bytes)
        begun_at = _begun_at(self._entries[chain.path[0][0]]) if is_whole else None
        return any(
            (lived.made_at == made_at if has_start else lived.made_at <= made_at)
            and last_at <= lived.deleted_at
            and not (seen_at is not None and lived.is_known)
            and not (begun_at and lived.begun_at and begun_at > lived.begun_at)
            for lived in self._lifetimes[chain.key]
        )

    def _made_at(self, start: Digest) -> datetime:
        entry = self._entries[start]
        return entry.run_created_at if isinstance(entry, HistoryEntry) else entry.created_at

    def _go_on(self, chain: _Chain, newest: Digest) -> None:
        while True:
            following = [d for d in self._next[newest] if self._key(d) == chain.key]
            deletions = self._deletions.get(newest, ())
            if following:
                best = max(following, key=self._rank)
                latest = max((deletion.created_at for deletion in deletions), default=None)
                if best in self._named or latest is None or self._entries[best].created_at > latest:
                    chain.path.append((best, False))
                    chain.revision = self._entries[best].revision
                    newest = best
                    continue
            chain.is_deleted = bool(deletions)
            return

    def _adopt_orphans(self, chains: list[_Chain]) -> None:
        """Append records whose predecessor is missing to the last record of their run."""
        for key, orphans in self._orphans.items():
            for digest in sorted(orphans, key=self._rank):
                entry = self._entries[digest]
                tail = _Chain(digest, key, [(digest, True)], entry.revision)
                self._go_on(tail, digest)
                tail.is_deleted |= self._was_deleted(tail, entry.created_at, has_start=False)
                mine = [c for c in chains if c.key == key and not c.is_deleted]
                mine = [chain for chain in mine if chain.revision < entry.revision]
                if mine and not tail.is_deleted:
                    chain = max(mine, key=lambda chain: chain.revision)
                    chain.path += tail.path
                    chain.revision = tail.revision
                else:
                    chains.append(tail)

    def _choose(self, chains: Sequence[_Chain]) -> list[_Chain]:
        """Return the current chain of each name, and all deleted chains."""
        chosen: dict[Key, _Chain] = {}
        for chain in chains:
            if chain.is_deleted:
                continue
            other = chosen.get(chain.key)
            if other is None or self._chain_rank(other) < self._chain_rank(chain):
                chosen[chain.key] = chain
        return list(chosen.values())

    def _chain_rank(self, chain: _Chain) -> tuple[int, tuple[bool, int, str, bytes]]:
        last = chain.path[-1][0] if chain.path else None
        if last is None:
            return chain.revision, (True, chain.revision, "", b"")
        return chain.revision, self._rank(last)

    def _rank(self, digest: Digest) -> tuple[bool, int, str, bytes]:
        entry = self._entries[digest]
        return (digest in self._named, entry.revision, entry.created_at.isoformat(), digest)

    def _age(self, start: Digest | Key) -> tuple[str, bytes]:
        if isinstance(start, tuple):
            return "", b""
        return self._made_at(start).isoformat(), start

    def _key(self, digest: Digest) -> Key:
        entry = self._entries[digest]
        return entry.session, entry.run

    def _needed(self, live: Sequence[_Chain], chains: Sequence[_Chain]) -> set[Digest | Key]:
        """Return the starts of live chains and of their parents."""
        home = {digest: chain for chain in chains for digest, _ in chain.path}
        home |= {
            base.newest: chain
            for chain in chains
            if isinstance(chain.start, tuple)
            and (base := self._known[chain.start]).newest is not None
        }
        needed: set[Digest | Key] = set()
        waiting = list(live)
        while waiting:
            chain = waiting.pop()
            if chain.start in needed:
                continue
            needed.add(chain.start)
            entry = self._entries.get(chain.start) if isinstance(chain.start, bytes) else None
            if isinstance(entry, ForkEntry) and entry.previous in home:
                waiting.append(home[entry.previous])
        return needed

    def _steps(self, chains: Sequence[_Chain]) -> Iterator[Step]:
        """Yield the records of chains, each after the record that it depends on."""
        starts = {chain.start: chain for chain in chains}
        home: dict[Digest, Digest | Key] = {}
        for chain in chains:
            home.update(dict.fromkeys((digest for digest, _ in chain.path), chain.start))
            if isinstance(chain.start, tuple) and (newest := self._known[chain.start].newest):
                home[newest] = chain.start
        independent = [
            chain
            for chain in chains
            if not (
                isinstance(chain.start, bytes)
                and isinstance(entry := self._entries[chain.start], ForkEntry)
                and entry.previous in home
            )
        ]
        # A fork is younger than its parent.
        independent.sort(key=lambda chain: self._age(chain.start))
        # Forks of a record come before the next record: they begin with the state before it.
        waiting: list[tuple[_Chain, int]] = [(chain, 0) for chain in reversed(independent)]
        while waiting:
            chain, place = waiting.pop()
            if place == 0 and isinstance(chain.start, tuple):
                base = self._known[chain.start].newest
                forks = self._forks.get(base, ()) if base else ()
                waiting.append((chain, _AFTER_BASE))
                waiting += [(starts[fork], 0) for fork in forks if fork in starts]
                continue
            place = max(place, 0)
            if place >= len(chain.path):
                continue
            digest, has_gap = chain.path[place]
            entry = self._entries[digest]
            parent = None
            if isinstance(entry, ForkEntry) and entry.previous is not None:
                parent = home.get(entry.previous)
                has_gap |= parent is None
            yield Step(digest, entry, chain.start, parent, digest in self._named, has_gap)
            waiting.append((chain, place + 1))
            waiting += [(starts[fork], 0) for fork in self._forks.get(digest, ()) if fork in starts]
