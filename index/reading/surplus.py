"""Files in the destination of a restore that the restored state does not have.

Only a file whose content the run has recorded at that path may go: the run can bring it back. What
was never recorded stays, unless the caller says that any content of a path may go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from index.domain.names import from_native
from index.domain.run_state import signature_of
from index.errors import RestoreFailedError
from index.reading.name_clashes import folded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cas.digest import Digest
    from index.domain.run_state import Signature
    from index.reading.walker import Walker

__all__ = ["Surplus", "SurplusFile", "delete_surplus", "find_surplus", "find_unrecorded"]


class SurplusFile(NamedTuple):
    """A file or link that may be deleted."""

    path: str
    size: int
    signature: Signature
    """What it was when its content was looked at."""


@dataclass(frozen=True, slots=True)
class Surplus:
    """What a destination has besides the restored state."""

    files: list[SurplusFile] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Paths whose content the run can't bring back, or that changed before they were deleted."""


def find_surplus(
    walker: Walker,
    held: Mapping[str, Collection[Digest] | None],
    state: Collection[str],
    can_read: Callable[[Digest], bool],
) -> Surplus:
    """Return what is there at the paths in `held`, but not in the restored state.

    Parameters
    ----------
    held
        Contents by path that may be deleted; None for any content. Whatever has another path is
        not looked at.
    state
        The paths of the restored state.
    can_read
        Whether the store has the bytes of a content.
    """
    surplus = Surplus()
    names: dict[str, str] = {}
    for path in sorted(held.keys() - set(state)):
        status = walker.status(path)
        if status is None:
            continue
        digest = walker.digest(path, status)
        if digest is None:  # a directory, or what no run records
            continue
        # Where a filesystem ignores case, the listed name of a file may differ from its path.
        names = names or {folded(each): each for each in state}
        alias = walker.status(names[folded(path)]) if folded(path) in names else None
        if alias is not None and signature_of(alias) == signature_of(status):
            continue
        contents = held[path]
        if contents is None or (digest in contents and can_read(digest)):
            surplus.files.append(SurplusFile(path, status.st_size, signature_of(status)))
        else:
            surplus.kept.append(path)
    return surplus


def find_unrecorded(
    walker: Walker,
    paths: Collection[str],
    recorded: Callable[[], Mapping[str, Collection[Digest]]],
) -> tuple[str, ...]:
    """Return those of some paths in whose place is content that the run has never recorded.

    Parameters
    ----------
    recorded
        Returns the contents by path that the run has ever recorded.
    """
    known = recorded() if paths else {}
    found = []
    for path in paths:
        status = walker.status(path)
        digest = None if status is None else walker.digest(path, status)
        if digest is not None and digest not in known.get(from_native(path), ()):
            found.append(from_native(path))
    return tuple(sorted(found))


def delete_surplus(walker: Walker, surplus: Surplus) -> list[SurplusFile]:
    """Delete files that are still what they were, and directories that this empties.

    Return the files that were deleted. A file that has changed is added to `Surplus.kept`.
    """
    deleted = []
    for file in surplus.files:
        status = walker.status(file.path)
        if status is not None and signature_of(status) == file.signature:
            try:
                walker.remove(file.path)
            except RestoreFailedError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
            deleted.append(file)
        elif status is not None:
            surplus.kept.append(file.path)
        else:
            deleted.append(file)  # with a directory that made way for a file
    return deleted
