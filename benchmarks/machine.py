"""The machine that is measured on, and what runs there."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from measure import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence

_REPOSITORY: Final = Path(__file__).parent.parent


def environment(work: Path, packages: Sequence[str]) -> dict[str, str]:
    """Describe where and with what the benchmark runs; nothing that names a host or a person.

    Parameters
    ----------
    work
        Directory of the temporary data, whose filesystem is named.
    packages
        Distributions whose versions matter.
    """
    versions = [f"{name} {version}" for name in packages if (version := _version(name))]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "CPU": f"{_first_value('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem(work),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "packages": ", ".join(versions),
        "load before": f"{os.getloadavg()[0]:.1f} processes in the last minute",
        "cache": "warm: everything read is in the page cache",
    }


def commit() -> str:
    """Return the commit that is measured, and whether the packages differ from it."""
    head = output_of(["git", "-C", str(_REPOSITORY), "rev-parse", "--short=12", "HEAD"])
    changed = output_of(
        ["git", "-C", str(_REPOSITORY), "status", "--porcelain", "cas", "index", "migrations"]
    )
    return f"{head or 'unknown'}{' with changes' if changed else ''}"


def filesystem(path: Path) -> str:
    """Return the type of the filesystem that `path` lies on."""
    found = output_of(["df", "--output=fstype,source", str(path)]).splitlines()[-1:]
    kind, _, device = (found[0] if found else "unknown").partition(" ")
    if kind == "ext4" and not list(Path("/proc/fs/jbd2").glob(f"{Path(device.strip()).name}-*")):
        return "ext4 without a journal"
    return kind


def output_of(command: Sequence[str]) -> str:
    """Return what a command prints, or nothing if it can't be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_value(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"
