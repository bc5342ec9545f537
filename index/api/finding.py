"""Search of a session, or of all sessions of a store."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from index.domain.listing import check_filters, check_limit, name_pattern
from index.domain.names import check_prefix, storable
from index.domain.provenance import Provenance

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from datetime import datetime

    from cas.digest import Digest
    from index.context import StoreContext
    from index.domain.names import Label
    from index.domain.snapshots import FileVersion

__all__ = ["Finding"]


class Finding:
    """The part of `Session` and `ArtifactStore` that searches their runs."""

    __slots__ = ()

    _context: StoreContext

    @property
    @abstractmethod
    def _searched(self) -> str | None:
        """The session that is searched; None for all."""

    def find(
        self,
        pattern: str | None = None,
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
        file_type: str | None = None,
        priority: str | None = None,
        is_final_output: bool | None = None,
        prefix: str | os.PathLike[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        larger: int | None = None,
        smaller: int | None = None,
        digest: Digest | str | None = None,
        run: str | None = None,
        all_versions: bool = False,
        limit: int | None = None,
    ) -> Iterator[FileVersion]:
        """Yield the files that match all arguments: by run, the oldest first, then by path.

        It looks only at runs that hold such labels or digests, which the index knows at once. A
        name, a time or a size takes a pass over these runs. It reads them in pages, each in a
        transaction of its own, with bounded memory: commits meanwhile may show or not. An argument
        that is wrong raises at once; an unknown session when the first file is asked for.

        Parameters
        ----------
        pattern
            Text that the name contains, or a pattern for it: ``"result"``, ``"*.csv"``. With a
            slash it is for the whole path: ``"data/raw"``, ``"data/**/*.csv"``. ``*``, ``?`` and
            ``[a-z]`` are as in `Run.files`. Case matters.
        prefix
            Plain text that the path begins with.
        since, until
            Only versions that were recorded at this time or later; before this time.
        larger, smaller
            Only files of more, or less, than so many bytes.
        digest
            A digest, also as text with at least its first seven digits.
        run
            The id of a run, or a pattern for ids: ``"run-*"``.
        all_versions
            Past versions, too, not only the current ones.
        limit
            The largest number of files.

        Raises
        ------
        UnknownSessionError
            When nothing was ever written to the session.
        """
        from index.reading.digests import check_prefix_of_digest
        from index.reading.search import Search

        check_filters(file_type, priority, is_final_output)
        for name, moment in (("since", since), ("until", until)):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{name} is a time with a time zone, not {moment!r}")
        search = Search(
            labels={
                "provenance": Provenance(phase, agent, node_id, step_id, event_id, code_hash),
                "file_type": file_type,
                "priority": priority,
                "is_final_output": is_final_output,
            },
            prefix="" if prefix is None else check_prefix(prefix),
            name=None if not pattern else name_pattern(pattern),
            since=since,
            until=until,
            larger=None if larger is None else storable(larger),
            smaller=None if smaller is None else storable(smaller),
            digest=None if digest is None else check_prefix_of_digest(digest),
            run=run,
            past=all_versions,
        )
        return search.iter_found(self._context.database, self._searched, check_limit(limit))
