"""Deletions that took effect, and the holds and quotas that ended with them.

A deletion's record is stored before its transaction, which a hold may then refuse. So a hold's
record names the runs that it found. A run that a sync brings back has the name and the time of
creation that it had before it was deleted, but another chain of records.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cas.digest import Digest
from index.journal.entries import ForkEntry, HistoryEntry, HoldEntry
from index.maintenance.recover.chains import start_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from index.journal.entries import DeletionEntry, QuotaEntry, RunEntry
    from index.maintenance.recover.chains import Key

__all__ = ["Ends", "effective"]

_Owner: TypeAlias = tuple[str, str | None, datetime | None]
"""A session, or a run of it with the time at which it was made."""


def effective(
    deletions: Mapping[Digest, DeletionEntry],
    rules: Iterable[HoldEntry | QuotaEntry],
    entries: Mapping[Digest, RunEntry],
    applied: Collection[Digest],
) -> dict[Digest, DeletionEntry]:
    """Return the deletions that took effect. Each deletes all of its runs or none.

    If one of its runs goes on, the deletion died before its transaction, or was refused.

    What a hold names was there when it was made, whatever the clocks say. A deletion of it took
    effect only after a release. That this release is not younger than the deletion is all that is
    assumed of the clocks of several hosts; if it is, the runs come back, and nothing held is lost.
    A run that the hold of its session does not name was deleted before the hold, or made after it:
    who would delete it then sees the hold, and stores no record.

    Parameters
    ----------
    entries
        The records of runs.
    applied
        Records in the backup of the index.
    """
    goes_on = _Continued(deletions.values(), entries, applied)
    holds: dict[str, list[_Hold]] = defaultdict(list)
    releases: dict[str, list[HoldEntry]] = defaultdict(list)
    for rule in rules:
        if isinstance(rule, HoldEntry) and rule.is_release:
            releases[rule.session].append(rule)
        elif isinstance(rule, HoldEntry):
            runs = {(name, made_at): newest for name, newest, made_at in rule.runs}
            holds[rule.session].append(_Hold(rule, runs))

    def was_refused(deletion: DeletionEntry) -> bool:
        return any(
            not any(_ends(each, hold.entry, deletion) for each in releases[deletion.session])
            and hold.concerns(deletion, entries)
            for hold in holds[deletion.session]
        )

    return {
        digest: each
        for digest, each in deletions.items()
        if not (goes_on.has_run_of(each) or was_refused(each))
    }


class _Continued:
    """The records that go on with others."""

    def __init__(
        self,
        deletions: Iterable[DeletionEntry],
        entries: Mapping[Digest, RunEntry],
        applied: Collection[Digest],
    ) -> None:
        given_up = {lost for entry in entries.values() for lost in entry.replaces}
        left = {digest: each for digest, each in entries.items() if digest not in given_up}
        self._named = {each.previous for each in left.values()}.union(applied)
        self._named |= {
            Digest.parse(head) for each in deletions for _, head, _ in each.runs if head
        }
        self._next: dict[tuple[str, str, Digest], list[Digest]] = defaultdict(list)
        self._made_at: dict[Key, datetime] = {}
        """When the newest run of each name was made."""
        for digest, entry in left.items():
            key = entry.session, entry.run
            if isinstance(entry, ForkEntry) or entry.previous is None:
                made_at = entry.run_created_at if isinstance(entry, HistoryEntry) else None
                made_at = made_at or entry.created_at
                self._made_at[key] = max(made_at, self._made_at.get(key, made_at))
            else:
                self._next[*key, entry.previous].append(digest)
        self._entries = entries

    def has_run_of(self, deletion: DeletionEntry) -> bool:
        """Whether a run of a deletion goes on after it.

        The commit of a record that is younger, and that nothing names, may have failed, as it has
        if a run was made again since. If it has otherwise, the runs come back.
        """
        session, deleted_at = deletion.session, deletion.created_at
        following = [
            digest
            for name, head, _ in deletion.runs
            if name is not None and head is not None
            for digest in self._next[session, name, Digest.parse(head)]
        ]
        was_made_again = any(
            (made_at := self._made_at.get((session, str(name)))) and made_at > deleted_at
            for name, *_ in deletion.runs
        )
        return any(
            each in self._named
            or (not was_made_again and self._entries[each].created_at > deleted_at)
            for each in following
        )


class _Hold(NamedTuple):
    """A hold, with the newest record of each run that it names."""

    entry: HoldEntry
    runs: Mapping[tuple[str | None, str | None], str | None]

    def concerns(self, deletion: DeletionEntry, entries: Mapping[Digest, RunEntry]) -> bool:
        if self.entry.run is None and not deletion.runs:
            return self.entry.created_at <= deletion.created_at
        return any(
            (name, made_at) in self.runs
            and _start(newest, entries) == _start(self.runs[name, made_at], entries)
            for name, newest, made_at in deletion.runs
        )


def _ends(release: HoldEntry, hold: HoldEntry, deletion: DeletionEntry) -> bool:
    # A session is as old as its first run that is left, once an index was rebuilt.
    is_same = hold.run is None or release.owner_created_at == hold.owner_created_at
    return (
        release.run == hold.run
        and is_same
        and hold.created_at <= release.created_at <= deletion.created_at
    )


def _start(newest: str | None, entries: Mapping[Digest, RunEntry]) -> Digest | None:
    return None if newest is None else start_of(Digest.parse(newest), entries)


class Ends:
    """When sessions and runs were deleted."""

    def __init__(
        self,
        deletions: Iterable[DeletionEntry],
        newest: Mapping[Key, Digest | None],
        entries: Mapping[Digest, RunEntry],
    ) -> None:
        """Take those deletions whose runs don't go on.

        Parameters
        ----------
        newest
            The newest records of the runs that are there.
        entries
            The records of runs.
        """
        self._ends: dict[_Owner, datetime] = {}
        for deletion in deletions:
            if any(
                head is not None
                and (goes_on := newest.get((deletion.session, str(name)))) is not None
                and _start(head, entries) == _start(str(goes_on), entries)
                for name, head, _ in deletion.runs
            ):
                continue
            owners: list[_Owner] = [
                (deletion.session, name, datetime.fromisoformat(str(made_at)))
                for name, _, made_at in deletion.runs
            ]
            if deletion.is_session:
                owners.append((deletion.session, None, None))
            for owner in owners:
                before = self._ends.get(owner, deletion.created_at)
                self._ends[owner] = max(before, deletion.created_at)

    def ended(self, entry: HoldEntry | QuotaEntry | DeletionEntry) -> bool:
        """Whether the session or run that a record tells of was deleted after it.

        The clocks tell what was first. They must not differ by more than lies between a deletion
        and a hold of what a sync has brought back.
        """
        owner: _Owner = (entry.session, None, None)
        if isinstance(entry, HoldEntry) and entry.run is not None:
            owner = (entry.session, entry.run, entry.owner_created_at)
        end = self._ends.get(owner)
        return end is not None and entry.created_at <= end
