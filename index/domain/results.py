"""One JSON form for all results, the same in the API, in ``--json`` and in events."""

from __future__ import annotations

from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from cas.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Result", "make_of", "to_json"]

R = TypeVar("R", bound="Result")

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


def make_of(cls: type[R]) -> Callable[..., R]:
    """Return a function that makes instances of a frozen dataclass with slots from its values.

    For many rows. A frozen dataclass sets each field with a call, which takes five times as long as
    to set the fields of one that is not frozen, and to make that an instance of `cls`.
    """
    names = [
        (each.name, object, field() if each.default is MISSING else field(default=each.default))
        for each in fields(cls)  # type: ignore[arg-type]
    ]
    thawed = make_dataclass(cls.__name__, names, bases=cls.__bases__, slots=True, eq=False)

    def make(*values: object) -> Any:  # noqa: ANN401 - an instance of `cls`
        made = thawed(*values)
        made.__class__ = cls
        return made

    return make


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
