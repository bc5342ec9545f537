"""The numbers of a store in the text format of OpenMetrics, which Prometheus reads.

All are gauges: garbage collection and deletion make each smaller. A time is in seconds since 1970,
and left out while there is none. (Source: OpenMetrics 1.0, "Text format"; a collector of
Prometheus's older format 0.0.4 reads the same text.)
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import cas

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["openmetrics"]

_GAUGES: Final = (
    ("sessions", "sessions", "Sessions."),
    ("runs", "runs", "Runs of all sessions."),
    ("file_versions", "versions", "File versions, current and past."),
    ("file_version_bytes", "version_bytes", "Size of all file versions, before deduplication."),
    ("blobs", "blobs", "Distinct contents, chunks included."),
    ("blob_bytes", "distinct_bytes", "Size of the distinct contents, before compression."),
    ("packs", "packs", "Packs in storage that hold blobs."),
    ("stored_bytes", "stored_bytes", "Size of these packs."),
    ("dead_bytes", "dead_bytes", "Bytes of these packs that no blob needs."),
    ("condemned_blobs", "condemned", "Blobs that garbage collection will delete."),
    ("condemned_bytes", "condemned_bytes", "Stored bytes of these blobs."),
    ("damaged_blobs", "damaged", "Blobs that are marked as damaged."),
    ("cache_bytes", "cache_bytes", "Size of this host's cache."),
    ("cache_limit_bytes", "cache_limit_bytes", "Largest size of this host's cache."),
    (
        "verified_timestamp_seconds",
        "unverified_since",
        "When the pack was verified, or else written, that has waited longest.",
    ),
    (
        "condemned_timestamp_seconds",
        "condemned_since",
        "When the blob was condemned that has waited longest for its deletion.",
    ),
    (
        "pending_timestamp_seconds",
        "pending_since",
        "When the oldest pack was written that no commit has recorded.",
    ),
    ("backup_timestamp_seconds", "backed_up_at", "When the index was last copied to storage."),
)
"""Names without their prefix, fields of `StoreStats`, and help."""

_UNITS: Final = ("bytes", "seconds")

_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def openmetrics(stats: Mapping[str, object]) -> str:
    """Return the fields of `StoreStats`, each with its type, unit and help."""
    labels = {
        "version": cas.__version__,
        "store_id": stats["store_id"],
        "blobs": stats["blobs_at"],
    }
    shown = ",".join(f'{name}="{str(value).translate(_ESCAPED)}"' for name, value in labels.items())
    lines = _head("build_info", "The release of runcas, and the store.")
    lines.append(f"runcas_build_info{{{shown}}} 1")
    for name, attribute, about in _GAUGES:
        value = stats[attribute]
        if value is not None:
            number = value.timestamp() if isinstance(value, datetime) else value
            lines += [*_head(name, about), f"runcas_{name} {number}"]
    return "\n".join([*lines, "# EOF\n"])


def _head(name: str, about: str) -> list[str]:
    unit = name.rpartition("_")[2]
    lines = [f"# TYPE runcas_{name} gauge"]
    lines += [f"# UNIT runcas_{name} {unit}"] if unit in _UNITS else []
    return [*lines, f"# HELP runcas_{name} {about}"]
