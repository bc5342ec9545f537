"""The faults that a verification has found so far, in bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cas.packs.pack import pack_object_name
from index.db.queries.holders import find_holders
from index.domain.faults import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from cas.packs.inspector import PackVerdict
    from index.db.queries.row_checks import RowFault
    from index.db.queries.verification import VerifiablePack

__all__ = ["MOST_FAULTS", "Findings"]

MOST_FAULTS: Final = 1_000
"""Faults reported one by one. Nobody reads more, and a lost bucket has millions."""


@dataclass(slots=True)
class Findings:
    """Faults and counts of a verification."""

    faults: list[Fault] = field(default_factory=list)
    counts: Counter[FaultKind] = field(default_factory=Counter)
    packs_read: int = 0
    blobs_read: int = 0
    bytes_read: int = 0
    recovered: int = 0
    unused_bytes: int = 0
    references: int = 0
    unreachable: list[str] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Count a fault; keep it if there is room."""
        self.counts[fault.kind] += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault)

    def add_row(self, found: RowFault) -> None:
        """Add the fault of a row."""
        touches = () if found.holder is None else (found.holder,)
        self.add(
            Fault(found.kind, found.subject, found.detail, found.digest, touches, len(touches))
        )

    def add_pack(self, pack: VerifiablePack, verdict: PackVerdict) -> None:
        """Add the faults of a pack and of its blobs."""
        name = pack_object_name(pack.name)
        if verdict.size is None:
            self.add(Fault(FaultKind.MISSING_OBJECT, name, "it is not in storage"))
        else:
            if verdict.size != pack.size:
                detail = f"it has {verdict.size} bytes, and was written with {pack.size}"
                self.add(Fault(FaultKind.WRONG_SIZE, name, detail))
            if verdict.holes:
                refused = sum(len(hole) for hole in verdict.holes)
                detail = f"the medium refuses {refused} of its bytes"
                self.add(Fault(FaultKind.UNREADABLE_OBJECT, name, detail))
            if verdict.reason is not None:
                self.add(Fault(FaultKind.BROKEN_PACK, name, verdict.reason))
            if verdict.actual not in (None, pack.name):
                detail = f"by what is in it, its name is {verdict.actual}"
                self.add(Fault(FaultKind.MISNAMED_PACK, name, detail))
            if verdict.unused_damaged:
                detail = (
                    f"{verdict.unused_damaged} of its entries that nothing refers to are damaged"
                )
                self.add(Fault(FaultKind.BROKEN_PACK, name, detail))
        for digest, what in sorted(verdict.damaged.items()):
            kind = FaultKind.MISSING_BYTES if what == "missing" else FaultKind.DAMAGED_BYTES
            also = verdict.misfiled.get(digest)
            detail = f"its bytes are {what}" + (f", its entry is {also}" if also else "")
            self.add(Fault(kind, name, detail, digest))
        for digest, what in sorted(verdict.misfiled.items()):
            if digest not in verdict.damaged:
                detail = f"its entry is {what} in the footer"
                self.add(Fault(FaultKind.MISPLACED_ENTRY, name, detail, digest))

    def knows(self) -> Collection[Digest]:
        """Return the blobs with faults."""
        return {fault.digest for fault in self.faults if fault.digest is not None}

    def explained(self, connection: Connection) -> tuple[Fault, ...]:
        """Return the kept faults, each with the file versions that it affects."""
        holders = find_holders(connection, self.knows())
        explained = []
        for fault in self.faults:
            if fault.digest in holders and not fault.touches:
                count, first = holders[fault.digest]
                explained.append(replace(fault, touches=first, touched=count))
            else:
                explained.append(fault)
        return tuple(explained)
