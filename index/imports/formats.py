"""What a directory or file is, where that is plain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from index.errors import ImportSourceError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["find_format"]

_STEP: Final = re.compile(r"(step|stage|iteration|iter|epoch|run|node)?[-_ ]?\d+", re.IGNORECASE)


def find_format(source: Path) -> str | None:
    """Return the format in which a source is to be imported; None if that is not plain.

    Raises ImportSourceError if it is neither a file nor a directory.
    """
    if source.is_file():
        return "mlflow" if source.suffix == ".db" else "bundle"
    if not source.is_dir():
        raise ImportSourceError(str(source), "it is neither a file nor a directory")
    names = {each.name for each in source.iterdir()}
    if ".dvc" in names and ".git" in names:
        return "dvc"
    if ".git" in names or {"HEAD", "objects", "refs"} <= names:
        return "git"
    if any(name.startswith("0=ocfl_object_") for name in names):
        return "ocfl"
    if "bagit.txt" in names:
        return "bagit"
    if {"meta.yaml", "mlflow.db"} & names or any(source.glob("*/meta.yaml")):
        return "mlflow"
    folders = [name for name in names if not name.startswith(".") and (source / name).is_dir()]
    return "steps" if folders and all(map(_STEP.match, folders)) else None
