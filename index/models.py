"""ORM classes for the tables, for applications that query them with SQLAlchemy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import DeclarativeBase

from index.db import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Mapped

    from cas.digest import Digest

__all__ = [
    "BackupRow",
    "Base",
    "BlobChunkRow",
    "BlobRow",
    "ChunkListRow",
    "FileRow",
    "HoldRow",
    "InputRow",
    "PackRow",
    "RecordRow",
    "ReleasedRow",
    "RunRow",
    "RunTagRow",
    "SessionRow",
    "SnapshotRow",
    "StoreRow",
    "TagRow",
]


class Base(DeclarativeBase):
    """The base of all classes here; each is mapped to a table of `index.db.tables`."""

    metadata = tables.metadata


class StoreRow(Base):
    """The storage that this index belongs to; the table has one row."""

    __table__ = tables.store

    if TYPE_CHECKING:
        id: Mapped[int]
        store_id: Mapped[str]
        index_id: Mapped[str]
        created_at: Mapped[datetime]


class SessionRow(Base):
    """A session: a tenant."""

    __table__ = tables.sessions

    if TYPE_CHECKING:
        id: Mapped[int]
        name: Mapped[str]
        created_at: Mapped[datetime]
        quota_bytes: Mapped[int | None]


class HoldRow(Base):
    """A hold of a session or run: nothing of it is deleted until the release."""

    __table__ = tables.holds

    if TYPE_CHECKING:
        id: Mapped[int]
        session_id: Mapped[int]
        run_id: Mapped[int | None]
        reason: Mapped[str]
        agent: Mapped[str | None]
        created_at: Mapped[datetime]
        released_at: Mapped[datetime | None]
        release_reason: Mapped[str | None]
        released_by: Mapped[str | None]


class RunRow(Base):
    """A run: one execution of a workflow in a session."""

    __table__ = tables.runs

    if TYPE_CHECKING:
        id: Mapped[int]
        session_id: Mapped[int]
        name: Mapped[str]
        forked_from_id: Mapped[int | None]
        forked_snapshot: Mapped[int | None]
        revision: Mapped[int]
        newest_record: Mapped[Digest | None]
        work_dir: Mapped[str | None]
        status: Mapped[str | None]
        status_reason: Mapped[str | None]
        started_at: Mapped[datetime | None]
        ended_at: Mapped[datetime | None]
        parent: Mapped[str | None]
        notes: Mapped[Any]
        created_at: Mapped[datetime]


class ProvenanceColumns:
    """The provenance that the caller gave."""

    if TYPE_CHECKING:
        workflow_phase: Mapped[str | None]
        generating_agent: Mapped[str | None]
        generating_code_hash: Mapped[str | None]
        node_id: Mapped[str | None]
        step_id: Mapped[str | None]
        event_id: Mapped[str | None]


class SnapshotRow(ProvenanceColumns, Base):
    """One snapshot of a run."""

    __table__ = tables.snapshots

    if TYPE_CHECKING:
        id: Mapped[int]
        run_id: Mapped[int]
        number: Mapped[int]
        scope: Mapped[list[str] | None]
        unchanged: Mapped[int]
        skipped: Mapped[list[list[str]] | None]
        torn: Mapped[list[str] | None]
        notes: Mapped[Any | None]
        bytes_read: Mapped[int]
        bytes_stored: Mapped[int]
        created_at: Mapped[datetime]


class TagRow(Base):
    """A move of a tag: what it names from then on."""

    __table__ = tables.tags

    if TYPE_CHECKING:
        id: Mapped[int]
        run_id: Mapped[int]
        position: Mapped[int]
        name: Mapped[str]
        snapshot: Mapped[int | None]
        path: Mapped[str | None]
        version: Mapped[int | None]
        agent: Mapped[str | None]
        created_at: Mapped[datetime]


class InputRow(ProvenanceColumns, Base):
    """Bytes that a run has read."""

    __table__ = tables.inputs

    if TYPE_CHECKING:
        id: Mapped[int]
        run_id: Mapped[int]
        position: Mapped[int]
        digest: Mapped[Digest]
        size: Mapped[int | None]
        source_run: Mapped[str | None]
        path: Mapped[str | None]
        version: Mapped[int | None]
        uri: Mapped[str | None]
        snapshot: Mapped[int]
        is_copy: Mapped[bool]


class RunTagRow(Base):
    """A move of the tag of a run: which run of the session it names from then on."""

    __table__ = tables.run_tags

    if TYPE_CHECKING:
        id: Mapped[int]
        session_id: Mapped[int]
        name: Mapped[str]
        position: Mapped[int]
        run_id: Mapped[int | None]
        is_removed: Mapped[bool]
        agent: Mapped[str | None]
        created_at: Mapped[datetime]


class PackRow(Base):
    """An object that holds blobs."""

    __table__ = tables.packs

    if TYPE_CHECKING:
        id: Mapped[int]
        name: Mapped[Digest]
        size: Mapped[int]
        state: Mapped[str]
        created_at: Mapped[datetime]
        verified_at: Mapped[datetime | None]


class BlobRow(Base):
    """Bytes that the store holds: blobs, chunks, large blobs, chunk lists and journal records."""

    __table__ = tables.blobs

    if TYPE_CHECKING:
        digest: Mapped[Digest]
        size: Mapped[int]
        pack_id: Mapped[int | None]
        pack_offset: Mapped[int | None]
        stored_size: Mapped[int | None]
        codec: Mapped[int | None]
        frame_start: Mapped[int | None]
        frame_size: Mapped[int | None]
        created_at: Mapped[datetime]
        touched_at: Mapped[datetime | None]
        condemned_at: Mapped[datetime | None]
        verified_at: Mapped[datetime | None]
        damaged_at: Mapped[datetime | None]


class BlobChunkRow(Base):
    """One chunk of a large blob."""

    __table__ = tables.blob_chunks

    if TYPE_CHECKING:
        blob: Mapped[Digest]
        position: Mapped[int]
        chunk: Mapped[Digest]


class ChunkListRow(Base):
    """The blob that holds the chunk list of a large blob."""

    __table__ = tables.chunk_lists

    if TYPE_CHECKING:
        blob: Mapped[Digest]
        list: Mapped[Digest]


class RecordRow(Base):
    """A journal record: what a commit left in storage."""

    __table__ = tables.records

    if TYPE_CHECKING:
        id: Mapped[int]
        run_id: Mapped[int | None]
        position: Mapped[int]
        digest: Mapped[Digest]


class ReleasedRow(Base):
    """The last owner of a blob that nothing refers to any more."""

    __table__ = tables.released

    if TYPE_CHECKING:
        digest: Mapped[Digest]
        session: Mapped[str]
        run: Mapped[str]
        path: Mapped[str | None]
        agent: Mapped[str | None]


class BackupRow(Base):
    """A backup of the index in storage."""

    __table__ = tables.backups

    if TYPE_CHECKING:
        id: Mapped[int]
        digest: Mapped[Digest]
        record: Mapped[Digest]
        created_at: Mapped[datetime]


class FileRow(ProvenanceColumns, Base):
    """A file version: a path of a run that held a digest from one snapshot until another."""

    __table__ = tables.files

    if TYPE_CHECKING:
        id: Mapped[int]
        run_id: Mapped[int]
        path: Mapped[str]
        version: Mapped[int]
        digest: Mapped[Digest | None]
        size: Mapped[int]
        mode: Mapped[int]
        mtime_ns: Mapped[int]
        file_type: Mapped[str]
        priority: Mapped[str]
        is_final_output: Mapped[bool]
        created_at: Mapped[datetime]
        first_snapshot: Mapped[int]
        end_snapshot: Mapped[int | None]
        appeared_in: Mapped[int]
        meta: Mapped[Any | None]
        dropped: Mapped[Any | None]
        signature: Mapped[bytes | None]
        seen_by: Mapped[int]
        origin_id: Mapped[int | None]


class CountsRow(ProvenanceColumns, Base):
    """The number of file versions of a run with the same labels."""

    __table__ = tables.counts

    if TYPE_CHECKING:
        run_id: Mapped[int]
        labels: Mapped[Digest]
        file_type: Mapped[str]
        priority: Mapped[str]
        is_final_output: Mapped[bool]
        files: Mapped[int]
        bytes: Mapped[int]
        versions: Mapped[int]
        version_bytes: Mapped[int]
        distinct_bytes: Mapped[int]
