"""Maintenance of a store: verification, repair, backups and garbage collection."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from index.decorators import awaitable
from index.domain.names import check_local

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from index.context import StoreContext
    from index.domain.faults import VerifyReport
    from index.domain.progress import Progress
    from index.maintenance.backup import BackupReport
    from index.maintenance.gc.plan import GcPlan
    from index.maintenance.repair.repair import RepairReport

__all__ = ["StoreMaintenance"]

_LOG: Final = logging.getLogger("index.maintenance")


class StoreMaintenance:
    """Verification, repair, backups and garbage collection. Safe for use by several threads."""

    _context: StoreContext

    @property
    def context(self) -> StoreContext:
        """The state that all handles of this store share; internal to this library."""
        return self._context

    def verify(
        self,
        *,
        depth: str | None = None,
        max_bytes: int | None = None,
        references: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> VerifyReport:
        """Find missing or damaged bytes and inconsistent rows; return a report.

        Other readers and writers can go on. The call uses bounded memory. It records certain damage
        in the index: writers then store those blobs again, and `repair` restores them. It also
        records each pack that it has verified, so that the next call continues where this one was
        interrupted or used up its budget. Faults are reported, never raised.

        Parameters
        ----------
        depth
            ``"index"`` checks the rows against each other and against the list of objects.
            ``"packs"``, the default, also checks size, header and footer of every pack. ``"bytes"``
            also checks every byte. At any depth, a pack that looks wrong is read completely.
        max_bytes
            About how many bytes to read. This needs depth ``"bytes"``, which is then the default.
            Packs whose last verification is longest ago come first.
        references
            Whether to read again what runs have used outside of the store, where it can be reached.
            One with other bytes than then is a fault.
        progress
            Called now and then with the blobs and bytes verified so far.

        Raises
        ------
        BackendError, IndexUnavailableError
            When storage or the database fails. That is not reported as damage.
        ValueError
            When `max_bytes` is given with another depth.
        """
        from index.domain.faults import Depth
        from index.maintenance.verify.verify import verify

        wanted = depth or (Depth.PACKS if max_bytes is None else Depth.BYTES)
        if wanted not in tuple(Depth):
            raise ValueError(f"depth is one of {', '.join(Depth)}, not {depth!r}")
        asked = Depth(wanted)
        if max_bytes is not None and (asked is not Depth.BYTES or max_bytes <= 0):
            raise ValueError("max_bytes is a number of bytes that depth 'bytes' may read")
        report = verify(
            self.context,
            depth=asked,
            max_bytes=max_bytes,
            references=references,
            progress=progress,
        )
        faults = sum(report.counts.values())
        extra = {"depth": str(asked), "faults": faults, "bytes_read": report.bytes_read}
        _LOG.info("verified at depth %s: %d faults", asked, faults, extra=extra)
        return report

    verify_async = awaitable(verify)

    def repair(
        self,
        *sources: StoreMaintenance | str | os.PathLike[str],
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> RepairReport:
        """Restore damaged blobs from any remaining copy of their bytes.

        A repair restores what `verify` has found damaged. It also searches the store's own packs
        and its cache. It accepts only bytes that hash to the digest, and makes them durable before
        the index refers to them. If a repair is interrupted, the next one continues. A repair
        deletes no bytes: a damaged object that is no longer needed stays as a copy under
        ``damaged/``.

        Parameters
        ----------
        sources
            Other stores, and directories. In a directory, files are found by content, not by name.
        dry_run
            Write nothing, and return what could be repaired.
        progress
            Called now and then with the blobs repaired and bytes read so far.

        Raises
        ------
        BackendError, IndexUnavailableError
            When storage or a database fails.
        NotADirectoryError
            When a source is not a directory.
        """
        from index.maintenance.repair.repair import plan_repair, repair

        places = [_source(source) for source in sources]
        report = (plan_repair if dry_run else repair)(self.context, places, progress=progress)
        if not dry_run:
            extra = {"repaired": report.repaired, "lost": report.lost_count}
            _LOG.info("repaired %d blobs, %d are lost", *extra.values(), extra=extra)
        return report

    repair_async = awaitable(repair)

    def back_up(
        self, *, keep: int | None = None, progress: Callable[[Progress], None] | None = None
    ) -> BackupReport:
        """Store a copy of the index beside the blobs.

        On return the copy is durable. It is consistent, and writers can go on meanwhile. Copies are
        deduplicated. `recover` starts from the newest copy.

        Parameters
        ----------
        keep
            Number of copies to keep, including this one; 7 by default.
        progress
            Called now and then with the bytes of the copy that were read.

        Raises
        ------
        BackendError, IndexUnavailableError
            When storage or the database fails.
        """
        from index.maintenance.backup import KEPT_BACKUPS, back_up

        keep = KEPT_BACKUPS if keep is None else keep
        report = back_up(self.context, keep=keep, progress=progress)
        extra = {"blob": str(report.digest), "bytes": report.size, "kept": report.kept}
        _LOG.info("the index was copied to blob %s", report.digest, extra=extra)
        return report

    def plan_gc(
        self,
        *,
        grace: timedelta | None = None,
        compact: bool = True,
        max_bytes: int | None = None,
        remove_orphans: bool = False,
    ) -> GcPlan:
        """Return what a garbage collection would do; write nothing.

        Call ``execute()`` on the plan to collect. It can run beside writers, readers and other
        collections. Whatever the grace period, a collection never removes referenced bytes.

        Parameters
        ----------
        grace
            How long a blob is kept after its last use, and again after it was marked as garbage; 24
            hours by default. Zero removes all garbage at once.
        compact
            Whether to rewrite packs that are mostly garbage, and to merge small ones.
        max_bytes
            How many stored bytes to copy at most for that; None for no limit.
        remove_orphans
            Whether to remove objects that the index does not know.
        """
        from index.maintenance.gc.plan import plan_gc
        from index.maintenance.gc.settings import GcOptions, GcSettings

        if not isinstance(grace, timedelta | None):
            raise TypeError(f"grace is a timedelta, as timedelta(hours=1), not {grace!r}")
        settings = GcSettings() if grace is None else GcSettings(grace=grace)
        return plan_gc(
            self.context, GcOptions(settings, compact, max_bytes, remove_orphans=remove_orphans)
        )


def _source(given: StoreMaintenance | str | os.PathLike[str]) -> StoreContext | str:
    if isinstance(given, StoreMaintenance):
        return given.context
    directory = check_local(given)
    if not Path(directory).is_dir():
        raise NotADirectoryError(f"{directory!r} is no directory to repair from")
    return directory
