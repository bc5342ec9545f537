"""What a scan finds besides the files to read: unchanged, missing and skipped ones."""

from __future__ import annotations

import errno
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Final

from index.domain.names import ancestors
from index.domain.snapshots import Skipped
from index.errors import WorkDirectoryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from index.domain.run_state import Directories, KnownFile
    from index.scan.coverage import Coverage, Reason

__all__ = ["ScanFindings", "reason_of"]

_EXHAUSTED: Final = {
    errno.EMFILE: "the process has no file descriptor left (raise its limit: `ulimit -n`)",
    errno.ENFILE: "the system has no file descriptor left (close files, or raise its limit)",
    errno.ENOMEM: "there is no memory left (free some)",
}
"""What would be wrong with any entry. Such a scan ends: else it would pass over files at random."""

_IS_LINK: Final = "it is a symbolic link, which is not followed here; put a file in its place"
"""What ELOOP means where a scan opens a name: it follows no link."""

_NO_SCOPE: Final = "there is no such file or directory"


class ScanFindings:
    """The lists that a scan fills. All paths are those in the run."""

    def __init__(self, root: str, known: Directories, coverage: Coverage, prefix: str) -> None:
        self._root = root
        self._known = known
        self._coverage = coverage
        self._prefix = prefix
        """The path of the work directory in the run, with a slash; often ``""``."""
        self.bit = 1 << prefix.count("/")
        """Stands for this scan in `KnownFile.seen_by`. Of the scans that can see one path, those
        with the same prefix have the same bit, because their prefixes have as many names."""
        self._visited: set[str] = set()
        self._found_alone: set[str] = set()
        """Files that are themselves a scope. The walk does not visit their directory."""
        self._unseen: set[str] = set()
        """Files and directories that the scan can't or must not look into."""
        self.unchanged: list[KnownFile] = []
        """Known files whose signature is unchanged."""
        self.missing: list[KnownFile] = []
        """Known files that the scan covered and did not find."""
        self.skipped: list[Skipped] = []
        """Paths that could not be read. Known files below them do not count as missing."""
        self.passed_over: Counter[Reason] = Counter()
        """Number of entries that the scan did not look at. A directory counts as one."""
        self.absent: list[str] = []
        """Scopes that do not exist and that hold no file of the run."""

    def skip(self, path: str, reason: str) -> None:
        """Report what is not recorded."""
        self.skipped.append(Skipped(path, reason))

    def fail(self, path: str, error: OSError) -> None:
        """Report a file or directory that can't be examined.

        Raises
        ------
        WorkDirectoryError
            When the process or the system has run out of something that every entry needs.
        """
        reason = reason_of(error)
        if error.errno in _EXHAUSTED:
            raise WorkDirectoryError(self._root, reason) from error
        self._unseen.add(path)
        self.skip(path or ".", _IS_LINK if error.errno == errno.ELOOP else reason)

    def miss(self, version: KnownFile) -> None:
        """Count a known file as missing."""
        # Not what a put has stored, or a scan of another directory under another prefix.
        if version.seen_by & self.bit:
            self.missing.append(version)

    @cached_property
    def _held_directories(self) -> set[str]:
        """The directories with files of the run, and those above them."""
        held: set[str] = set()
        for directory, files in self._known.items():
            if files and directory not in held:
                held.update((directory, *ancestors(directory)))
        return held

    def _miss_scope(self, scope: str) -> None:
        directory, _, name = scope.rpartition("/")
        if name not in self._known.get(directory, {}) and scope not in self._held_directories:
            self.absent.append(scope)

    def _find_missing_in(self, known: Mapping[str, KnownFile], found: set[str]) -> None:
        """Add the known files of a visited directory that are not there."""
        for name, version in known.items():
            if name not in found:
                self._miss_if_covered(version)

    def _find_missing(self) -> None:
        """Add the known files of directories that the walk never entered."""
        for directory, files in self._known.items():
            if directory in self._visited or self._is_unseen(directory):
                continue
            for version in files.values():
                if version.path not in self._found_alone:
                    self._miss_if_covered(version)
        if len(self.absent) == len(self._coverage.scopes):
            for scope in self.absent:
                self.skip(scope, _NO_SCOPE)

    def _miss_if_covered(self, version: KnownFile) -> None:
        path = version.path
        if (
            path.startswith(self._prefix)
            and not self._is_unseen(path)
            and self._coverage.covers(path[len(self._prefix) :])
        ):
            self.miss(version)

    def _is_unseen(self, path: str) -> bool:
        unseen = self._unseen
        return bool(unseen) and not unseen.isdisjoint(("", path, *ancestors(path)))


def reason_of(error: OSError) -> str:
    """Return why a file or directory can't be examined, as a part of a sentence."""
    return _EXHAUSTED.get(error.errno or 0) or error.strerror or str(error)
