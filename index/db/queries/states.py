"""Conditions on file versions for some snapshots of a run, or for the difference of two of them.

A version is current from its first snapshot until its end. So a path differs between two snapshots
only if a version of it began or ended after the first one, up to the second one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, or_

from index.db import tables
from index.db.queries.files import visible_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Column

    from index.db.queries.files import Condition

__all__ = ["begins_after", "changed_between", "ends_by", "is_in", "stayed_between", "touches"]

_FEW: Final = 500
"""Snapshots that a statement names one by one. For more, it takes all between them."""


def is_in(column: Column[Any], numbers: Sequence[int]) -> Condition:
    """Return the condition that a column has one of some ascending snapshot numbers.

    Of many numbers with gaps, it also holds for those between them.
    """
    if len(numbers) == 1:
        return column == numbers[0]
    first, last = numbers[0], numbers[-1]
    if last - first < len(numbers) or len(numbers) > _FEW:
        return column.between(first, last)
    return column.in_(numbers)


def touches(numbers: Sequence[int]) -> Condition:
    """Return the condition that a version began or ended at one of some snapshots: see `is_in`."""
    columns = tables.files.c
    return or_(is_in(columns.first_snapshot, numbers), is_in(columns.end_snapshot, numbers))


def changed_between(earlier: int, later: int) -> Condition:
    """Return the condition that a version is current at one of two snapshots alone."""
    return or_(
        and_(visible_at(earlier), ends_by(later)), and_(visible_at(later), begins_after(earlier))
    )


def ends_by(number: int) -> Condition:
    """Return the condition that a version ended at a snapshot or before it."""
    return tables.files.c.end_snapshot <= number


def begins_after(number: int) -> Condition:
    """Return the condition that a version began after a snapshot."""
    return tables.files.c.first_snapshot > number


def stayed_between(earlier: int, later: int) -> Condition:
    """Return the condition that a version is current from one snapshot to another."""
    return and_(tables.files.c.first_snapshot <= earlier, visible_at(later))
