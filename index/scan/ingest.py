"""Reading the files that a scan found, or a put names. Each is read once, hashed and stored.

Later scans trust a signature only if no change to the file can leave it the same. So it must be
equal before and after reading, and the file's times must lie so far before the scan that a later
write gets another time. (This is the racy rule: git, "racy-git.txt"; borg, "Internals", files
cache.)

A file that changes while it is read may be a mixture of two contents. It is read again, and
reported if that does not help.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Final

from cas.digest import DIGEST_SIZE, Digest, Hasher
from index.domain.names import storable, to_native
from index.domain.progress import Progress
from index.domain.run_state import Observed, is_storable, signature_of, size_in
from index.domain.snapshots import is_link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cas.writer import BatchWriter
    from index.domain.run_state import KnownFile, Signature
    from index.scan.scanner import Scan, UnreadFile

__all__ = ["RACY_WINDOW_NS", "Observations", "read_settled"]

RACY_WINDOW_NS: Final = 2_000_000_000
"""Nanoseconds: the coarsest time stamps in use, FAT's (Microsoft, "FAT: General Overview of On-Disk
Format", 2000, "Date and Time Formats"). Linux's own clock ticks every 1 to 10 ms."""

_TICK_NS: Final = 10_000_000
"""Nanoseconds: the longest tick of the clock that sets a file's times on Linux. Two writes in one
tick leave the same time. So a file is read a tick after the last write; then another one shows."""

_READS: Final = 3
"""How often a file is read that changes meanwhile."""

_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""These flags neither follow a link nor wait for a FIFO that replaced the file."""

_REPORT_EVERY: Final = 256
"""Files between two calls of `progress`."""


_READ_SIZE: Final = 1 << 20
"""Bytes that a look at a file reads at once."""

_NOT_HASHED: Final = Digest(bytes(DIGEST_SIZE))
"""In place of a digest, where a look at a file need not know it. No bytes are known to have it."""


class _NotRegularError(Exception):
    """The name is no longer a regular file."""


class _OwnFileError(Exception):
    """The file belongs to the store."""


class Observations:
    """The files of a scan, read into a batch. Iterate it once; after that it is complete.

    Files that can't be read are added to ``scan.skipped``, vanished ones to ``scan.missing``.
    """

    def __init__(
        self,
        scan: Scan,
        batch: BatchWriter | None,
        *,
        started_ns: int,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Describe what to read.

        Parameters
        ----------
        batch
            Where to store what is read. None only looks: it hashes files that may have the content
            of their known version, reads no others, and stores nothing. Digests of new content are
            then not known.
        started_ns
            The system clock when the scan began, in nanoseconds since the epoch.
        """
        self._scan = scan
        into = _Hashing() if batch is None else batch
        self._reader = _Reader(scan, into, started_ns=started_ns)
        self._progress = progress
        self._files = 0
        self._inside = 0
        """Bytes that were read of the file that is being read, if it is large."""
        if progress is not None:
            into.on_read = self._read_inside
        self.torn: list[str] = []
        """Files that changed each time they were read. What was last read is yielded."""
        self.bytes_read = 0

    def __iter__(self) -> Iterator[Observed]:
        scan, read = self._scan, self._reader.read
        for candidate in scan:
            try:
                observed, is_whole = read(candidate)
            except FileNotFoundError:
                if candidate.known is not None:
                    scan.miss(candidate.known)
                continue
            except _OwnFileError:
                continue
            except _NotRegularError:
                reason = "it changed from a file to something else while it was read"
                scan.skip(candidate.path, reason)
                continue
            except OSError as error:
                scan.fail(candidate.path, error)
                continue
            self._files += 1
            self._inside = 0
            if observed.digest is not _NOT_HASHED:
                self.bytes_read += observed.size
            if not is_whole:
                self.torn.append(candidate.path)
            yield observed
            if self._files % _REPORT_EVERY == 0:
                self._report()
        self._report()

    def _read_inside(self, size: int) -> None:
        self._inside += size
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(
                Progress(len(self._scan.unchanged) + self._files, self.bytes_read + self._inside)
            )


class _Reader:
    def __init__(self, scan: Scan, batch: BatchWriter | _Hashing, *, started_ns: int) -> None:
        self._own = scan.own.identities
        self._bit = scan.bit
        self._batch = batch
        self._only_looks = isinstance(batch, _Hashing)
        self._racy_from = started_ns - RACY_WINDOW_NS
        self._racy_until = started_ns + RACY_WINDOW_NS

    def read(self, candidate: UnreadFile) -> tuple[Observed, bool]:
        """Read a candidate into the batch, unless its content is known.

        Return also whether its content was the same all the while.
        """
        path, name, directory, link, known = candidate
        unless = known.digest if known else None
        if link is not None:
            return self._read_link(candidate, link, unless), True
        fd = os.open(to_native(name), _OPEN_FILE, dir_fd=directory)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise _NotRegularError
            if (status.st_dev, status.st_ino) in self._own:
                raise _OwnFileError
            if self._only_looks and not _may_have_stayed(known, status):
                return self._unread(candidate, status), True
            digest, size, after, signature, is_whole = read_settled(
                self._batch, fd, status, unless=unless
            )
        finally:
            os.close(fd)
        trusted = is_whole and size == after.st_size and self._is_trusted(after, signature)
        mtime_ns = after.st_mtime_ns if trusted else storable(after.st_mtime_ns)
        observed = Observed(
            path, digest, size, after.st_mode, mtime_ns, signature, trusted, self._bit, known
        )
        return observed, is_whole

    def _unread(self, candidate: UnreadFile, status: os.stat_result) -> Observed:
        """Return what is known of a file without its content."""
        return Observed(
            candidate.path,
            _NOT_HASHED,
            status.st_size,
            status.st_mode,
            storable(status.st_mtime_ns),
            signature_of(status),
            trusted=False,
            seen_by=self._bit,
            base=candidate.known,
        )

    def _read_link(
        self, candidate: UnreadFile, status: os.stat_result, unless: bytes | None
    ) -> Observed:
        """Store the target of a link as its bytes. The link is never followed."""
        target = os.fsencode(os.readlink(to_native(candidate.name), dir_fd=candidate.directory))
        signature = signature_of(status)
        return Observed(
            candidate.path,
            self._batch.add(target, unless=unless),
            len(target),
            status.st_mode,
            storable(status.st_mtime_ns),
            signature,
            self._is_trusted(status, signature),
            self._bit,
        )

    def _is_trusted(self, status: os.stat_result, signature: Signature) -> bool:
        """Whether the next write must change the times. It can't set them to a later one than now.

        Only the change time is the system's own. The modification time may be any, but where the
        change time is not kept, it is all there is.
        """
        return (
            status.st_ctime_ns < self._racy_from
            and not self._racy_from <= status.st_mtime_ns <= self._racy_until
            and is_storable(signature)
        )


def _may_have_stayed(known: KnownFile | None, status: os.stat_result) -> bool:
    """Whether a file may have the content of its known version, as far as its size tells."""
    if known is None or is_link(known.mode):
        return False
    return known.signature is None or size_in(known.signature) in (None, status.st_size)


class _Hashing:
    """In place of a batch: hashes what it is given, and stores nothing."""

    on_read: Callable[[int], None] | None = None
    """Called with the number of bytes of each piece of a large file."""

    def add(self, data: bytes, *, unless: bytes | None = None) -> Digest:
        return Digest.of(data)

    def add_file(self, fd: int, size: int, *, unless: bytes | None = None) -> tuple[Digest, int]:
        """Hash up to `size` bytes; a file of size 0 to its end, as `BatchWriter` reads it."""
        hasher = Hasher()
        while piece := os.pread(
            fd, min(_READ_SIZE, size - hasher.size) if size else _READ_SIZE, hasher.size
        ):
            hasher.update(piece)
            if self.on_read is not None and size > _READ_SIZE:
                self.on_read(len(piece))
        return hasher.digest(), hasher.size


def read_settled(
    batch: BatchWriter | _Hashing, fd: int, status: os.stat_result, *, unless: bytes | None = None
) -> tuple[Digest, int, os.stat_result, Signature, bool]:
    """Add an open file to a batch; read it up to three times if it changes meanwhile.

    Return digest and size of what was read last, the `stat` after it with its signature, and
    whether the file was the same all the while.

    Parameters
    ----------
    status
        The present `stat` of the file. Its size is read, and no more, so that a growing log ends.
    unless
        As in `BatchWriter.add_file`.
    """
    left = _READS
    while True:
        left -= 1
        before = _settled(fd, status)
        if before is not None or not left:
            digest, size = batch.add_file(fd, (before or os.fstat(fd)).st_size, unless=unless)
            after = os.fstat(fd)
            signature = signature_of(after)
            is_whole = before is not None and _is_same(before, after)
            if is_whole or not left:
                return digest, size, after, signature, is_whole
        status = os.fstat(fd)


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether an open file is unchanged. Its inode and device are the same anyway."""
    return (
        before.st_mtime_ns == after.st_mtime_ns
        and before.st_ctime_ns == after.st_ctime_ns
        and before.st_size == after.st_size
    )


def _settled(fd: int, status: os.stat_result) -> os.stat_result | None:
    """Return the `stat` of a file after a tick without a write; None if there was one."""
    wait_ns = _left_of_tick(status)
    if not wait_ns:
        return status
    time.sleep(wait_ns / 1e9)
    status = os.fstat(fd)
    return None if _left_of_tick(status) else status


def _left_of_tick(status: os.stat_result) -> int:
    """Return how many nanoseconds the tick of the last write may last; 0 if it is over."""
    old = time.time_ns() - _TICK_NS
    written, changed = status.st_mtime_ns, status.st_ctime_ns
    if written <= old and changed <= old:  # as almost always
        return 0
    now = old + _TICK_NS
    return max(_TICK_NS - min(abs(now - written), abs(now - changed)), 0)
