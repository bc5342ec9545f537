"""Continue the chain of journal records of a run, or begin it with the whole history of the run."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cas.digest import Digest
from index.commit.write import CommitConflict, record_blobs
from index.db.queries import inputs, journal, lineage, names, run_tags, runs, tags, transfer
from index.db.tables import DESCRIPTION_COLUMNS, VERSION_COLUMNS
from index.errors import IndexInterruptedError, UnsettledScanError
from index.journal.encoding import encode_record
from index.journal.entries import HistoryEntry, InputsEntry, VersionsEntry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.catalog import WrittenBatch
    from cas.store import BlobStore
    from index.context import StoreContext
    from index.db.queries.runs import FoundRun
    from index.db.queries.transfer import VersionRow
    from index.domain.names import RunKey
    from index.journal.entries import Entry

__all__ = ["complete_chain", "find_chained", "iter_history", "store_entry", "write_history"]

_ATTEMPTS: Final = 3
"""Attempts to begin a chain if others keep committing to the run. They continue the chain."""


def find_chained(context: StoreContext, key: RunKey) -> FoundRun:
    """Return a run as it is now, with a complete chain of records.

    Raises
    ------
    UnknownRunError
        When it does not exist.
    UnsettledScanError
        When changes by others keep breaking the chain.
    """
    for _ in range(_ATTEMPTS):
        with context.database.reading() as connection:
            found = runs.find_run(connection, key.session, key.run)
            if found is None:
                raise names.unknown_run(connection, key.session, key.run)
        if found.newest_record is not None:
            return found
        write_history(context, key)
    raise UnsettledScanError(key.run)


def store_entry(blobs: BlobStore, entry: Entry) -> tuple[WrittenBatch, Digest]:
    """Make a record durable in its own small pack; return its batch and digest."""
    with blobs.batch() as batch:
        digest = batch.add_record(encode_record(entry))
        return batch.finish(), digest


_VERSIONS: Final = 20_000
"""File versions in one record: some 10 MB of JSON."""

_READ_ATTEMPTS: Final = 20
"""Attempts to read the run if others commit to it meanwhile."""

COLUMNS: Final = (*VERSION_COLUMNS, "origin")
"""Columns of each version. The origin is a run, a path as stored and a version number."""


def write_history(context: StoreContext, key: RunKey) -> None:
    """Begin a new chain of records for a run, with its whole history from the index.

    On return the chain is durable and committed. It does nothing if the run does not exist, or if
    others keep committing to it; they leave their own records.
    """
    for _ in range(_READ_ATTEMPTS):
        if _write(context, key):
            return


def complete_chain(context: StoreContext, key: RunKey) -> None:
    """Begin a chain as `write_history` does, if the run lacks one.

    Who recorded it without one may have died before the next step.
    """
    found = context.database.read(lambda each: runs.find_run(each, key.session, key.run))
    if found is not None and found.newest_record is None:
        write_history(context, key)


def _write(context: StoreContext, key: RunKey) -> bool:
    database, now = context.database, context.clock()
    with context.blobs.batch() as batch:
        with database.reading() as connection:
            found = runs.find_run(connection, key.session, key.run)
            row = transfer.find_row(connection, key.session, key.run)
            if found is None or row is None:
                return True
            digests = [batch.add_record(data) for data in _describe(connection, key, row, now)]
        written = batch.finish()

    def commit(connection: Connection) -> bool:
        if not runs.lead_chain(connection, found, digests[-1]):
            return False
        record_blobs(connection, written, (), now)
        journal.remove(connection, found.id)
        journal.append(connection, found.id, 0, digests)
        return True

    try:
        return database.write(commit)
    except (IndexInterruptedError, CommitConflict):
        return False  # it may have succeeded: the next attempt reads the run


def iter_history(context: StoreContext, key: RunKey) -> Iterator[bytes]:
    """Yield records with the whole history of a run, from one transaction; the last names the rest.

    Raises UnknownRunError if there is no such run.
    """
    with context.database.reading() as connection:
        row = transfer.find_row(connection, key.session, key.run)
        if row is None:
            raise names.unknown_run(connection, key.session, key.run)
        yield from _describe(connection, key, row, context.clock())


def _describe(
    connection: Connection, key: RunKey, row: transfer.RunColumns, now: datetime
) -> Iterator[bytes]:
    digests: list[Digest] = []
    versions = transfer.iter_versions(connection, row.id)
    count = 0
    while group := list(islice(versions, _VERSIONS)):
        count += len(group)
        rows = list(_rows(connection, group))
        part = VersionsEntry(created_at=now, columns=COLUMNS, rows=rows)
        data = encode_record(part)
        digests.append(Digest.of(data))
        yield data
    for page in inputs.iter_rows(connection, row.id):
        plain = [[_plain(value) for value in each] for each in page]
        listed = InputsEntry(created_at=now, columns=inputs.COLUMNS, rows=plain)
        data = encode_record(listed)
        digests.append(Digest.of(data))
        yield data
    entry = HistoryEntry(
        created_at=now,
        session=key.session,
        run=key.run,
        previous=None,
        revision=row.revision,
        session_created_at=row.session_created_at,
        run_created_at=row.created_at,
        forked_from=row.forked_from,
        forked_snapshot=row.forked_snapshot,
        work_dir=row.work_dir,
        description={name: _plain(getattr(row, name)) for name in DESCRIPTION_COLUMNS},
        tags=[_plain_row(each) for each in tags.list_rows(connection, row.id)],
        run_tags=[_plain_row(each) for each in run_tags.list_rows(connection, row.id)],
        snapshots=[_snapshot(each) for each in transfer.list_snapshots(connection, row.id)],
        versions=count,
        parts=tuple(digests),
    )
    yield encode_record(entry)


def _rows(connection: Connection, group: list[VersionRow]) -> Iterator[tuple[Any, ...]]:
    columns = dict(zip(VERSION_COLUMNS, zip(*group, strict=True), strict=False))
    as_text = {value: _plain(value) for value in {*columns["digest"], *columns["created_at"]}}
    for name in ("digest", "created_at"):
        columns[name] = tuple(map(as_text.__getitem__, columns[name]))
    ids = {row.origin_id for row in group if row.origin_id is not None}
    found = lineage.find_origins(connection, ids) if ids else {}
    origins = {id_: [run, origin.path, origin.version] for id_, (run, origin) in found.items()}
    return zip(*columns.values(), (origins.get(row.origin_id) for row in group), strict=True)


def _snapshot(row: tuple[Any, ...]) -> Mapping[str, Any]:
    return _plain_row(dict(zip(transfer.SNAPSHOT_COLUMNS, row, strict=True)))


def _plain_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:  # noqa: ANN401 - a column's value
    if isinstance(value, Digest):
        return str(value)
    return value.isoformat() if hasattr(value, "isoformat") else value
