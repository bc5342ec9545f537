"""Import of step folders: directories that a workflow has left, one for each of its steps."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from index import Skipped
from index.errors import ImportSourceError
from index.imports.directories import compare_directory, has_changed, iter_files, newest_time
from index.imports.sources import label_of, run_name
from index.imports.tally import Tally, note_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from index import ImportReport, Progress, Session

__all__ = ["read_steps"]

_NUMBER: Final = re.compile(r"(\d+)")
_EVERYTHING: Final[dict[str, Any]] = {"hidden": True, "default_ignores": False}


def read_steps(
    session: Session,
    source: str | os.PathLike[str],
    *,
    run: str | None = None,
    steps: Sequence[str] | None = None,
    as_states: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Record the folders in a directory, each as one snapshot of a run; return the report.

    The name of a folder is the node and the step of its snapshot. Its files have the same paths as
    in `source`: ``step_1/out.csv``. All is recorded, hidden files too, but what a ``.casignore``
    leaves out. If you repeat the import, folders with nothing new are passed over.

    Parameters
    ----------
    source
        The directory with the folders. It is only read, and the run remembers it.
    run
        The id of the run; by default the name of the directory.
    steps
        The names of the folders, in the order in which they were made. By default all folders
        that are not hidden, by name, where ``step_10`` comes after ``step_9``.
    as_states
        Take each folder as what one work directory held after that step: ``step_1/out.csv`` and
        ``step_2/out.csv`` are two versions of ``out.csv``, and a file that the next folder lacks
        was removed. Folders that were recorded are not read again.

    Raises
    ------
    ImportSourceError
        When there is no such folder, one is named twice, or the run holds something else. Also when
        others write to the run during the import.
    ImportMismatchError
        When what was recorded differs from what the folders hold.
    """
    root = Path(source)
    tally = Tally(
        session.run(run or run_name(root)), "states" if as_states else "steps", str(root), progress
    )
    names = list(steps) if steps is not None else _find_steps(tally, root)
    for name in names:
        if "/" in name or name in ("", ".", "..") or not (root / name).is_dir():
            raise ImportSourceError(str(root), f"it has no folder {name!r}; see how it is spelled")
    for name, count in Counter(names).items():
        if count > 1:
            raise ImportSourceError(str(root), f"folder {name!r} is named twice; name it once")
    done = {note["revision"] for _, note in tally.begin()}
    for name in names:
        if (root / name).is_symlink():
            tally.skipped.append(Skipped(name, "it is a link, which is not followed"))
        elif as_states:
            if name not in done:
                _record(tally, root, name, as_states=True)
        elif name not in done or has_changed(tally, root, [name]):
            _record(tally, root, name, as_states=False)
    return tally.report()


def _find_steps(tally: Tally, root: Path) -> list[str]:
    """Return the folders of a directory in their natural order. Anything else is skipped."""
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise ImportSourceError(str(root), f"it can't be listed: {error.strerror}") from error
    found = []
    for each in entries:
        if each.is_dir() and not each.name.startswith("."):
            found.append(each.name)
        else:
            reason = "it is hidden; name it to import it" if each.is_dir() else "it is in no folder"
            tally.skipped.append(Skipped(each.name, reason))
    if not found:
        raise ImportSourceError(str(root), "it has no folders")
    return sorted(found, key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(each), "") if each.isdecimal() else (-1, each) for each in _NUMBER.split(name)]


def _record(tally: Tally, root: Path, name: str, *, as_states: bool) -> None:
    listed = dict(iter_files(root / name))
    label = label_of(name)
    notes = {"imported": note_of(tally.source_format, name), "time": newest_time(listed)}
    where: dict[str, Any] = {"work_dir": root / name} if as_states else {
        "work_dir": root,
        "scope": [name],
    }  # fmt: skip
    snapshot = tally.run.track(**where, **_EVERYTHING, node_id=label, step_id=label, notes=notes)
    tally.count(snapshot)
    compare_directory(tally, snapshot, root / name, listed, "" if as_states else f"{name}/")
