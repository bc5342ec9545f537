"""Retention: which runs of a session are kept, as restic's ``forget`` keeps snapshots.

Runs are looked at from the newest to the oldest. Each ``keep_…`` keeps the newest run of each hour,
day, ISO week, month or year (UTC) that has one, until it has kept so many; it skips periods without
runs. The oldest run is kept for a period, too, while some are left to keep. (Source: restic
documentation, "Removing snapshots according to a policy"; its ``snapshot_policy.go``.)
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from index.domain.names import is_count
from index.domain.results import Result
from index.domain.runs import check_status
from index.domain.units import show_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from index.domain.runs import RunStatus, RunSummary

__all__ = ["RetentionPolicy", "RunChoice", "VersionRule", "choose_runs"]

_PERIODS: Final[Mapping[str, Callable[[datetime], Any]]] = {
    "hourly": lambda at: (at.date(), at.hour),
    "daily": lambda at: at.date(),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: at.year,
}


@dataclass(frozen=True, slots=True)
class VersionRule(Result):
    """Which past versions of files lose their bytes. A version must fulfil all that is given."""

    file_type: str | None = None
    """Only versions of this type, as ``"data"``."""
    larger_than: int | None = None
    """Only versions of more bytes than this."""
    older_than: timedelta | None = None
    """Only versions that were replaced or removed longer ago than this."""

    def __post_init__(self) -> None:
        if self.file_type is None and self.larger_than is None and self.older_than is None:
            raise ValueError("say which versions to drop: a type, a size, an age, or several")
        if self.larger_than is not None and not is_count(self.larger_than):
            raise ValueError(f"larger_than is a number of bytes, not {self.larger_than!r}")
        _check_span("older_than", self.older_than)

    def __str__(self) -> str:
        what = f"{self.file_type or 'any'} version"
        size = "" if self.larger_than is None else f" of more than {self.larger_than:,} bytes"
        age = self.older_than
        when = "" if age is None else f", replaced more than {show_duration(age)} ago"
        return f"{what}{size}{when}"


@dataclass(frozen=True, slots=True)
class RetentionPolicy(Result):
    """Rules for the runs and past versions of a session. What a rule keeps, no other drops.

    Without any ``keep_…`` and `keep_within`, no run goes. Tagged and held runs are always kept.
    """

    keep_last: int = 0
    """The newest runs. A run is as old as its last activity: see `RunSummary.active_at`."""
    keep_hourly: int = 0
    """The newest run of each hour, for so many hours that have runs."""
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: timedelta | None = None
    """All runs that are younger than this, compared with the newest one."""
    keep_statuses: tuple[RunStatus, ...] = ("running",)
    """Runs with one of these statuses."""
    only_statuses: tuple[RunStatus, ...] | None = None
    """Leave all other runs out: they stay, and count for no rule."""
    group_by: str | None = None
    """A regular expression. Runs where it finds the same text at the start of their ids are a
    group, and the rules apply to each group by itself: ``"[a-z]+"``. None for one group."""
    versions: tuple[VersionRule, ...] = field(default=())
    """Past versions, of runs that are kept, to drop. Current versions stay, and tagged ones."""

    def __post_init__(self) -> None:
        for name, count in self.counts.items():
            if not is_count(count):
                raise ValueError(f"keep_{name} is a number of runs, not {count!r}")
        _check_span("keep_within", self.keep_within)
        for status in (*self.keep_statuses, *(self.only_statuses or ())):
            check_status(status)
        try:
            re.compile(self.group_by or "")
        except re.error as error:
            raise ValueError(f"{self.group_by!r} can't group runs: {error}") from None

    @property
    def counts(self) -> dict[str, int]:
        """The number of runs that each rule may keep, by its name without ``keep_``."""
        return {name: getattr(self, f"keep_{name}") for name in ("last", *_PERIODS)}

    @property
    def drops_runs(self) -> bool:
        """Whether it says which runs to keep, so that others can go."""
        return any(self.counts.values()) or bool(self.keep_within)


@dataclass(frozen=True, slots=True)
class RunChoice(Result):
    """A run that a policy keeps or lets go, and why."""

    run: str
    active_at: datetime
    files: int
    bytes: int
    """Total size of its current files."""
    reasons: tuple[str, ...]
    """The rules that keep it; none if it goes."""


def choose_runs(
    policy: RetentionPolicy,
    runs: Sequence[RunSummary],
    kept: Mapping[str, Sequence[str]],
    now: datetime,
) -> tuple[RunChoice, ...]:
    """Return for each run whether a policy keeps it, the newest first.

    Parameters
    ----------
    kept
        Reasons to keep runs whatever the policy says, by run.
    now
        A later run is the work of a wrong clock: no other counts as old because of it.
    """
    groups: defaultdict[str | None, list[RunSummary]] = defaultdict(list)
    left_out = []
    for run in sorted(runs, key=lambda run: (run.active_at, run.created_at, run.run), reverse=True):
        if policy.only_statuses is not None and run.status not in policy.only_statuses:
            left_out.append(run)
            continue
        groups[_group(policy, run.run)].append(run)
    chosen = [_choice(run, [f"status {run.status}: left out"]) for run in left_out]
    for group in groups.values():
        for run, rules in _kept_by_rules(policy, group, now):
            reasons = [*kept.get(run.run, ()), *rules]
            if not policy.drops_runs:
                reasons.append("no rule lets runs go")
            chosen.append(_choice(run, reasons))
    return tuple(sorted(chosen, key=lambda each: (each.active_at, each.run), reverse=True))


def _choice(run: RunSummary, reasons: Sequence[str]) -> RunChoice:
    return RunChoice(run.run, run.active_at, run.files, run.bytes, tuple(reasons))


def _group(policy: RetentionPolicy, run: str) -> str | None:
    found = None if policy.group_by is None else re.match(policy.group_by, run)
    return None if found is None else found[0]


def _kept_by_rules(
    policy: RetentionPolicy, newest_first: Sequence[RunSummary], now: datetime
) -> Iterator[tuple[RunSummary, list[str]]]:
    left = policy.counts
    before: dict[str, Any] = {}
    newest = max((run.active_at for run in newest_first if run.active_at <= now), default=now)
    for number, run in enumerate(newest_first):
        at = run.active_at
        reasons = [f"status {run.status}"] if run.status in policy.keep_statuses else []
        within = policy.keep_within
        if within and newest - at < within:
            reasons.append(f"within {show_duration(within)}")
        for name, count in left.items():
            period = number if name == "last" else _PERIODS[name](at)
            is_oldest = number == len(newest_first) - 1
            if count and (is_oldest or before.get(name, _NONE) != period):
                before[name] = period
                left[name] = count - 1
                reasons.append(name)
        yield run, reasons


_NONE: Final = object()
"""No period."""


def _check_span(name: str, span: object) -> None:
    if span is not None and not (isinstance(span, timedelta) and span >= timedelta()):
        raise ValueError(f"{name} is a timedelta, as timedelta(days=30), not {span!r}")
