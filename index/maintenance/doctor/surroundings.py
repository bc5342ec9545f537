"""Checks of storage, its filesystem, free space, leftovers and the cache."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas.errors import BackendError, ObjectNotFoundError
from cas.probe import filesystem_of, is_writable, probe_directory, storage_time
from cas.store import find_owner, open_settings
from cas.urls import open_cache
from index.domain.units import human_size
from index.errors import StoreNotFoundError
from index.maintenance.doctor.report import noting, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cas.backend import Backend
    from cas.store import StoreSettings
    from index.maintenance.doctor.report import DoctorFinding

__all__ = [
    "check_cache",
    "check_clock",
    "check_space",
    "check_storage",
    "local_directory",
    "temporary_directory",
]

_TIGHT: Final = 1 << 30
_FULL: Final = 512 << 20
"""Bytes of free space. Four packs of 64 MiB are sent at once, and one is filled."""

_LEFT_OVER: Final = timedelta(days=1)
"""No writer fills one pack for that long."""

_RACY_S: Final = 2.0
"""What file times may lag behind. See `index.scan.ingest.RACY_WINDOW_NS`."""

_SKEW_S: Final = 60.0
"""Times of the index and of storage are compared with grace periods of hours."""


def local_directory(backend: Backend) -> Path | None:
    """Return the directory of a local store, which need not exist; None if it is remote."""
    place = Path(backend.url)
    return place if place.is_absolute() else None


def check_storage(
    findings: list[DoctorFinding], backend: Backend, clock: Callable[[], datetime]
) -> tuple[StoreSettings | None, str | None]:
    """Check the storage of a store. Return its settings, and the id of the index that owns it."""
    try:
        settings = open_settings(backend, create=False)
    except ObjectNotFoundError:
        findings.append(problem("storage", str(StoreNotFoundError(backend.url))))
        return None, None
    findings.append(ok("storage", f"{backend.url}, format {settings.format_version}"))
    owner = find_owner(backend)
    place = local_directory(backend)
    if place is None:
        with noting(findings, "storage"):
            if is_writable(backend, "cas.json") is False:
                advice = "a host that records needs the right to write objects"
                findings.append(warning("storage", "it can be read, but not written", advice))
        with noting(findings, "clock"):
            if (reported := storage_time(backend)) is not None:
                findings.append(check_clock("storage", reported, clock(), _SKEW_S))
    else:
        findings += _leftovers(place, clock)
        with noting(findings, "filesystem"):
            findings += _features(place)
    copies = sum(1 for _ in backend.iter_objects("damaged/"))
    if copies:
        advice = "look at them, and delete them"
        findings.append(
            warning("leftovers", f"{copies} copies of damaged objects are in damaged/", advice)
        )
    return settings, owner


def _features(place: Path) -> Iterator[DoctorFinding]:
    tmp = place / "tmp"
    kind = filesystem_of(place)
    if not tmp.is_dir() or not os.access(tmp, os.W_OK):
        # Readers need neither, and a probe would have to make a directory.
        yield warning(
            "filesystem",
            f"{place} is on {kind or 'an unknown filesystem'}, and can't be written",
            "a user who records needs the right to write there",
        )
        return
    found = probe_directory(tmp)
    case = "does not tell a from A" if found.folds_case else "tells a from A"
    yield ok("filesystem", f"{place} is on {kind or 'an unknown filesystem'}, which {case}")
    if not found.has_links and not found.has_locks:
        yield warning(
            "filesystem",
            "it has neither hard links nor locks",
            "create a store there by one process at a time, and delete old files in tmp/",
        )
    elif not found.has_locks:
        yield warning(
            "filesystem",
            "it has no locks, so files of killed writers stay in tmp/",
            "delete them while nobody writes",
        )
    if not found.syncs_directories:
        yield warning(
            "filesystem",
            "it can't sync directories: a power loss may take the newest packs",
            "run `store.verify()` after a power loss, or put the store elsewhere",
        )
    yield check_clock("file times", None, None, _RACY_S, ahead_s=found.clock_ahead_s)


def check_clock(
    whose: str,
    reported: datetime | None,
    now: datetime | None,
    most_s: float,
    *,
    ahead_s: float | None = None,
) -> DoctorFinding:
    """Compare the time of another clock with that of this host."""
    if ahead_s is None:
        assert reported is not None  # noqa: S101 - one of both is given
        assert now is not None  # noqa: S101
        ahead_s = (reported - now).total_seconds()
    if abs(ahead_s) <= most_s:
        return ok("clock", f"{whose}: within {most_s:g} s of this host's clock")
    side = "ahead of" if ahead_s > 0 else "behind"
    return warning(
        "clock",
        f"{whose}: {abs(ahead_s):.0f} s {side} this host's clock",
        "set both by NTP; a scan may miss a change, or garbage wait longer or shorter",
    )


def check_space(what: str, place: Path) -> Iterator[DoctorFinding]:
    """Check the free space of the directory, or of the nearest one above that exists."""
    while not place.is_dir():
        place = place.parent
    found = os.statvfs(place)
    free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    detail = f"{what} in {place}: {human_size(free)} of {human_size(size)} free"
    advice = "free some, or move it; `store.plan_gc().execute()` removes what no run needs"
    if found.f_files and not found.f_favail:
        yield problem("space", f"{what} in {place}: no file can be added, no inode is free", advice)
    elif free < _FULL:
        yield problem("space", detail, advice)
    elif free < _TIGHT:
        yield warning("space", detail, advice)
    else:
        yield ok("space", detail)


def _leftovers(place: Path, clock: Callable[[], datetime]) -> Iterator[DoctorFinding]:
    old = (clock() - _LEFT_OVER).timestamp()
    count = size = 0
    try:
        with os.scandir(place / "tmp") as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if status.st_mtime < old:
                    count, size = count + 1, size + status.st_size
    except FileNotFoundError:
        return
    if count:
        yield warning(
            "leftovers",
            f"{count} files of killed writers in tmp/, {human_size(size)}",
            "the next command that writes removes them, unless the filesystem has no locks",
        )


def check_cache(
    findings: list[DoctorFinding], place: str | Path, root: Path, limit: int | None
) -> None:
    """Check the cache of remote blobs in the directory `root`. Create nothing."""
    if not root.exists():
        findings.append(ok("cache", f"{root}: it will be created"))
    elif not any(root.iterdir()):
        findings.append(ok("cache", f"{root}: empty"))
    else:
        with noting(findings, "cache"):
            cache = open_cache(place, root, limit=limit)
            if cache is None:
                findings.append(ok("cache", "not used: blobs are in a local directory"))
            else:
                used = f"{human_size(cache.used)} of {human_size(cache.limit)}"
                findings.append(ok("cache", f"{root}: {used} used"))
    findings += check_space("cache", root)


def temporary_directory() -> Path:
    """Return where packs are kept until remote storage has them."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        reason = "no directory can be written; set TMPDIR to one"
        raise BackendError("temporary files", reason) from error
