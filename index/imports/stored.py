"""Import of what this library exported with its history: it comes back as it was.

The history and the contents become a small store of their own, which is rebuilt from storage alone,
checked byte by byte, and then synced into the session. So an import that is repeated adds what is
new, and a run that both sides have recorded into is refused.
"""

from __future__ import annotations

import re
import tarfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from cas import CasError
from cas.errors import BackendError
from cas.temporary import using_temporary_files
from index import ArtifactStore, ImportReport, SyncOutcome, rebuild_storage, recover
from index.errors import ArtifactIndexError, ImportSourceError, IndexUnavailableError
from index.imports.scratch import temporary_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from cas.digest import Digest
    from index import Progress, RecoveryReport, Run, Session, Snapshot, SyncedRun

__all__ = ["read_bundle", "read_records", "with_history"]

_MEMBER: Final = re.compile(r"cas\.json|packs/[0-9a-f]{2}/[0-9a-f]{64}\.pack", re.ASCII)
_PIECE: Final = 1 << 20
_RECORD: Final = 64 << 20
"""Bytes of a record at most; see docs/format.md."""


def read_bundle(
    session: Session,
    source: str | os.PathLike[str],
    *,
    run: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Import a run with its history from a bundle, as `export_bundle` has written it.

    Snapshots, versions, provenance, times, notes and tags come back as they were. Every byte is
    verified first. If the run is there already, the import adds what is new.

    Parameters
    ----------
    source
        The path of the file.
    run
        The id of the run; by default the one that it had.

    Raises
    ------
    ImportSourceError
        When it is no bundle, it is damaged, or the run holds something else. Nothing was recorded.
    """
    _check_id(session, run)
    with temporary_folder() as folder:
        _unpack(Path(source), folder)
        return _take_over(session, str(source), "bundle", folder, run, progress)


def with_history(
    session: Session,
    source: str,
    kind: str,
    run: str | None,
    progress: Callable[[Progress], None] | None,
    *,
    records: Iterable[bytes],
    contents: Mapping[str, Iterable[bytes]],
    check: Callable[[Run, Mapping[str, Digest]], None],
) -> ImportReport:
    """Import a run from the records of its history and all contents of its versions.

    Parameters
    ----------
    contents
        By a name.
    check
        Called with the run, before it is imported, and the digests of the contents by these names.
        It raises if they don't fit each other.
    """
    _check_id(session, run)
    with temporary_folder() as folder:
        digests = rebuild_storage(folder, records, contents.values())
        named = dict(zip(contents, digests, strict=True))
        return _take_over(
            session, source, kind, folder, run, progress, check=lambda found: check(found, named)
        )


def _check_id(session: Session, run: str | None) -> None:
    if run is not None:
        session.run(run)


def read_records(pieces: Iterable[bytes], source: str) -> Iterator[bytes]:
    """Yield the lines of a file of records."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > _RECORD:
            raise ImportSourceError(
                source, "its history has a line that is too long to be a record"
            )
    if rest:
        raise ImportSourceError(source, "its history is cut off: the last line has no end")


def _take_over(
    session: Session,
    source: str,
    kind: str,
    folder: Path,
    run: str | None,
    progress: Callable[[Progress], None] | None,
    *,
    check: Callable[[Run], None] = lambda _: None,
) -> ImportReport:
    """Copy the only run of a storage without an index into a session.

    `check` is called with the run before. Raises ImportSourceError if anything in it is missing or
    damaged, or it can't be copied.
    """
    with _explaining(source):
        rebuilt = recover(folder)
    if not rebuilt.is_whole or rebuilt.runs != 1:
        raise ImportSourceError(source, _what_lacks(rebuilt))
    with ArtifactStore.open(folder, create=False) as store:
        with _explaining(source):
            # What this store has already is not read from there: so it must be right, too. Else
            # anyone who knows a digest could get at bytes of other sessions.
            faults = store.verify(depth="bytes")
            if faults.counts:
                kinds = ", ".join(str(each) for each in faults.counts)
                raise ImportSourceError(source, f"it is damaged: {kinds}; get another copy of it")
            (summary,) = store.runs()
            found = store.session(summary.session).run(summary.run)
            check(found)
            sizes = [_size(each) for each in found.snapshots()]
        # An archive must not decide where a restore without a destination writes.
        made = session.copy_run(found, run_id=run, with_work_dir=False, progress=progress)
    (copied,) = made.runs
    if copied.reason is not None:
        raise ImportSourceError(source, _why_not(copied, copied.reason))
    size = sum(sizes[len(sizes) - copied.snapshots :])
    counts = (copied.snapshots, copied.versions, size)
    return ImportReport(copied.session, copied.run, kind, source, *counts, skipped=())


def _why_not(run: SyncedRun, reason: str) -> str:
    if run.outcome is not SyncOutcome.CONFLICT:
        return reason
    what = reason.partition(": ")[2].rpartition("; ")[0]  # the rest is about two stores
    return f"run {run.run!r} of this store has another history: {what}; import into another run"


def _size(snapshot: Snapshot) -> int:
    """Return the size of a snapshot's versions. Raises InvalidNameError for a label of one."""
    versions = (*snapshot.added, *snapshot.changed)
    {version.provenance for version in versions}
    return sum(version.size for version in versions)


@contextmanager
def _explaining(source: str) -> Iterator[None]:
    """Turn what values that no commit has written lead to into an error that names the source."""
    try:
        yield
    except (BackendError, IndexUnavailableError, ImportSourceError):
        raise
    except (CasError, ArtifactIndexError, LookupError, TypeError, ValueError) as error:
        raise ImportSourceError(source, f"its history can't be read: {error}") from error


def _what_lacks(report: RecoveryReport) -> str:
    if report.damaged_packs:
        return f"{report.damaged_packs[0].name} in it is damaged: {report.damaged_packs[0].reason}"
    if report.damaged_records:
        return f"its history is damaged: {report.damaged_records[0]}"
    if report.lost:
        lost = report.lost[0]
        return f"it lacks the bytes of version {lost.version} of {lost.path!r} ({lost.digest})"
    if report.gaps:
        return "a part of its history is missing"
    return f"it holds {report.runs} runs, and not one"


def _unpack(source: Path, folder: Path) -> None:
    """Write the files of a bundle into an empty directory."""
    if not source.is_file():
        raise ImportSourceError(str(source), "it is not a regular file; name the file of a bundle")
    try:
        with tarfile.open(source, "r:") as bundle:
            for member in bundle:
                if not (_MEMBER.fullmatch(member.name) and member.isreg()) or member.issparse():
                    reason = f"it is no bundle of this library: it has {member.name!r}"
                    raise ImportSourceError(str(source), reason)
                file = folder / member.name
                if file.exists():
                    raise ImportSourceError(str(source), f"it has {member.name!r} twice")
                content = bundle.extractfile(member)
                assert content is not None  # noqa: S101 - it is a regular file
                with using_temporary_files():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with file.open("xb") as opened:
                        opened.writelines(_pieces(source, content))
    except (tarfile.TarError, EOFError, ValueError) as error:
        why = "" if isinstance(error, ValueError) else f": {error}"  # of a header: Python's words
        reason = f"it is no bundle of this library, or damaged{why}"
        raise ImportSourceError(str(source), reason) from error
    except OSError as error:
        raise _unreadable(source, error) from error
    if not (folder / "cas.json").exists():
        raise ImportSourceError(str(source), "it is no bundle of this library: it has no cas.json")


def _pieces(source: Path, content: IO[bytes]) -> Iterator[bytes]:
    try:
        while piece := content.read(_PIECE):
            yield piece
    except OSError as error:
        raise _unreadable(source, error) from error


def _unreadable(source: Path, error: OSError) -> ImportSourceError:
    return ImportSourceError(str(source), f"it can't be read: {error.strerror or error}")
