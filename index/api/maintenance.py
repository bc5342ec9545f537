"""What keeps a store sound: the part of `ArtifactStore` that looks at all of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from index.decorators import awaitable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from index.context import StoreContext
    from index.domain.faults import VerifyReport
    from index.domain.snapshots import Progress
    from index.maintenance.backup import BackupReport
    from index.maintenance.gc.plan import GcPlan
    from index.maintenance.repair.repair import RepairReport

__all__ = ["StoreMaintenance"]


class StoreMaintenance:
    """Verification, repair, garbage and copies of the index. Safe for use by several threads."""

    _context: StoreContext

    @property
    def context(self) -> StoreContext:
        """What the handles of this store share; for the parts of this library."""
        return self._context

    def verify(
        self,
        *,
        depth: str | None = None,
        max_bytes: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> VerifyReport:
        """Look for what is missing, damaged or impossible; return it, in bounded memory.

        Others may go on with whatever they do. What is damaged for certain is noted: writers store
        it anew, and `repair` begins with it. What is right is noted too, pack by pack, so that the
        next call goes on where this one was interrupted or out of its budget. A fault is never
        raised.

        Parameters
        ----------
        depth
            ``"index"``: rows among themselves and against the list of objects. ``"packs"``, the
            default: size, header and footer of every pack as well. ``"bytes"``: every byte as well.
            A pack in which something looks wrong is read whole at any depth.
        max_bytes
            About how many bytes to read: at depth ``"bytes"``, which is then the default. What was
            not verified for the longest is read first.
        progress
            Called now and then with blobs and bytes so far.

        Raises
        ------
        BackendError, IndexUnavailableError
            When storage or the database fails; nothing is called damaged for that.
        ValueError
            When a budget is given for another depth.
        """
        from index.domain.faults import Depth
        from index.maintenance.verify.verify import verify

        asked = Depth(depth or (Depth.PACKS if max_bytes is None else Depth.BYTES))
        if max_bytes is not None and (asked is not Depth.BYTES or max_bytes <= 0):
            raise ValueError("max_bytes is a number of bytes that depth 'bytes' may read")
        return verify(self.context, depth=asked, max_bytes=max_bytes, progress=progress)

    verify_async = awaitable(verify)

    def repair(
        self,
        *sources: StoreMaintenance | str | os.PathLike[str],
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> RepairReport:
        """Have damaged blobs again, by digest, from wherever their bytes are.

        What `verify` has found damaged is mended, nothing else is looked for. The store's own packs
        and its cache are asked, too. Only bytes that hash to the digest are taken; they are
        durable before the index leads to them, and whatever interrupts a repair, the next one goes
        on. Nothing is deleted: of an object that is damaged and not needed any more a copy stays
        under ``damaged/``.

        Parameters
        ----------
        sources
            Directories, below which files are known by their content alone, and other stores.
        dry_run
            Write nothing, and return what could be mended.
        progress
            Called now and then with blobs mended and bytes read.

        Raises
        ------
        BackendError, IndexUnavailableError
            When storage or a database fails.
        NotADirectoryError
            When a source is no directory.
        """
        from index.maintenance.repair.repair import repair

        return repair(
            self.context,
            [_source(source) for source in sources],
            dry_run=dry_run,
            progress=progress,
        )

    repair_async = awaitable(repair)

    def back_up(self, *, keep: int | None = None) -> BackupReport:
        """Store a copy of the index beside the bytes that it tells of.

        On return it is durable. It is of one state, and writers go on meanwhile. `recover` begins
        with the newest one. Of what a copy has in common with the one before nothing is stored.

        Parameters
        ----------
        keep
            How many copies to keep, this one included; 7 if not given.

        Raises
        ------
        BackendError, IndexUnavailableError
            When storage or the database fails.
        """
        from index.maintenance.backup import KEPT_BACKUPS, back_up

        return back_up(self.context, keep=KEPT_BACKUPS if keep is None else keep)

    def plan_gc(
        self,
        *,
        grace: timedelta | None = None,
        compact: bool = True,
        max_bytes: int | None = None,
        remove_orphans: bool = False,
    ) -> GcPlan:
        """Look up what garbage collection would do, and write nothing.

        The plan's ``execute()`` does it, beside writers, readers and other collections. Whatever
        the grace period is, nothing that is referred to loses its bytes.

        Parameters
        ----------
        grace
            How long something is left alone after its last use, and again after it was found to be
            garbage; 24 hours if not given. Zero frees everything that nothing refers to at once.
        compact
            Whether packs that are mostly garbage are rewritten, and small ones merged.
        max_bytes
            Stored bytes that may be copied for that; None for any.
        remove_orphans
            Whether objects are removed that no row of the index knows.
        """
        from index.maintenance.gc.plan import plan_gc
        from index.maintenance.gc.settings import GcOptions, GcSettings

        settings = GcSettings() if grace is None else GcSettings(grace=grace)
        return plan_gc(
            self.context, GcOptions(settings, compact, max_bytes, remove_orphans=remove_orphans)
        )


def _source(given: StoreMaintenance | str | os.PathLike[str]) -> StoreContext | str:
    if isinstance(given, StoreMaintenance):
        return given.context
    if not Path(given).is_dir():
        raise NotADirectoryError(f"{os.fspath(given)!r} is no directory to repair from")
    return os.fspath(given)
