"""New versions of a commit, for the next scan and for the API, without reading them back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from index.domain.run_state import KnownFile
from index.domain.snapshots import FileVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from index.commit.plan import CommitRequest
    from index.db.queries.current import Before
    from index.domain.annotations import FileKind
    from index.domain.changes import NewRow
    from index.domain.run_state import ObservedFiles

__all__ = ["NewVersions", "new_rows"]


def new_rows(
    new: ObservedFiles, kinds: Sequence[FileKind], befores: Mapping[str, Before], number: int
) -> Iterator[NewRow]:
    """Yield the rows of new versions, which begin at the snapshot `number`.

    A generator, because a run has tens of thousands.
    """
    for seen, kind in zip(new, kinds, strict=True):
        path = seen[0]
        before = befores.get(path)
        if before is None:
            yield path, 1, seen, kind, number
        else:
            yield path, before.version + 1, seen, kind, before.appeared_in


@dataclass(frozen=True, slots=True)
class NewVersions:
    """The versions that a commit inserted, from its own data."""

    request: CommitRequest
    ids: Sequence[int]
    new: ObservedFiles
    kinds: Sequence[FileKind]
    befores: Mapping[str, Before]
    number: int
    now: datetime

    @property
    def rows(self) -> Iterator[NewRow]:
        """Yield the inserted rows, in the order of `ids`."""
        return new_rows(self.new, self.kinds, self.befores, self.number)

    @property
    def known(self) -> Iterator[KnownFile]:
        """Yield the versions as the next scan compares with them."""
        provenance = self.request.provenance
        modes: dict[int, int] = {}  # each once: most files have one of a few
        # Unpacking is faster: reading each field of a named tuple takes 50% longer.
        for file_id, (
            path,
            version,
            (_, digest, _, mode, mtime_ns, signature, trusted, seen_by, _),
            (_, _, is_final, _),
            appeared,
        ) in zip(self.ids, self.rows, strict=True):
            yield KnownFile(
                signature if trusted else None,
                file_id,
                path,
                version,
                digest,
                modes.setdefault(mode, mode),
                mtime_ns,
                appeared,
                seen_by,
                is_final,
                provenance,
            )

    def versions(self, wanted: Callable[[str], bool]) -> Iterator[FileVersion]:
        """Yield the versions as the API returns them, for the wanted paths."""
        request = self.request
        provenance = asdict(request.provenance)
        for file_id, (path, version, seen, kind, _appeared) in zip(
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
                    created_at=self.now,
                    first_snapshot=self.number,
                    end_snapshot=None,
                    **kind._asdict(),
                    **provenance,
                )
