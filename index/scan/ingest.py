"""Reading the files that a scan found. Each byte is read once, hashed and stored.

Later scans trust a signature only if no change to the file can leave it the same. So it must be
equal before and after reading, and the file's times must lie so far before the scan that a later
write gets another time. (This is the racy rule: git, "racy-git.txt"; borg, "Internals", files
cache.)
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from index.domain.run_state import Observed, is_storable, signature_of, storable_time
from index.domain.snapshots import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from cas.writer import BatchWriter
    from index.domain.run_state import Signature
    from index.scan.scanner import Scan, UnreadFile

__all__ = ["RACY_WINDOW_NS", "Observations", "observe"]

RACY_WINDOW_NS: Final = 2_000_000_000
"""Nanoseconds: the coarsest time stamps in use, FAT's (Microsoft, "FAT: General Overview of On-Disk
Format", 2000, "Date and Time Formats"). Linux's own clock ticks every 1 to 10 ms."""

_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""These flags neither follow a link nor wait for a FIFO that replaced the file."""

_REPORT_EVERY: Final = 256
"""Files between two calls of `progress`."""


class _NotRegularError(Exception):
    """The name is no longer a regular file."""


@dataclass(slots=True)
class Observations:
    """The files that a scan has read."""

    files: list[Observed] = field(default_factory=list)
    bytes_read: int = 0


def observe(
    scan: Scan,
    batch: BatchWriter,
    *,
    started_ns: int,
    progress: Callable[[Progress], None] | None = None,
) -> Observations:
    """Run `scan`, read its files into `batch`, and return the observations.

    Files that can't be read are added to ``scan.skipped``, vanished ones to ``scan.missing``.

    Parameters
    ----------
    started_ns
        The system clock when the scan began, in nanoseconds since the epoch.
    """
    reader = _Reader(batch, trusted_before=started_ns - RACY_WINDOW_NS)
    found = Observations()
    for candidate in scan:
        try:
            observed = reader.read(candidate)
        except FileNotFoundError:
            scan.lose(candidate)
            continue
        except _NotRegularError:
            scan.keep(candidate.path, "it changed from a file to something else while it was read")
            continue
        except OSError as error:
            scan.keep(candidate.path, error.strerror or str(error))
            continue
        found.files.append(observed)
        found.bytes_read += observed.size
        if progress is not None and len(found.files) % _REPORT_EVERY == 0:
            progress(Progress(len(scan.unchanged) + len(found.files), found.bytes_read))
    if progress is not None:
        progress(Progress(len(scan.unchanged) + len(found.files), found.bytes_read))
    return found


class _Reader:
    def __init__(self, batch: BatchWriter, *, trusted_before: int) -> None:
        self._batch = batch
        self._trusted_before = trusted_before

    def read(self, candidate: UnreadFile) -> Observed:
        """Read a candidate into the batch, unless its content is known."""
        if candidate.link is not None:
            return self._read_link(candidate, candidate.link)
        fd = os.open(candidate.name, _OPEN_FILE, dir_fd=candidate.directory)
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                raise _NotRegularError
            # Read at most that size, so that a growing log ends.
            known = candidate.known.digest if candidate.known else None
            digest, size = self._batch.add_file(fd, before.st_size, unless=known)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        signature = signature_of(after)
        return Observed(
            candidate.path,
            digest,
            size,
            after.st_mode,
            storable_time(after.st_mtime_ns),
            signature,
            self._is_trusted(after, signature)
            and signature == signature_of(before)
            and size == after.st_size,
            True,  # noqa: FBT003 - seen_on_disk
        )

    def _read_link(self, candidate: UnreadFile, status: os.stat_result) -> Observed:
        """Store the target of a link as its bytes. The link is never followed."""
        target = os.fsencode(os.readlink(candidate.name, dir_fd=candidate.directory))
        signature = signature_of(status)
        known = candidate.known
        return Observed(
            candidate.path,
            self._batch.add(target, unless=known.digest if known else None),
            len(target),
            status.st_mode,
            storable_time(status.st_mtime_ns),
            signature,
            self._is_trusted(status, signature),
            True,  # noqa: FBT003 - seen_on_disk
        )

    def _is_trusted(self, status: os.stat_result, signature: Signature) -> bool:
        newest_ns = max(status.st_mtime_ns, status.st_ctime_ns)
        return newest_ns < self._trusted_before and is_storable(signature)
