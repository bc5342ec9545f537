"""Import of a git history: one snapshot for each first-parent commit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from index import Skipped
from index.imports.git_objects import GitRepository, is_submodule
from index.imports.replay import replay
from index.imports.sources import Revision, label_of, run_name
from index.imports.tally import Tally

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from index import ImportReport, Progress, Session
    from index.imports.git_objects import Commit, TreeEntry
    from index.imports.sources import SourceFile

__all__ = ["commit_changes", "listed_files", "notes_of", "read_git", "time_of"]


def read_git(
    session: Session,
    source: str | os.PathLike[str],
    *,
    run: str | None = None,
    rev: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Record the commits of a git repository as snapshots of a run; return the report.

    There is one snapshot for each commit that `rev` leads to by first parents, oldest first. The
    commit's author is its agent, and the commit's id its event. Its notes have the id, the time and
    the message. Files get the time of the commit. If the run has some of the commits already, the
    import goes on after them; so one that was interrupted continues when you repeat it.

    What was recorded is read back and compared with the ids of git's objects. The library calls
    the program `git`, which must be installed.

    Parameters
    ----------
    source
        A work directory with its ``.git``, or a bare repository. It is only read.
    run
        The id of the run; by default the name of the directory.
    rev
        A branch, tag or commit; by default HEAD. The run then remembers the work directory.

    Raises
    ------
    ImportSourceError
        When it is no git repository, or the run holds something else.
    ImportMismatchError
        When what was recorded differs from what git lists.
    """
    root = Path(source)
    with GitRepository(root) as repository:
        ids = repository.first_parents(rev or "HEAD")
        tally = Tally(session.run(run or run_name(root)), "git", str(root), progress)
        return replay(
            tally,
            ids,
            lambda begin: _revisions(repository, ids, begin),
            lambda: listed_files(repository, ids[-1]),
            work_dir=None if repository.is_bare or rev else root,
        )


def _revisions(repository: GitRepository, ids: Sequence[str], begin: int) -> Iterator[Revision]:
    earlier = [None, *ids]
    tree = repository.commit(ids[begin - 1]).tree if 0 < begin < len(ids) else None
    for _, oid in pairwise(earlier[begin:]):
        assert oid is not None  # noqa: S101 - only the first one is none
        commit = repository.commit(oid)
        files, skipped = commit_changes(repository, tree, commit)
        yield Revision(
            oid,
            files,
            time_of(commit),
            notes_of(commit),
            agent=label_of(commit.author) or label_of(commit.email),
            event_id=oid,
            skipped=skipped,
        )
        tree = commit.tree


def commit_changes(
    repository: GitRepository, before: str | None, commit: Commit
) -> tuple[dict[str, SourceFile | None], list[Skipped]]:
    """Return the files that a commit changes in a tree, and what of it is not recorded well."""
    files: dict[str, SourceFile | None] = {}
    skipped = []
    for path, entry in repository.changes(before, commit.tree):
        if entry is not None and is_submodule(entry):
            files[path] = None
            skipped.append(Skipped(path, "it is a submodule; import it by itself"))
            continue
        files[path] = None if entry is None else repository.file(entry)
    return files, skipped


def listed_files(repository: GitRepository, commit: str) -> dict[str, SourceFile]:
    """Return the files of a commit as `git ls-tree` lists them, without submodules."""
    listed: dict[str, TreeEntry] = repository.list_files(commit)
    return {path: repository.file(e) for path, e in listed.items() if not is_submodule(e)}


def notes_of(commit: Commit) -> dict[str, Any]:
    """Return what the notes of a snapshot say of a commit."""
    subject, _, body = commit.message.partition("\n")
    return {
        "commit": commit.id,
        "time": commit.time.isoformat(),
        "author": f"{commit.author} <{commit.email}>",
        "subject": subject,
        **({"body": body.strip()} if body.strip() else {}),
    }


def time_of(commit: Commit) -> int:
    """Return the time of a commit in nanoseconds since the epoch."""
    return int(commit.time.timestamp()) * 10**9
