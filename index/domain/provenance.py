"""Provenance of files: who made them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from index.domain.names import check_label
from index.domain.results import Result

if TYPE_CHECKING:
    from index.domain.names import Label

__all__ = ["Provenance", "either"]


@dataclass(frozen=True, slots=True, init=False)
class Provenance(Result):
    """Phase, agent, DAG node, step, event and code hash; None if the caller did not give it.

    An integer or a UUID becomes its text.
    """

    phase: str | None
    agent: str | None
    node_id: str | None
    step_id: str | None
    event_id: str | None
    code_hash: str | None

    def __init__(
        self,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
    ) -> None:
        given = (phase, agent, node_id, step_id, event_id, code_hash)
        for field, value in zip(fields(self), given, strict=True):
            checked = None if value is None else check_label(field.name, value)
            object.__setattr__(self, field.name, checked)

    def over(self, outer: Provenance) -> Provenance:
        """Return this provenance, with missing fields filled from `outer`."""
        given = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}
        return replace(outer, **given) if given else outer


def either(
    name: str, value: Label | None, long_name: str, long_value: Label | None
) -> Label | None:
    """Return the value of a parameter with two names, or raise TypeError for two values."""
    if value is not None and long_value is not None and value != long_value:
        raise TypeError(f"give {name} or {long_name}, not both: they are one parameter")
    return long_value if value is None else value
