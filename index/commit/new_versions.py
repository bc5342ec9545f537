"""Versions that a commit inserted, as the next scan and the API see them, without reading them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from index.domain.run_state import KnownFile
from index.domain.snapshots import FileVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from index.commit.plan import CommitRequest, FileKind
    from index.db.queries.files import NewRow
    from index.domain.changes import Change

__all__ = ["NewVersions", "new_rows"]


def new_rows(
    new: Sequence[Change], kinds: Sequence[FileKind], befores: Sequence[tuple[int, int]]
) -> Iterator[NewRow]:
    """Yield what is inserted for changes that begin a version.

    One by one, since a run has tens of thousands.

    Parameters
    ----------
    befores
        For each path its newest version number so far, 0 for none, and the snapshot that it
        appeared in.
    """
    for (path, _, seen), (file_type, priority), (newest, appeared) in zip(
        new, kinds, befores, strict=True
    ):
        assert seen is not None  # noqa: S101 - what was removed begins no version
        yield path, newest + 1, seen, file_type, priority, appeared


@dataclass(frozen=True, slots=True)
class NewVersions:
    """Versions that a commit inserted, in the form it had them in."""

    request: CommitRequest
    ids: Sequence[int]
    new: Sequence[Change]
    kinds: Sequence[FileKind]
    befores: Sequence[tuple[int, int]]
    number: int
    now: datetime

    @property
    def rows(self) -> Iterator[NewRow]:
        """What was inserted, in the order of `ids`."""
        return new_rows(self.new, self.kinds, self.befores)

    @property
    def known(self) -> Iterator[KnownFile]:
        """The versions as the next scan compares with them."""
        told = self.request.provenance
        for file_id, (path, version, seen, _type, _priority, appeared) in zip(
            self.ids, self.rows, strict=True
        ):
            yield KnownFile(
                seen.signature if seen.trusted else None,
                file_id,
                path,
                version,
                seen.digest,
                seen.mode,
                seen.mtime_ns,
                appeared,
                seen.seen_on_disk,
                told.node_id,
                told.phase,
                told.agent,
                told.step_id,
                told.event_id,
                told.code_hash,
            )

    def versions(self, wanted: Callable[[str], bool]) -> Iterator[FileVersion]:
        """Yield what the API returns, for the paths that are wanted."""
        request, told = self.request, self.request.provenance
        for file_id, (path, version, seen, file_type, priority, _appeared) in zip(
            self.ids, self.rows, strict=True
        ):
            if wanted(path):
                yield FileVersion(
                    id=file_id,
                    session=request.key.session,
                    run=request.key.run,
                    path=path,
                    version=version,
                    digest=seen.digest,
                    size=seen.size,
                    mode=seen.mode,
                    mtime_ns=seen.mtime_ns,
                    file_type=file_type,
                    priority=priority,
                    is_final_output=bool(request.annotations.is_final_output),
                    phase=told.phase,
                    agent=told.agent,
                    code_hash=told.code_hash,
                    node_id=told.node_id,
                    step_id=told.step_id,
                    event_id=told.event_id,
                    created_at=self.now,
                    first_snapshot=self.number,
                    end_snapshot=None,
                    meta=request.annotations.meta,
                )
