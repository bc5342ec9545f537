"""What an examination of a store found."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from cas.errors import BackendError, CasError
from index.domain.results import Result
from index.errors import ArtifactIndexError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DoctorFinding", "DoctorLevel", "DoctorReport", "noting", "ok", "problem", "warning"]


class DoctorLevel(StrEnum):
    """How bad a finding is. The values are part of the interface."""

    OK = "ok"
    WARNING = "warning"
    """The store works. Something is missing or may fail later."""
    PROBLEM = "problem"
    """Something fails, or bytes are lost."""


@dataclass(frozen=True, slots=True)
class DoctorFinding(Result):
    """The outcome of one check."""

    check: str
    """What was looked at, such as ``"storage"`` or ``"backup"``."""
    level: DoctorLevel
    detail: str
    advice: str | None = None
    """What to do; None if it is nothing, or if `detail` says it."""


@dataclass(frozen=True, slots=True)
class DoctorReport(Result):
    """The findings of an examination, in the order of the checks."""

    findings: tuple[DoctorFinding, ...]

    derived: ClassVar = ("is_well",)

    @property
    def is_well(self) -> bool:
        """Whether nothing is a problem. There may be warnings."""
        return all(found.level is not DoctorLevel.PROBLEM for found in self.findings)


def ok(check: str, detail: str) -> DoctorFinding:
    """Return a finding that needs no action."""
    return DoctorFinding(check, DoctorLevel.OK, detail)


def warning(check: str, detail: str, advice: str) -> DoctorFinding:
    """Return a finding that may become a problem."""
    return DoctorFinding(check, DoctorLevel.WARNING, detail, advice)


def problem(check: str, detail: str, advice: str | None = None) -> DoctorFinding:
    """Return a finding that needs action."""
    return DoctorFinding(check, DoctorLevel.PROBLEM, detail, advice)


@contextmanager
def noting(findings: list[DoctorFinding], check: str, advice: str | None = None) -> Iterator[None]:
    """Note an error of the block as a problem, and go on after the block.

    The sentence of an error says what to do. Where storage itself failed, `advice` does.
    """
    try:
        yield
    except (CasError, ArtifactIndexError, OSError, ValueError) as error:
        more = advice if isinstance(error, BackendError) else None
        findings.append(problem(check, str(error), more))
