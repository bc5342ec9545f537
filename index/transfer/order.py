"""The order in which runs are transferred."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from index.domain.runs import RunSummary

__all__ = ["origins_first"]


def origins_first(found: list[RunSummary]) -> list[RunSummary]:
    """Return the runs with each after its origin and its parent, otherwise in the given order.

    So links are made to what is there, and a moved parent arrives before a new child of it.
    """
    by_name = {(summary.session, summary.run): summary for summary in found}
    ordered: dict[tuple[str, str], RunSummary] = {}
    for summary in found:
        waiting = [summary]
        begun: set[tuple[str, str]] = set()  # in a damaged index, runs may be forks of each other
        while waiting:
            each = waiting[-1]
            key = (each.session, each.run)
            before = [by_name.get((each.session, name or "")) for name in _links(each)]
            due = [run for run in before if run and (run.session, run.run) not in ordered]
            if key in begun or not due:
                ordered.setdefault(key, each)
                waiting.pop()
            else:
                begun.add(key)
                waiting += due
    return list(ordered.values())


def _links(summary: RunSummary) -> tuple[str | None, str | None]:
    return summary.parent, summary.forked_from
