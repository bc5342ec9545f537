"""Comparison of two states of a run, or of two runs. No I/O."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

from index.domain.results import Result, to_json
from index.domain.snapshots import HTML_HEAD, NO_VERSIONS, LazyVersions

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from index.domain.snapshots import FileVersion

__all__ = ["Diff", "FileChange", "diff_versions", "is_same"]

Grouping: TypeAlias = Literal["phase", "agent", "node_id", "step_id", "event_id", "file_type"]


@dataclass(frozen=True, slots=True)
class FileChange(Result):
    """A path whose content differs between the two states."""

    before: FileVersion
    after: FileVersion

    derived: ClassVar = ("path",)

    @property
    def path(self) -> str:
        """The path, the same in both states."""
        return self.after.path


@dataclass(frozen=True, slots=True)
class Diff(Result):
    """The differences between two states, sorted by path. Content is compared by digest."""

    added: tuple[FileVersion, ...]
    """Only in the second state."""
    removed: tuple[FileVersion, ...]
    """Only in the first state."""
    changed: tuple[FileChange, ...]
    lazy_identical: LazyVersions = field(default=NO_VERSIONS, repr=False)
    """`identical`, which is read when you ask for it. Its length is counted without that."""

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.added or self.removed or self.changed)

    @property
    def identical(self) -> tuple[FileVersion, ...]:
        """Files with the same content in both states: the versions of the second one, by path.

        For two snapshots of one run they are read when you ask for them, and the store must be
        open. ``len(diff.lazy_identical)`` only counts them.
        """
        return self.lazy_identical.get()

    @property
    def pairs(self) -> tuple[tuple[FileVersion | None, FileVersion | None], ...]:
        """The versions of each path that differs, by path: None for the first of an added file.

        The second version of a removed file is None. `Session.compare` takes such pairs.
        """
        pairs: list[tuple[FileVersion | None, FileVersion | None]] = []
        pairs += [(None, version) for version in self.added]
        pairs += [(version, None) for version in self.removed]
        pairs += [(change.before, change.after) for change in self.changed]
        return tuple(sorted(pairs, key=lambda pair: (pair[1] or pair[0]).path))  # type: ignore[union-attr]  # one is there

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The differences as JSON types, one for each path, by path: the rows of `to_frame`."""
        rows = []
        for before, after in self.pairs:
            if before is not None and after is not None:
                more = {"digest_before": to_json(before.digest), "size_before": before.size}
                rows.append({"change": "changed", **after.to_dict(), **more})
            elif after is not None:
                rows.append({"change": "added", **after.to_dict()})
            elif before is not None:
                rows.append({"change": "removed", **before.to_dict()})
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return the differences as JSON types; `identical` is the number of identical files."""
        return {**Result.to_dict(self), "identical": len(self.lazy_identical)}

    def to_frame(self) -> pd.DataFrame:
        """Return the differences as a pandas data frame, one row for each path, sorted by path.

        The columns are `change` and the fields of the version in the second state, or of the
        removed one; `digest_before` and `size_before` are those of a changed path before.
        """
        from index.domain.frames import frame_of

        return frame_of(self.rows)

    def _repr_html_(self) -> str:
        from index.domain.html import paragraph, table  # only notebooks need it

        rows = [("added", *each.html_row) for each in self.added]
        rows += [("removed", *each.html_row) for each in self.removed]
        rows += [("changed", *each.after.html_row) for each in self.changed]
        rows.sort(key=lambda row: str(row[1]))
        counts = [
            f"{len(getattr(self, name))} {name.removeprefix('lazy_')}"
            for name in ("added", "changed", "removed", "lazy_identical")
        ]
        return paragraph(*counts) + table(("", *HTML_HEAD), rows)

    def by(self, attribute: Grouping) -> dict[str | None, Diff]:
        """Return the diff split by an attribute of the files.

        The keys are sorted, None last. A changed path counts for the attribute of its second
        version, a removed path for that of the removed version. Raises ValueError if `attribute`
        is not one of `Grouping`.
        """
        if attribute not in get_args(Grouping):
            raise ValueError(f"a diff is grouped by {', '.join(get_args(Grouping))}")
        added, removed, changed, identical = (defaultdict(list) for _ in range(4))
        for version in self.added:
            added[getattr(version, attribute)].append(version)
        for version in self.removed:
            removed[getattr(version, attribute)].append(version)
        for change in self.changed:
            changed[getattr(change.after, attribute)].append(change)
        for version in self.identical:
            identical[getattr(version, attribute)].append(version)
        groups = {*added, *removed, *changed, *identical}
        return {
            group: Diff(
                tuple(added[group]),
                tuple(removed[group]),
                tuple(changed[group]),
                LazyVersions.ready(identical[group]),
            )
            for group in sorted(groups, key=lambda group: (group is None, group))
        }


def diff_versions(
    before: Iterable[FileVersion],
    after: Iterable[FileVersion],
    in_both: LazyVersions = NO_VERSIONS,
) -> Diff:
    """Return the differences between the files of two states.

    Parameters
    ----------
    in_both
        Versions that are in both states, besides the given ones.
    """
    old = {version.path: version for version in before}
    new = {version.path: version for version in after}
    both = sorted(old.keys() & new.keys())
    same = [new[path] for path in both if is_same(old[path], new[path])]
    same_paths = {version.path for version in same}
    return Diff(
        added=tuple(new[path] for path in sorted(new.keys() - old.keys())),
        removed=tuple(old[path] for path in sorted(old.keys() - new.keys())),
        changed=tuple(FileChange(old[path], new[path]) for path in both if path not in same_paths),
        lazy_identical=LazyVersions(
            lambda: sorted((*same, *in_both.get()), key=lambda version: version.path),
            lambda: len(same) + len(in_both),
        ),
    )


def is_same(before: FileVersion, after: FileVersion) -> bool:
    """Whether two versions have the same content: the same bytes, both as a file or as a link."""
    if before.id == after.id:
        return True
    return (
        before.digest is not None
        and before.digest == after.digest
        and before.is_link == after.is_link
    )
