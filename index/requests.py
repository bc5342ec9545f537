"""What is to be recorded of a run, as whoever scanned or was handed it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from index.annotations import Annotations
from index.classification import DEFAULT_CLASSIFIER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from index.classification import Classifier
    from index.delta import Change, Findings
    from index.provenance import Provenance
    from index.records import Skipped

__all__ = ["CommitRequest", "RunKey"]


@dataclass(frozen=True, slots=True)
class RunKey:
    """A run by its caller's ids."""

    session: str
    run: str


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What is to be recorded, and on whose account."""

    key: RunKey
    findings: Findings
    provenance: Provenance
    still_holds: Callable[[Change], bool]
    """Whether a change is what the path holds at this moment; see `index.delta.rebase`."""
    scope: Sequence[str] | None = None
    skipped: tuple[Skipped, ...] = ()
    bytes_read: int = 0
    annotations: Annotations = field(default_factory=Annotations)
    classifier: Classifier = DEFAULT_CLASSIFIER
