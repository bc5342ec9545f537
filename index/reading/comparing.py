"""Comparison of the contents of two file versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.domain.content_diff import MAX_TABLE, MAX_TEXT, ContentDiff, compare_contents
from index.domain.table_diff import is_table
from index.reading.streams import read_version

if TYPE_CHECKING:
    from cas.store import BlobStore
    from index.domain.snapshots import FileVersion

__all__ = ["compare_versions"]


def compare_versions(
    blobs: BlobStore, before: FileVersion | None, after: FileVersion | None
) -> ContentDiff:
    """Return how two versions differ. One may be None: the file was added or removed.

    Bytes are read only if both versions are small enough to be compared. Raises as `open_version`.
    """
    versions = [version for version in (before, after) if version is not None]
    if not versions:
        raise ValueError("compare two versions, or one with None")
    if any(version.digest is None for version in versions):
        return ContentDiff(before, after, "unknown")
    if len({version.is_link for version in versions}) > 1:
        return ContentDiff(before, after, "link")
    are_tables = len(versions) > 1 and all(is_table(version.path) for version in versions)
    if max(version.size for version in versions) > (MAX_TABLE if are_tables else MAX_TEXT):
        return ContentDiff(before, after, "large")
    old, new = (b"" if each is None else read_version(blobs, each) for each in (before, after))
    return compare_contents(before, after, old, new)
