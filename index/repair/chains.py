"""Records of commits that are damaged: nobody has their bytes, but the index has what they told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from index.journal.history import write_history
from index.repository import journal
from index.requests import RunKey
from index.verification.packs import noting

if TYPE_CHECKING:
    from index.repair.mender import Mender
    from index.services import Services

__all__ = ["Renewed", "renew_chains"]


class Renewed(NamedTuple):
    """What was done about damaged records."""

    chains: int
    """Runs whose chain of records begins anew, with all of their history."""
    forgotten: int
    """Notes of deletions and copies of the index that are of no use any more."""


def renew_chains(services: Services, mender: Mender, *, dry_run: bool) -> Renewed:
    """Let no run, and no copy of the index, rest on a damaged record.

    On return what was damaged is needed by nothing. A deletion whose note is lost may be undone by
    a recovery, until garbage collection has taken what was deleted.
    """
    with services.database.reading() as connection:
        runs = journal.list_damaged_chains(connection)
        settled = journal.list_damaged_digests(connection)
    if dry_run:
        for digest in settled:
            mender.settle(digest)
        with services.database.reading() as connection:
            return Renewed(len(runs), journal.count_useless(connection))
    for session, run in runs:
        key = RunKey(session, run)
        write_history(services.database, services.blobs, services.clock, key)
    forgotten = noting(services, lambda connection, _now: journal.forget_useless(connection))
    return Renewed(len(runs), forgotten)
