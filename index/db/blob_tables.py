"""The tables of the index that say which bytes are in storage, and where; see `index.db.tables`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

from index.db.column_types import BigId, DigestColumn, PathColumn, UtcDateTime
from index.db.table_parts import OPAQUE_ID, id_, metadata, partial_index, required

__all__ = ["backups", "blob_chunks", "blobs", "chunk_lists", "packs", "released"]

packs: Final = Table(
    "cas_packs",
    metadata,
    id_(),
    required("name", DigestColumn),
    required("size", BigInteger),
    required("state", String(8)),
    required("created_at", UtcDateTime),
    Column(
        "verified_at",
        UtcDateTime,
        comment="When every byte of the object was last found to be right.",
    ),
    UniqueConstraint("name"),
    CheckConstraint("state IN ('pending', 'live', 'dead')", name="state"),
    CheckConstraint("length(name) = 32", name="name"),
    partial_index("ix_cas_packs_not_live", "state", where="state != 'live'"),
)

# Bytes in the store: small blobs, chunks, large blobs of chunks, chunk lists, journal records.
blobs: Final = Table(
    "cas_blobs",
    metadata,
    required("digest", DigestColumn),
    required("size", BigInteger),
    Column(
        "pack_id",
        BigId,
        ForeignKey("cas_packs.id"),
        comment="Null for a large blob: its chunks have packs.",
    ),
    Column("pack_offset", BigInteger),
    Column("stored_size", BigInteger),
    Column("codec", Integer),
    Column("frame_start", Integer, comment="Where it begins in a decoded shared frame; else 0."),
    Column("frame_size", Integer, comment="Decoded bytes of that shared frame; else 0."),
    required("created_at", UtcDateTime),
    Column("touched_at", UtcDateTime, comment="Last reuse by a later write."),
    Column("condemned_at", UtcDateTime),
    Column("verified_at", UtcDateTime),
    Column("damaged_at", UtcDateTime, comment="When its bytes were found missing or wrong."),
    PrimaryKeyConstraint("digest"),
    CheckConstraint("length(digest) = 32", name="digest"),
    CheckConstraint("size >= 0", name="size"),
    CheckConstraint(
        "(pack_id IS NULL) = (pack_offset IS NULL)"
        " AND (pack_id IS NULL) = (stored_size IS NULL)"
        " AND (pack_id IS NULL) = (codec IS NULL)"
        " AND (pack_id IS NULL) = (frame_start IS NULL)"
        " AND (pack_id IS NULL) = (frame_size IS NULL)",
        name="location",
    ),
    Index(None, "pack_id"),
    partial_index("ix_cas_blobs_condemned", "condemned_at", where="condemned_at IS NOT NULL"),
    partial_index("ix_cas_blobs_damaged", "damaged_at", where="damaged_at IS NOT NULL"),
    sqlite_with_rowid=False,
)

# One piece of a large blob.
blob_chunks: Final = Table(
    "cas_blob_chunks",
    metadata,
    required("blob", DigestColumn, ForeignKey("cas_blobs.digest", ondelete="CASCADE")),
    Column("position", Integer, autoincrement=False, nullable=False),
    required("chunk", DigestColumn, ForeignKey("cas_blobs.digest")),
    PrimaryKeyConstraint("blob", "position"),
    CheckConstraint("position >= 0", name="position"),
    Index(None, "chunk"),
    sqlite_with_rowid=False,
)

# The blob that holds the chunk list of a large blob, so that the list outlives the index.
chunk_lists: Final = Table(
    "cas_chunk_lists",
    metadata,
    required("blob", DigestColumn, ForeignKey("cas_blobs.digest", ondelete="CASCADE")),
    required("list", DigestColumn, ForeignKey("cas_blobs.digest")),
    PrimaryKeyConstraint("blob"),
    Index(None, "list"),
    sqlite_with_rowid=False,
)

# The last owner of a blob that nothing refers to any more, because runs were deleted. Only reports
# of garbage collection show it, to the owner of the store. The row is deleted with the blob. A
# journal record of a run has no path.
released: Final = Table(
    "cas_released",
    metadata,
    required("digest", DigestColumn, ForeignKey("cas_blobs.digest", ondelete="CASCADE")),
    required("session", OPAQUE_ID),
    required("run", OPAQUE_ID),
    Column("path", PathColumn),
    Column("agent", OPAQUE_ID),
    PrimaryKeyConstraint("digest"),
    sqlite_with_rowid=False,
)

# Backups of the index in storage.
backups: Final = Table(
    "cas_backups",
    metadata,
    id_(),
    required("digest", DigestColumn, ForeignKey("cas_blobs.digest")),
    required("record", DigestColumn, ForeignKey("cas_blobs.digest")),
    required("created_at", UtcDateTime),
    Index(None, "digest"),
    Index(None, "record"),
)
