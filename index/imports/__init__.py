"""Import of what people have: step folders, histories of other tools, archives, bundles.

    from index.imports import read_git

    report = read_git(store.session("default"), "~/project", run="project")

Each function records into a session, and returns a report or one for each run. Sources are only
read. What was recorded is compared with what the source lists, by paths, counts and digests.
"""

from __future__ import annotations

from index.imports.bagit import read_bagit
from index.imports.dvc import read_dvc
from index.imports.git import read_git
from index.imports.mlflow import read_mlflow
from index.imports.ocfl import read_ocfl
from index.imports.steps import read_steps
from index.imports.stored import read_bundle

__all__ = [
    "read_bagit",
    "read_bundle",
    "read_dvc",
    "read_git",
    "read_mlflow",
    "read_ocfl",
    "read_steps",
]
