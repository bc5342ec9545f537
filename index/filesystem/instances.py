"""What makes two instances of the filesystem the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

if TYPE_CHECKING:
    import os

__all__ = ["InstanceKind"]


class InstanceKind(type(AbstractFileSystem)):  # type: ignore[misc]  # fsspec has no types
    """Gives a filesystem arguments that mean the same in any directory and process."""

    def __call__(
        cls,
        store: str | os.PathLike[str] | None = None,
        session: str | None = None,
        **options: Any,
    ) -> Any:
        if store is not None:
            options["store"] = str(Path(store).absolute())
        if session is not None:
            options["session"] = session
        if "index" in options and hasattr(options["index"], "render_as_string"):
            options["index"] = options["index"].render_as_string(hide_password=False)
        return super().__call__(**options)
