"""Verification of what runs have read outside of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cas.digest import Hasher
from index.db.queries.inputs import iter_references
from index.domain.faults import Fault, FaultKind
from index.errors import ReferenceUnreachableError
from index.maintenance.verify.findings import MOST_FAULTS
from index.reading.references import iter_reference

if TYPE_CHECKING:
    from cas.digest import Digest
    from index.context import StoreContext
    from index.maintenance.verify.findings import Findings

__all__ = ["check_references"]


def check_references(context: StoreContext, findings: Findings) -> None:
    """Read each reference again, and add those with other bytes as faults."""
    with context.database.reading() as connection:
        known = list(iter_references(connection))
    for uri, digest in known:
        _check(uri, digest, findings)


def _check(uri: str, digest: Digest, findings: Findings) -> None:
    hasher = Hasher()
    try:
        for piece in iter_reference(uri):
            hasher.update(piece)
    except ReferenceUnreachableError as error:
        if len(findings.unreachable) < MOST_FAULTS:
            findings.unreachable.append(f"{error.uri}: {error.reason}")
        return
    findings.references += 1
    actual = hasher.digest()
    if actual != digest:
        detail = f"it was read as {digest}, and is {actual} now"
        findings.add(Fault(FaultKind.CHANGED_REFERENCE, uri, detail))
