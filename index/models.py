"""The tables, and nothing but the tables.

All names begin with ``cas_``, so that they can live in an application's own database. Ids that the
caller gives (session, run, node, step, event) are opaque strings, never foreign keys into tables
that are not ours.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cas.digest import Digest
from index.columns import BigId, DigestColumn, PathColumn, UtcDateTime

__all__ = [
    "Base",
    "BlobChunkRow",
    "BlobRow",
    "FileRow",
    "PackRow",
    "RunRow",
    "SessionRow",
    "SnapshotRow",
    "StoreRow",
]

Id = Annotated[int, mapped_column(BigId, primary_key=True, autoincrement=True)]
OpaqueId = Annotated[str, mapped_column(String(255))]
Timestamp = Annotated[datetime, mapped_column(UtcDateTime)]
OptionalTimestamp = Annotated[datetime | None, mapped_column(UtcDateTime)]
Bytes = Annotated[int, mapped_column(BigInteger)]


class Base(DeclarativeBase):
    """Names every constraint, so that a migration can refer to it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class StoreRow(Base):
    """One row: which storage this index belongs to."""

    __tablename__ = "cas_store"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    store_id: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[Timestamp]


class SessionRow(Base):
    """A tenant scope."""

    __tablename__ = "cas_sessions"
    __table_args__ = (UniqueConstraint("name"),)

    id: Mapped[Id]
    name: Mapped[OpaqueId]
    created_at: Mapped[Timestamp]


class RunRow(Base):
    """One execution in a session."""

    __tablename__ = "cas_runs"
    __table_args__ = (
        UniqueConstraint("session_id", "name"),
        Index(None, "parent_run_id"),
        CheckConstraint("revision >= 0", name="revision"),
    )

    id: Mapped[Id]
    session_id: Mapped[int] = mapped_column(
        BigId, ForeignKey("cas_sessions.id", ondelete="CASCADE")
    )
    name: Mapped[OpaqueId]
    parent_run_id: Mapped[int | None] = mapped_column(
        BigId, ForeignKey("cas_runs.id", ondelete="SET NULL")
    )
    parent_snapshot: Mapped[int | None]
    revision: Mapped[int] = mapped_column(
        comment="Goes up by one with every commit that changes the run; scans compare and swap it."
    )
    created_at: Mapped[Timestamp]


class ProvenanceColumns:
    """Who made it, as told by the caller."""

    workflow_phase: Mapped[OpaqueId | None]
    generating_agent: Mapped[OpaqueId | None]
    generating_code_hash: Mapped[OpaqueId | None]
    node_id: Mapped[OpaqueId | None]
    step_id: Mapped[OpaqueId | None]
    event_id: Mapped[OpaqueId | None]


class SnapshotRow(ProvenanceColumns, Base):
    """One recorded scan of a run."""

    __tablename__ = "cas_snapshots"
    __table_args__ = (
        UniqueConstraint("run_id", "number"),
        CheckConstraint("number >= 1", "number"),
    )

    id: Mapped[Id]
    run_id: Mapped[int] = mapped_column(BigId, ForeignKey("cas_runs.id", ondelete="CASCADE"))
    number: Mapped[int]
    scope: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    unchanged: Mapped[int]
    skipped: Mapped[Any | None] = mapped_column(
        JSON(none_as_null=True), comment="List of [path, reason]; null if nothing was skipped."
    )
    bytes_read: Mapped[Bytes]
    bytes_stored: Mapped[Bytes]
    created_at: Mapped[Timestamp]


class PackRow(Base):
    """An object that holds blobs."""

    __tablename__ = "cas_packs"
    __table_args__ = (
        UniqueConstraint("name"),
        CheckConstraint("state IN ('pending', 'live', 'dead')", name="state"),
        CheckConstraint("length(name) = 32", name="name"),
        Index(
            "ix_cas_packs_not_live",
            "state",
            sqlite_where=text("state != 'live'"),
            postgresql_where=text("state != 'live'"),
        ),
    )

    id: Mapped[Id]
    name: Mapped[Digest] = mapped_column(DigestColumn)
    size: Mapped[Bytes]
    state: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[Timestamp]


class BlobRow(Base):
    """Bytes that the store holds: small blobs, chunks, and large blobs made of chunks."""

    __tablename__ = "cas_blobs"
    __table_args__ = (
        CheckConstraint("length(digest) = 32", name="digest"),
        CheckConstraint("size >= 0", name="size"),
        CheckConstraint(
            "(pack_id IS NULL) = (pack_offset IS NULL)"
            " AND (pack_id IS NULL) = (stored_size IS NULL)"
            " AND (pack_id IS NULL) = (codec IS NULL)",
            name="location",
        ),
        Index(None, "pack_id"),
        Index(
            "ix_cas_blobs_condemned",
            "condemned_at",
            sqlite_where=text("condemned_at IS NOT NULL"),
            postgresql_where=text("condemned_at IS NOT NULL"),
        ),
        {"sqlite_with_rowid": False},
    )

    digest: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    size: Mapped[Bytes]
    pack_id: Mapped[int | None] = mapped_column(
        BigId, ForeignKey("cas_packs.id"), comment="Null for a large blob: its chunks have packs."
    )
    pack_offset: Mapped[int | None] = mapped_column(BigInteger)
    stored_size: Mapped[int | None] = mapped_column(BigInteger)
    codec: Mapped[int | None]
    created_at: Mapped[Timestamp]
    touched_at: Mapped[OptionalTimestamp] = mapped_column(comment="Last reuse by a later write.")
    condemned_at: Mapped[OptionalTimestamp]
    verified_at: Mapped[OptionalTimestamp]


class BlobChunkRow(Base):
    """One piece of a large blob."""

    __tablename__ = "cas_blob_chunks"
    __table_args__ = (
        CheckConstraint("position >= 0", name="position"),
        Index(None, "chunk"),
        {"sqlite_with_rowid": False},
    )

    blob: Mapped[Digest] = mapped_column(
        DigestColumn, ForeignKey("cas_blobs.digest", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    chunk: Mapped[Digest] = mapped_column(DigestColumn, ForeignKey("cas_blobs.digest"))


class FileRow(ProvenanceColumns, Base):
    """A file version: this path held this digest from snapshot a until snapshot b."""

    __tablename__ = "cas_files"
    __table_args__ = (
        UniqueConstraint("run_id", "path", "version"),
        Index(
            "uq_cas_files_current",
            "run_id",
            "path",
            unique=True,
            sqlite_where=text("end_snapshot IS NULL"),
            postgresql_where=text("end_snapshot IS NULL"),
        ),
        Index(None, "digest"),
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("size >= 0", name="size"),
        CheckConstraint("end_snapshot > first_snapshot", name="snapshots"),
        CheckConstraint("priority IN ('primary', 'secondary', 'internal')", name="priority"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[Id]
    run_id: Mapped[int] = mapped_column(BigId, ForeignKey("cas_runs.id", ondelete="CASCADE"))
    path: Mapped[str] = mapped_column(PathColumn)
    version: Mapped[int]
    digest: Mapped[Digest] = mapped_column(DigestColumn, ForeignKey("cas_blobs.digest"))
    size: Mapped[Bytes]
    mode: Mapped[int] = mapped_column(comment="st_mode: type and permission bits.")
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    file_type: Mapped[str] = mapped_column(String(32))
    priority: Mapped[str] = mapped_column(String(16))
    is_final_output: Mapped[bool]
    created_at: Mapped[Timestamp]
    first_snapshot: Mapped[int]
    end_snapshot: Mapped[int | None] = mapped_column(comment="Null while current.")
    appeared_in: Mapped[int] = mapped_column(comment="Snapshot of the path's first version.")
    meta: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    signature: Mapped[bytes | None] = mapped_column(
        LargeBinary(40), comment="Packed stat signature; null if the content must be hashed again."
    )
    seen_on_disk: Mapped[bool] = mapped_column(
        comment="A scan has seen it in a work directory; only then does absence mean removal."
    )
