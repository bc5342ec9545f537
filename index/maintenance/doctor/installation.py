"""Checks of what is installed: versions of Python, SQLite and the packages."""

from __future__ import annotations

import platform
import re
import sqlite3
from importlib import metadata
from typing import TYPE_CHECKING, Final

import cas
from cas.store import FORMAT_VERSION
from index.db.schema import HEAD
from index.maintenance.doctor.report import ok, problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from index.maintenance.doctor.report import DoctorFinding

__all__ = ["check_installation"]

_OLDEST_SQLITE: Final = (3, 35, 0)
"""The first with RETURNING, which commits need. Source: SQLite documentation, "RETURNING"."""

_REQUIREMENT: Final = re.compile(r"([\w.-]+)(?:\[[^]]*\])?([^;]*);?(.*)", re.ASCII)
"""Name, bounds and marker. Source: Python packaging, "Dependency specifiers"."""

_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([\w-]+)", re.ASCII)

_BOUND: Final = re.compile(r"(>=|<)\s*([\d.]+)", re.ASCII)


def check_installation(extras: Collection[str]) -> Iterator[DoctorFinding]:
    """Check the versions of what runcas needs, with the `extras` that this store needs."""
    yield ok(
        "versions",
        f"runcas {_version()}, store format {FORMAT_VERSION}, schema {HEAD};"
        f" Python {platform.python_version()}, SQLite {sqlite3.sqlite_version};"
        f" {platform.system()} {platform.release()}",
    )
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        yield problem(
            "versions",
            f"SQLite {sqlite3.sqlite_version} is older than {oldest}",
            "use a Python that comes with a newer SQLite",
        )
    yield _packages(extras)


def _version() -> str:
    try:
        return cas.__version__
    except metadata.PackageNotFoundError:
        return "from sources"


def _packages(extras: Collection[str]) -> DoctorFinding:
    there, wrong = [], []
    for name, bounds in _requirements(extras):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        there.append(f"{name} {version}")
        if not _is_within(version, bounds):
            wrong.append(f"{name} is {version}, and runcas needs {name}{bounds}")
    if wrong:
        wanted = f"runcas[{','.join(sorted(extras))}]" if extras else "runcas"
        return problem("packages", "; ".join(wrong), f"run `pip install --upgrade '{wanted}'`")
    return ok("packages", ", ".join(there))


def _requirements(extras: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the packages that runcas needs, with the bounds of their versions."""
    try:
        lines = metadata.requires("runcas") or ()
    except metadata.PackageNotFoundError:  # it runs from a directory of sources
        return
    for line in lines:
        if (found := _REQUIREMENT.match(line)) is not None:
            name, bounds, marker = found.groups()
            extra = _EXTRA.search(marker)
            if extra is None or extra[1] in extras:
                yield name, bounds.strip(" ()")


def _is_within(version: str, bounds: str) -> bool:
    have = _numbers(version)
    return all(
        have >= _numbers(limit) if sign == ">=" else have < _numbers(limit)
        for sign, limit in _BOUND.findall(bounds)
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with, without zeros at the end."""
    found = re.match(r"[\d.]*", version)
    numbers = [int(part) for part in found[0].split(".") if part] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
