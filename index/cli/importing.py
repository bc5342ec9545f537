"""Importing SQLAlchemy without two modules that it imports and no command uses.

`asyncio` is there for engines that a command doesn't have, `importlib.metadata` for plugins that it
doesn't ask for. With what these two import, they are a tenth of a short command's time.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["sparing_imports"]

_SPARED: Final = {"asyncio": ("iscoroutine",), "importlib.metadata": ()}
"""Modules, and the functions of each that SQLAlchemy takes out of it while it is imported."""


class _StandIn(ModuleType):
    """What is imported in a module's place; it loads that module when anything is asked of it."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def sparing_imports() -> Iterator[None]:
    """Put stand-ins for the modules to be spared into place for the block.

    Whoever imports them inside keeps the stand-in, which behaves as the module does. Afterwards
    `import` finds the module itself. One that is imported already stays in place. What is imported
    inside must import no module that lies in one of the spared.
    """
    put = {name: _StandIn(name) for name in _SPARED if name not in sys.modules}
    for name, stand_in in put.items():
        for function in _SPARED[name]:
            setattr(stand_in, function, _later(name, function))
    sys.modules.update(put)
    try:
        yield
    finally:
        for name, stand_in in put.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


def _later(module: str, function: str) -> Callable[..., Any]:
    """Return a function that calls the one of that name in the module, which it loads then."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), function)(*args, **kwargs)

    return call
