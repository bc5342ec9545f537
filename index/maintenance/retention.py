"""Retention: the plan of what a policy keeps and lets go, and its execution.

A plan only reads. Its execution deletes runs and drops past versions, which is a matter of rows;
garbage collection removes the bytes. Both go in parts, each of which is a transaction. After an
interruption the next plan goes on with what is left.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from index.commit.delete import delete_unchanged
from index.commit.marking import MarkedRun
from index.db.queries import drops, holds, run_tags, runs, summaries, tags
from index.decorators import awaitable
from index.domain.drops import Drop
from index.domain.names import RunKey
from index.domain.results import Result
from index.domain.retention import RunChoice, choose_runs
from index.domain.scopes import current_provenance
from index.errors import (
    HeldError,
    UnknownFileError,
    UnknownRunError,
    UnknownSessionError,
    VersionKeptError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from index.context import StoreContext
    from index.domain.holds import Hold
    from index.domain.reports import DeletionReceipt
    from index.domain.retention import RetentionPolicy
    from index.domain.tags import Tag

__all__ = ["RetentionPlan", "RetentionReport", "SkippedRun", "VersionChoice", "plan_retention"]

T = TypeVar("T")

_LOG: Final = logging.getLogger("index.maintenance")

_RUNS_AT_ONCE: Final = 50
"""Runs deleted in one transaction: writers wait for it."""

_DROPS_AT_ONCE: Final = 2_000
"""Versions in one journal record, some 300 kB."""


@dataclass(frozen=True, slots=True)
class VersionChoice(Result):
    """A past version that a rule lets go."""

    run: str
    path: str
    version: int
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class SkippedRun(Result):
    """A run that a plan lets go, or drops versions of, and that was left as it is."""

    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class RetentionReport(Result):
    """What the execution of a plan deleted, dropped and left."""

    session: str
    deletions: tuple[DeletionReceipt, ...]
    """One for each transaction. What one of them kept for another run, a later one may release."""
    dropped: tuple[VersionChoice, ...]
    skipped: tuple[SkippedRun, ...]

    derived: ClassVar = ("runs", "released_bytes", "dropped_bytes")

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that were deleted."""
        return tuple(run for receipt in self.deletions for run in receipt.runs)

    @property
    def released_bytes(self) -> int:
        """Bytes that nothing in the session refers to since runs were deleted."""
        return sum(receipt.released_bytes for receipt in self.deletions)

    @property
    def dropped_bytes(self) -> int:
        """Total size of the dropped versions. Other versions may still refer to the same bytes."""
        return sum(each.size for each in self.dropped)


@dataclass(frozen=True, slots=True)
class RetentionPlan(Result):
    """What a policy keeps and lets go in a session. `execute` carries it out."""

    session: str
    policy: RetentionPolicy
    runs: tuple[RunChoice, ...]
    """All runs of the session, the newest first; those that go have no `RunChoice.reasons`."""
    versions: tuple[VersionChoice, ...]
    """Past versions to drop, of runs that stay."""
    _revisions: Mapping[str, int] = field(repr=False)
    _context: StoreContext = field(repr=False)

    @property
    def kept(self) -> tuple[RunChoice, ...]:
        """The runs that stay."""
        return tuple(run for run in self.runs if run.reasons)

    @property
    def deleted(self) -> tuple[RunChoice, ...]:
        """The runs to delete."""
        return tuple(run for run in self.runs if not run.reasons)

    def execute(self) -> RetentionReport:
        """Delete the runs and drop the versions; return what was done.

        A run that has changed since the plan, or is held by now, stays: the report says so.

        Raises
        ------
        BackendError, IndexUnavailableError
            When storage or the database can't be used. What was done until then stays.
        """
        receipts: list[DeletionReceipt] = []
        skipped: list[SkippedRun] = []
        oldest_first = [run.run for run in reversed(self.deleted)]
        for names in _parts(oldest_first, _RUNS_AT_ONCE):
            expected = {name: self._revisions[name] for name in names}
            receipt = delete_unchanged(self._context, self.session, expected)
            done = set() if receipt is None else {*receipt.runs}
            if receipt is not None:
                receipts.append(receipt)
            reason = "it has changed since the plan, or is held"
            skipped += [SkippedRun(name, reason) for name in names if name not in done]
        dropped: list[VersionChoice] = []
        for run, versions in groupby(self.versions, attrgetter("run")):
            try:
                for part in _parts([*versions], _DROPS_AT_ONCE):
                    self._drop(run, part)
                    dropped += part
            except (UnknownRunError, UnknownFileError, HeldError, VersionKeptError) as error:
                skipped.append(SkippedRun(run, str(error)))
        report = RetentionReport(self.session, tuple(receipts), tuple(dropped), tuple(skipped))
        extra = {"session": self.session, "runs": len(report.runs), "versions": len(dropped)}
        text = "session %s: retention deleted %d runs and dropped %d versions"
        _LOG.info(text, *extra.values(), extra=extra)
        return report

    execute_async = awaitable(execute)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON types."""
        return {
            "session": self.session,
            "policy": self.policy.to_dict(),
            "kept": [run.to_dict() for run in self.kept],
            "deleted": [run.to_dict() for run in self.deleted],
            "versions": [version.to_dict() for version in self.versions],
        }

    def _drop(self, run: str, versions: Sequence[VersionChoice]) -> None:
        wanted = [Drop(each.path, each.version, each.reason) for each in versions]
        named = MarkedRun(self._context, RunKey(self.session, run))
        named.drop(wanted, current_provenance())


def _parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def plan_retention(context: StoreContext, session: str, policy: RetentionPolicy) -> RetentionPlan:
    """Return what a policy keeps and lets go in a session; write nothing.

    Raises UnknownSessionError if there is no such session.
    """

    def look(connection: Connection) -> RetentionPlan:
        # First: what changes afterwards has another revision by then.
        states = summaries.list_run_states(connection, session)
        found = summaries.list_runs(connection, session)
        if not found and not runs.session_exists(connection, session):
            raise UnknownSessionError(session)
        named: defaultdict[str, list[Tag]] = defaultdict(list)
        for tag in tags.list_tags(connection, session):
            named[tag.run].append(tag)
        whole = {tag.run: tag.name for tag in run_tags.list_run_tags(connection, session)}
        held = {hold.run: hold for hold in holds.list_holds(connection, session)}
        kept = {run.run: [*_kept(held, named, whole, run.run)] for run in found}
        now = context.clock()
        chosen = choose_runs(policy, found, kept, now)
        going = {run.run for run in chosen if not run.reasons}
        versions: dict[int, VersionChoice] = {}
        for rule in policy.versions if None not in held else ():
            for version in drops.list_past(connection, session, rule, now):
                run = version.run
                if run in going or run in held or drops.is_tagged(version, named[run]):
                    continue
                what = (run, version.path, version.version, version.size, str(rule))
                versions.setdefault(version.id, VersionChoice(*what))
        ordered = sorted(versions.values(), key=lambda each: (each.run, each.path, each.version))
        revisions = {key.run: state.revision for key, state in states.items()}
        return RetentionPlan(session, policy, chosen, tuple(ordered), revisions, context)

    return context.database.read(look)


def _kept(
    held: Mapping[str | None, Hold],
    named: Mapping[str, Sequence[Tag]],
    whole: Mapping[str | None, str],
    run: str,
) -> Iterator[str]:
    hold = held.get(None) or held.get(run)
    if hold is not None:
        yield f"on hold: {hold.reason}"
    if named.get(run):
        yield f"tag {named[run][0].name}"
    if run in whole:
        yield f"tag {whole[run]} of the run"
