"""What a preview holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "Kind", "Preview"]

Kind: TypeAlias = Literal[
    "image", "svg", "text", "code", "markdown", "json", "table", "notebook", "pdf", "array", "hdf5",
    "hex", "link", "empty", "gone", "refused",
]  # fmt: skip

KINDS: frozenset[str] = frozenset(get_args(Kind))


@dataclass(frozen=True, slots=True)
class Preview:
    """A bounded part of a file's content.

    The fields of `content` depend on `kind`. Fields named `html` are sanitised HTML. All other text
    is plain, and has no character that hides or reorders other text.

    ========  ==================================================================================
    image     media_type, width, height
    svg       media_type
    pdf       media_type
    text      text
    code      text, html, language
    markdown  text, html
    json      tree: a node with `type`, and `text` or `items` with `key` and `value`, and `count`
    table     columns with `name` and `type`; rows of text or None; rows_total or None
    notebook  language; cells with `type`, `html` or `text`, `outputs`
    array     arrays with `name`, `shape`, `dtype`, and the first `values` or None
    hdf5      objects with `path`, `kind`, `shape`, `dtype`, and `attrs` with `name` and `value`
    hex       lines with `offset`, `hex`, `ascii`
    link      target
    refused   perhaps `text`, or `lines` as in hex
    ========  ==================================================================================
    """

    kind: Kind
    truncated: bool = False
    """Whether only a part is shown."""
    note: str | None = None
    """A sentence: why the preview is refused, or what it does not show."""
    content: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the preview as JSON types, with the fields of its kind."""
        return {
            "kind": self.kind,
            "truncated": self.truncated,
            "note": self.note,
            **self.content,
        }
