"""Annotations that a caller gives a file, besides content and provenance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from index.errors import InvalidMetaError

if TYPE_CHECKING:
    from index.domain.classification import Classifier
    from index.domain.snapshots import FileVersion

__all__ = ["Annotations"]


@dataclass(frozen=True, slots=True)
class Annotations:
    """File type, final output flag and free notes. None leaves a value as it is."""

    file_type: str | None = None
    is_final_output: bool | None = None
    meta: object = None
    """Any JSON value. It is kept after a round trip through JSON, so tuples become lists."""

    def __post_init__(self) -> None:
        if self.is_final_output not in (None, True, False):
            raise TypeError(f"is_final_output is True, False or None, not {self.is_final_output!r}")
        if self.meta is None:
            return
        try:
            meta = json.loads(json.dumps(self.meta, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidMetaError(str(error)) from error
        object.__setattr__(self, "meta", meta)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that all new versions of a commit take from its annotations."""
        return {"is_final_output": bool(self.is_final_output), "meta": self.meta}

    @property
    def given(self) -> bool:
        """Whether any annotation is given."""
        return not (self.file_type is None and self.is_final_output is None and self.meta is None)

    def over(self, version: FileVersion, classifier: Classifier) -> dict[str, Any]:
        """Return the columns of a version whose values these annotations change."""
        file_type = self.file_type or version.file_type
        final = version.is_final_output if self.is_final_output is None else self.is_final_output
        values = {
            "file_type": file_type,
            "is_final_output": final,
            "priority": classifier.prioritise(file_type, is_final_output=final),
            "meta": version.meta if self.meta is None else self.meta,
        }
        return {name: value for name, value in values.items() if value != getattr(version, name)}
