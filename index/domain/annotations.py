"""Annotations that a caller gives a file, besides content and provenance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from index.domain.classification import says_final
from index.domain.names import MAX_TYPE_LENGTH, check_label
from index.errors import InvalidMetaError

if TYPE_CHECKING:
    from index.domain.classification import Classifier
    from index.domain.run_state import KnownFile

__all__ = ["NOTHING_SAID", "Annotations", "FileKind", "as_stored"]


MAX_META_DEPTH: Final = 100
"""Lists and objects inside each other. Much deeper ones, Python can write and not read."""


def as_stored(what: str, value: object) -> Any:  # noqa: ANN401 - any JSON value
    """Return what the caller notes as JSON will return it.

    Raises
    ------
    InvalidMetaError
        When JSON can't hold it. The error calls it `what`.
    """
    if value is None:
        return None
    try:
        stored = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMetaError(what, str(error)) from error
    if _is_deeper(stored, MAX_META_DEPTH):
        raise InvalidMetaError(what, f"it is nested more than {MAX_META_DEPTH} deep")
    return stored


class FileKind(NamedTuple):
    """The annotation columns of a file version. Many versions of a commit share one kind."""

    file_type: str
    priority: str
    is_final_output: bool
    meta: Any


@dataclass(frozen=True, slots=True)
class Annotations:
    """What a caller says of a path: file type, final output flag and free notes.

    None leaves a value as the path's last version has it. An empty file type takes back an earlier
    one: the classifier decides again.
    """

    file_type: str | None = None
    is_final_output: bool | None = None
    meta: object = None
    """Any JSON value. It is kept after a round trip through JSON, so tuples become lists."""

    def __post_init__(self) -> None:
        if self.file_type not in (None, ""):
            check_label("file type", self.file_type, longest=MAX_TYPE_LENGTH)
        if self.is_final_output not in (None, True, False):
            raise TypeError(f"is_final_output is True, False or None, not {self.is_final_output!r}")
        object.__setattr__(self, "meta", as_stored("meta", self.meta))

    @property
    def given(self) -> bool:
        """Whether any annotation is given."""
        return not (self.file_type is None and self.is_final_output is None and self.meta is None)

    def may_change(self, known: KnownFile) -> bool:
        """Whether a version could get other annotations by these, as far as `known` shows."""
        return (
            self.file_type is not None
            or self.meta is not None
            or self.is_final_output not in (None, bool(known.is_final_output))
        )

    def kind(self, path: str, before: FileKind | None, classifier: Classifier) -> FileKind:
        """Return the kind of a version of `path`.

        Parameters
        ----------
        before
            The kind of the path's last version. It holds where these annotations say nothing.
        """
        if self.file_type is None and before is not None:
            file_type = before.file_type
        else:
            file_type = self.file_type or classifier.classify(path)
        if self.is_final_output is not None:
            final = bool(self.is_final_output)
        elif before is not None:
            final = bool(before.is_final_output)
        else:
            final = says_final(classifier, path)
        meta = before.meta if self.meta is None and before is not None else self.meta
        priority = classifier.prioritise(file_type, is_final_output=final)
        return FileKind(file_type, priority, final, meta)

    def over(self, path: str, before: FileKind, classifier: Classifier) -> dict[str, Any]:
        """Return the columns that these annotations change in a version of kind `before`."""
        after = self.kind(path, before, classifier)._asdict()
        if json.dumps(after["meta"]) == json.dumps(before.meta):  # for Python, 1 equals True
            del after["meta"]
        return {
            name: value
            for name, value in after.items()
            if name == "meta" or value != getattr(before, name)
        }


NOTHING_SAID = Annotations()


def _is_deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and (
        levels == 0 or any(_is_deeper(item, levels - 1) for item in value)
    )
