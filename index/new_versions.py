"""Versions that a commit inserted, as the next scan and the API see them, without reading them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from index.records import FileVersion
from index.state import KnownFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from index.requests import CommitRequest
    from index.state import Observed

__all__ = ["NewVersions"]


@dataclass(frozen=True, slots=True)
class NewVersions:
    """Versions that a commit inserted, in the form it had them in."""

    request: CommitRequest
    ids: Sequence[int]
    rows: Sequence[tuple[str, int, Observed, str, str, int]]
    number: int
    now: datetime

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
