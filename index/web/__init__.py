"""The pages on which people look at runs, and their JSON API: an ASGI application.

It needs ``pip install 'runcas[web]'``. ``cas serve`` runs it alone, and `application` is what a
host mounts in an application of its own.

Names are imported on first use: the processes that make previews import this package, and need
none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from index.web.access import Authorize, Grant, Tokens
    from index.web.asgi import application

__all__ = ["Authorize", "Grant", "Tokens", "application"]

_IMPORTED_LATER: Final = {
    "Authorize": "index.web.access",
    "Grant": "index.web.access",
    "Tokens": "index.web.access",
    "application": "index.web.asgi",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any attribute
    if name not in _IMPORTED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_IMPORTED_LATER[name]), name)
    globals()[name] = value
    return value
