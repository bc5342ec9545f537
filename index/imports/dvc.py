"""Import of a DVC repository: its git history, with the files from DVC's cache.

A commit makes one snapshot of what git and the ``.dvc`` files have, and one more for each stage of
a ``dvc.lock`` that ran, after those that it reads from.
"""

from __future__ import annotations

from configparser import ConfigParser, Error
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from index import Skipped
from index.errors import ImportSourceError
from index.imports.dvc_files import CachedFile, DvcCache, Output, Stage, is_dvc_file, read_dvc_file
from index.imports.git import commit_changes, listed_files, notes_of, time_of
from index.imports.git_objects import GitRepository
from index.imports.replay import replay
from index.imports.sources import Revision, UnreadableFileError, label_of, run_name, why_unsafe
from index.imports.tally import Tally

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    from index import ImportReport, Progress, Session
    from index.imports.git_objects import Commit
    from index.imports.sources import SourceFile

__all__ = ["read_dvc"]

_MAX_DVC_FILE: Final = 64 << 20
"""Bytes of a ``.dvc`` file or a ``dvc.lock``. One with 100,000 outputs has 20 MB."""


def read_dvc(
    session: Session,
    source: str | os.PathLike[str],
    *,
    run: str | None = None,
    rev: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Record the history of a DVC repository in a run; return the report.

    The commits are those of `read_git`. Each has the files that git has, and those that its
    ``.dvc`` files and ``dvc.lock`` name, taken from DVC's cache. Each stage whose entry in a
    ``dvc.lock`` changed makes a snapshot of its own: the stage's name is the node, and the notes
    have the command, the parameters and what it read. Neither DVC nor a stage runs.

    The MD5 digest of each file is checked when it is read, and again in the store. The report's
    `skipped` has the files that the cache lacks. Run ``dvc fetch --all-commits`` before: a commit
    that was recorded is not read again.

    Parameters
    ----------
    source
        The directory with ``.git`` and ``.dvc``. It is only read.
    run, rev
        As for `read_git`.
    cache
        The directory of DVC's cache. By default the one that the configuration names, if it is
        inside of `source`, or else ``.dvc/cache``.

    Raises
    ------
    ImportSourceError
        When it is no such repository, when its cache is elsewhere, or the run holds something else.
    ImportMismatchError
        When what was recorded differs from what git and DVC list.
    MissingPackageError
        When PyYAML is missing: ``pip install 'runcas[imports]'``.
    """
    root = Path(source)
    if not (root / ".dvc").is_dir():
        raise ImportSourceError(
            str(root), "it has no directory .dvc; name the root of a DVC project"
        )
    if not (root / ".git").exists():
        raise ImportSourceError(
            str(root), "its root has no git history; import its directories as step folders"
        )
    with GitRepository(root) as repository:
        ids = repository.first_parents(rev or "HEAD")
        history = _History(repository, DvcCache(_cache_of(root, cache)))
        revisions = [each for oid in ids for each in history.revisions(repository.commit(oid))]
        tally = Tally(session.run(run or run_name(root)), "dvc", str(root), progress)
        return replay(
            tally,
            [each.id for each in revisions],
            lambda begin: iter(revisions[begin:]),
            lambda: {**history.files, **listed_files(repository, ids[-1])},
            work_dir=None if rev else root,
        )


class _Made(NamedTuple):
    """The stages of one DVC file, and the files that each has made."""

    stages: Mapping[str | None, Stage]
    files: Mapping[str | None, Mapping[str, CachedFile]]


_NOTHING: Final = _Made({}, {})


class _History:
    """Goes through commits, and knows which files DVC has made until then."""

    def __init__(self, repository: GitRepository, cache: DvcCache) -> None:
        self._repository = repository
        self._cache = cache
        self._tree: str | None = None
        self._in_git: set[str] = set()
        self._made: dict[str, _Made] = {}
        self.files: dict[str, SourceFile] = {}
        """The files that DVC has made in the last commit, without those that git holds."""

        self._outputs: dict[str, SourceFile] = {}
        """Those and the others."""

    def _find_files(self) -> None:
        self._outputs = {
            path: file
            for made in self._made.values()
            for files in made.files.values()
            for path, file in files.items()
        }
        self.files = {p: file for p, file in self._outputs.items() if p not in self._in_git}

    def revisions(self, commit: Commit) -> Iterator[Revision]:
        """Yield what the next commit changes: first without the stages, then one for each stage."""
        changed, skipped = commit_changes(self._repository, self._tree, commit)
        self._tree = commit.tree
        for path, file in changed.items():
            (self._in_git.discard if file is None else self._in_git.add)(path)
        later: list[tuple[str, Stage]] = []
        rest: dict[str, SourceFile | None] = dict(changed)
        for path in filter(is_dvc_file, changed):
            old = self._made.pop(path, _NOTHING)
            file = changed[path]
            if file is not None:
                made, problems = self._read(path, file)
                self._made[path] = made
                skipped += problems
                later += [
                    (path, stage)
                    for name, stage in made.stages.items()
                    if name is not None and old.stages.get(name) != stage
                ]
        if any(is_dvc_file(path) or path in self._outputs for path in changed):
            before = self.files
            self._find_files()
            after = self.files
            rest.update((path, None) for path in before.keys() - after.keys() - self._in_git)
            rest.update((path, after[path]) for path in after if before.get(path) != after[path])
        parts = []
        for path, stage in later:
            files = self._made[path].files[stage.name]
            own = {each: rest.pop(each) for each in files if rest.get(each) is not None}
            parts.append((path, stage, own))
        first = Revision(
            commit.id,
            rest,
            time_of(commit),
            notes_of(commit),
            agent=label_of(commit.author) or label_of(commit.email),
            event_id=commit.id,
            skipped=skipped,
        )
        yield first
        for path, stage, own in parts:
            yield replace(
                first,
                id=f"{commit.id}:{path}:{stage.name}",
                files=own,
                notes={**first.notes, "stage": stage.name, **stage.notes},
                node_id=label_of(stage.name or ""),
                skipped=(),
                inputs=[(path, self._files_of(path, md5)) for path, md5 in stage.inputs],
            )

    def _files_of(self, path: str, md5: str) -> dict[str, SourceFile] | None:
        """Return the files of something that a stage has read; None if its list is not kept."""
        if not md5.endswith(".dir"):
            return {path: CachedFile(self._cache, md5, is_old=True)}
        try:
            listed = self._cache.list_files(Output(path, md5, is_old=True))
        except UnreadableFileError:
            return None
        return {
            f"{path}/{name}": CachedFile(self._cache, each, is_old=True) for name, each in listed
        }

    def _read(self, path: str, file: SourceFile) -> tuple[_Made, list[Skipped]]:
        """Return what a DVC file says was made, and what of that can't be imported."""
        try:
            stages = read_dvc_file(path, self._repository.read_blob(file.key, _MAX_DVC_FILE))
        except UnreadableFileError as error:
            return _NOTHING, [Skipped(path, str(error))]
        files: dict[str | None, dict[str, CachedFile]] = {}
        skipped = [Skipped(*each) for stage in stages for each in stage.skipped]
        for stage in stages:
            found = files.setdefault(stage.name, {})
            for output in stage.outputs:
                if not output.md5.endswith(".dir"):
                    found[output.path] = CachedFile(
                        self._cache, output.md5, output.is_old, output.is_executable
                    )
                    continue
                try:
                    listed = self._cache.list_files(output)
                except UnreadableFileError as error:
                    skipped.append(Skipped(output.path, str(error)))
                    continue
                for name, md5 in listed:
                    reason = why_unsafe(name)
                    if reason is None:
                        found[f"{output.path}/{name}"] = CachedFile(self._cache, md5, output.is_old)
                    else:
                        skipped.append(Skipped(f"{output.path}: {name}", reason))
        return _Made({stage.name: stage for stage in stages}, files), skipped


def _cache_of(root: Path, given: str | os.PathLike[str] | None) -> Path:
    """Return the directory of the cache. The configuration of a stranger may name any directory.

    Raises ImportSourceError if it names one outside of the repository.
    """
    if given is not None:
        return Path(given)
    directory = root / ".dvc" / "cache"
    for name in ("config", "config.local"):
        config = ConfigParser(interpolation=None)
        try:
            if (root / ".dvc" / name).is_file():  # a pipe would never end
                config.read(root / ".dvc" / name, encoding="utf-8")
        except (Error, UnicodeDecodeError) as error:
            raise ImportSourceError(
                str(root), f".dvc/{name} can't be read as DVC writes it"
            ) from error
        directory = root / ".dvc" / config.get("cache", "dir", fallback=directory.absolute())
    if not directory.resolve().is_relative_to(root.resolve()):
        raise ImportSourceError(
            str(root), f"its cache is outside of it; if that is right, name it: {directory}"
        )
    return directory
