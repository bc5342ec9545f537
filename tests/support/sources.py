"""What `cas import` takes: a git repository, and what DVC and MLflow have written."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from trees import write

_DATA = Path(__file__).parents[1] / "imports" / "data"


def unpack(name, folder):
    """Unpack a kept source into a folder: `dvc2`, `dvc3`, or `mlflow` with `files`, `server`."""
    with tarfile.open(_DATA / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="fully_trusted")  # noqa: S202 - it is ours
    return folder / name


def commit(repository, message, files):
    """Commit files in a git repository, which is made if it does not exist; return it."""
    write(repository, files)
    author = ("-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.org")
    for arguments in (
        ("init", "-q", "-b", "main"),
        ("add", "-A"),
        (*author, "commit", "-q", "-m", message),
    ):
        subprocess.run(["git", "-C", repository, *arguments], check=True)
    return repository
