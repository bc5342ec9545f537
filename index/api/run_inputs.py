"""What a run has read: its inputs."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cas.temporary import using_temporary_files
from index.api.inputs import (
    commit_inputs,
    fetch_reference,
    known_source,
    outside,
    planned_inputs,
)
from index.api.run_lifecycle import RunLifecycle
from index.db.queries import inputs, runs
from index.db.queries.listings import conditions_for
from index.db.queries.single import find_in_session
from index.db.tables import inputs as inputs_table
from index.decorators import awaitable
from index.domain.inputs import Input, NewInput, PathInput
from index.domain.listing import check_limit
from index.domain.marks import Marks
from index.domain.provenance import Provenance
from index.domain.scopes import current_provenance

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from index.domain.inputs import InputSource
    from index.domain.names import Label
    from index.domain.snapshots import FileVersion

__all__ = ["RunInputs"]


@dataclass(frozen=True, slots=True, repr=False)
class RunInputs(RunLifecycle):
    """What a run has read. Safe for use by several threads."""

    def use(
        self,
        *sources: InputSource,
        keep_as: str | os.PathLike[str] | None = None,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
    ) -> tuple[Input, ...]:
        """Note that a node, step or agent of the run has read something; return the inputs.

        What it makes later counts as made from them: see `Session.lineage`. So note them before the
        results are recorded, or with them: `track` takes inputs, too. An input that was noted with
        this provenance before is not noted again. There is no snapshot. The call creates the run if
        it does not exist.

        An input is a digest with what is known of its source. It keeps no bytes: when the run that
        they come from is deleted, they go, and the input stays. Give `keep_as` to keep a copy.

        Parameters
        ----------
        sources
            A path of this run, for its present version. A `FileVersion` of any run of the session.
            A digest of the session. Or something outside of the store, as a `Reference`, a URI, or
            an absolute path: it is read now, unless the reference has its digest.
        keep_as
            A path of this run under which to record the bytes of the one source, in the same
            commit.

        Raises
        ------
        UnknownFileError, UnknownRunError, UnknownDigestError
            When the session has no such path, version or bytes.
        ReferenceUnreachableError
            When something outside can't be read, or is no file.
        DigestMismatchError
            When `keep_as` is to keep other bytes than those of the reference's digest.
        """
        given = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        provenance = given.over(current_provenance())
        if keep_as is not None:
            return self._kept(sources, keep_as, provenance)
        if not sources:
            return ()
        new = [known_source(self._context, self.key, each, self.file) for each in sources]
        if self._known(new, provenance) != len(set(new)):
            commit_inputs(self._context, self.key, new, provenance)
        return self._noted(new, provenance)

    use_async = awaitable(use)

    def inputs(
        self,
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
        limit: int | None = None,
        after: Input | int | None = None,
    ) -> tuple[Input, ...]:
        """Return what the run has read, by those who match all arguments, in the order of notes.

        Parameters
        ----------
        limit
            The largest number of inputs.
        after
            The last input of the page before, or its position.
        """
        wanted = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        most = check_limit(limit, "inputs")
        conditions = conditions_for(provenance=wanted, of=inputs_table)
        with self._reading() as (connection, found):
            return tuple(
                inputs.list_inputs(
                    connection, found.id, self.key.session, self.id, *conditions,
                    after=after.position if isinstance(after, Input) else after or 0, limit=most,
                )
            )  # fmt: skip

    def find_sources(self, noted: Iterable[Input]) -> tuple[FileVersion | None, ...]:
        """Return the version that each input of this session was read from.

        An input that names no version has the first one with its bytes. None stands for what the
        session does not have: it lies outside of the store, or is deleted.
        """
        from index.db.queries.graph import Graph
        from index.reading.lineage import find_sources

        with self._context.database.reading() as connection:
            return find_sources(Graph(connection, self.key.session), [*noted])

    def check_input(self, source: InputSource, work_dir: str | os.PathLike[str]) -> None:
        """Raise what `track` of a work directory would raise for this input, as far as is known.

        A path may be one that the scan will find.
        """
        (planned,) = planned_inputs(self._context, self.key, [source])
        if isinstance(planned, PathInput) and not lexists(Path(work_dir, planned.path)):
            self.file(planned.path)

    def _known(self, new: list[NewInput], provenance: Provenance) -> int:
        """Return how many of some inputs the run has."""
        with self._context.database.reading() as connection:
            found = runs.find_run(connection, self.key.session, self.id)
            if found is None:
                return -1
            return len(inputs.find_known(connection, found.id, new, provenance))

    def _noted(self, new: list[NewInput], provenance: Provenance) -> tuple[Input, ...]:
        with self._reading() as (connection, found):
            noted = inputs.find_known(
                connection, found.id, new, provenance, self.key.session, self.id
            )
        by_source = {NewInput.of(each): each for each in noted}
        return tuple(by_source[each] for each in new)

    def _kept(
        self, sources: tuple[InputSource, ...], path: str | os.PathLike[str], provenance: Provenance
    ) -> tuple[Input, ...]:
        """Record the bytes of a source as a file, and the source as an input, in one commit."""
        from index.scan.content import NewFile

        if len(sources) != 1:
            raise ValueError("keep_as is the path of one source; call use for each")
        (source,) = sources
        reference = outside(source)
        with ExitStack() as stack:
            content: Any
            if reference is None:
                new = known_source(self._context, self.key, source, self.file)
                content = find_in_session(
                    self._context.database, self.key.session, digest=new.digest
                )
            else:
                content = stack.enter_context(_temporary_file())
                new = fetch_reference(reference, content)
                with using_temporary_files():
                    content.seek(0)  # writes the rest
            file = NewFile(path, content)
            self._named.put([file], provenance, marks=Marks(inputs=(new,)))
        return self._noted([new], provenance)


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    with using_temporary_files():
        file = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        yield file
    finally:
        with suppress(OSError):  # it tries again to write what did not fit
            file.close()
