"""What the filesystem tells of files and directories."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from index import FileVersion

__all__ = ["directory", "entry"]


def directory(name: str, size: int = 0) -> dict[str, Any]:
    """Return what is known of a directory."""
    return {"name": name, "size": size, "type": "directory"}


def entry(name: str, version: FileVersion) -> dict[str, Any]:
    """Return what is known of a file."""
    return {
        "name": name,
        "size": version.size,
        "type": "link" if version.is_link else "file",
        "digest": str(version.digest),
        "version": version.version,
        "mode": version.mode,
        "mtime": datetime.fromtimestamp(version.mtime_ns / 1e9, UTC),
        "created": version.created_at,
        "session": version.session,
        "run": version.run,
        "phase": version.phase,
        "agent": version.agent,
        "node_id": version.node_id,
        "step_id": version.step_id,
        "event_id": version.event_id,
        "code_hash": version.code_hash,
        "file_type": version.file_type,
        "is_final_output": version.is_final_output,
        "meta": version.meta,
    }
