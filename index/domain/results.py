"""One JSON form for all results, the same in the API, in ``--json`` and in events."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cas.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Result", "to_json"]

_PLAIN: Final = frozenset({type(None), bool, int, float, str})
"""What nearly all values are: looking for this first makes listings three times as fast."""


_CONVERTED: Final[Mapping[type, Callable[[Any], Any]]] = {
    Digest: str,
    datetime: datetime.isoformat,
    timedelta: timedelta.total_seconds,
}


class Result:
    """A value that the API returns. Its subclasses are frozen dataclasses."""

    __slots__ = ()

    derived: ClassVar[tuple[str, ...]] = ()
    """Properties that the JSON form has besides the fields."""

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON types, as ``--json`` prints it.

        Digests and times are text, durations are seconds. In a dictionary by label, the key of
        files without that label is ``""``, which no label can be.
        """
        shown = [each.name for each in fields(self) if each.repr]  # type: ignore[arg-type]
        found = ((name, getattr(self, name)) for name in (*shown, *self.derived))
        return {name: value if type(value) in _PLAIN else to_json(value) for name, value in found}


def to_json(value: Any) -> Any:  # noqa: ANN401 - any result, or a value of one
    """Return a result, or a value of one, as JSON types."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if (converted := _CONVERTED.get(type(value))) is not None:
        return converted(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Exception):
        return str(value) or type(value).__name__
    if isinstance(value, dict):
        return {"" if key is None else to_json(key): to_json(item) for key, item in value.items()}
    if is_dataclass(value):
        return {each.name: to_json(getattr(value, each.name)) for each in fields(value)}
    if hasattr(value, "_asdict"):
        return to_json(value._asdict())
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value
