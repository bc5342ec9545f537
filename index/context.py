"""The context that all handles of one open store share."""

from __future__ import annotations

import atexit
import os
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias
from weakref import WeakValueDictionary

from index.db.database import sqlite_url
from index.domain.names import check_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from functools import partial

    from sqlalchemy import URL

    from cas.cache.files import LocalFiles
    from cas.store import BlobStore
    from index.db.database import Database
    from index.domain.classification import Classifier
    from index.domain.run_state import StateCache

__all__ = [
    "INDEX_NAME",
    "Handle",
    "OwnFiles",
    "StoreContext",
    "reopened",
    "resolve_location",
    "utc_now",
]

INDEX_NAME: Final = "index.db"
"""The SQLite index of an embedded store, inside its directory."""


def utc_now() -> datetime:
    """Return the present time in UTC: the default clock of a store."""
    return datetime.now(UTC)


def resolve_location(
    root: str | os.PathLike[str] | None,
    index: str | URL | None,
    blobs: str | os.PathLike[str] | None,
) -> tuple[str | URL, str | Path]:
    """Return the URL of the index and the place of the blobs. See `ArtifactStore.open`.

    Raises
    ------
    ValueError
        Unless either `root` alone is given, or `index` and `blobs`; or when nothing can have such a
        path.
    """
    if root is not None:
        if index is not None or blobs is not None:
            raise ValueError("give either root, or index and blobs")
        path = Path(check_local(root))
        return sqlite_url(path.absolute() / INDEX_NAME), path
    if index is None or blobs is None:
        raise ValueError("give either root, or both index and blobs")
    is_url = isinstance(blobs, str) and ("://" in blobs or blobs == "memory:")
    return index, blobs if isinstance(blobs, str) and is_url else Path(check_local(blobs))


Identity: TypeAlias = tuple[int, int]
"""Device and inode: what a file or directory is, by whatever name it is reached."""


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """What belongs to a store, by whatever name it is reached: a link, a mount, another path."""

    identities: frozenset[Identity]
    """What exists now."""
    names: Mapping[Identity, frozenset[str]]
    """Names in directories that the store shares with others; SQLite creates some of them later."""

    @classmethod
    def of(cls, paths: Iterable[str]) -> OwnFiles:
        """Return the present identities of absolute paths."""
        identities = set()
        names: defaultdict[Identity, set[str]] = defaultdict(set)
        for path in map(Path, paths):
            with suppress(OSError):
                names[_identity(path.parent.stat())].add(path.name)
                identities.add(_identity(path.stat()))
        return cls(frozenset(identities), {where: frozenset(each) for where, each in names.items()})

    def __contains__(self, status: os.stat_result) -> bool:
        return _identity(status) in self.identities

    def __bool__(self) -> bool:
        return bool(self.names)

    def names_in(self, directory: os.stat_result) -> frozenset[str]:
        """Return the names in a directory that belong to the store."""
        return self.names.get(_identity(directory), frozenset())


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


class Handle:
    """What stands for an open store or a part of it. A copy of a handle is the handle itself."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self


@dataclass(frozen=True, slots=True, weakref_slot=True)
class StoreContext(Handle):
    """The database, blob store and settings of one open store.

    Handles of sessions and runs hold their ids and one of these. It pickles as how to open the
    store again, and so do they.
    """

    database: Database
    blobs: BlobStore
    states: StateCache
    clock: Callable[[], datetime]
    classifier: Classifier
    local_files: LocalFiles
    """Lends file versions as local files."""
    own_paths: Sequence[str] = ()
    """Local, absolute paths that belong to the store. Scans never track them."""
    reopen: partial[StoreContext] | None = None
    """Returns this context in the process that calls it; None if the store was not opened by
    `ArtifactStore.open`."""

    def __post_init__(self) -> None:
        if self.reopen is not None:
            _contexts[_key(**self.reopen.keywords)] = self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.reopen is None:
            raise TypeError(f"the store {self.database.url} can't be pickled: open it with `open`")
        return self.reopen, ()

    @property
    def own_files(self) -> OwnFiles:
        """What is at `own_paths` now."""
        return OwnFiles.of(self.own_paths)

    def owns(self, path: str) -> bool:
        """Whether a path belongs to the store or lies inside it."""
        own = self.own_files
        place = Path(os.path.realpath(path)) if own else None
        while place is not None:
            with suppress(OSError):  # it may not exist yet
                if place.stat() in own:
                    return True
            with suppress(OSError):
                if place.name in own.names_in(place.parent.stat()):
                    return True
            place = place.parent if place != place.parent else None
        return False


_contexts: Final[WeakValueDictionary[tuple[int, str, str], StoreContext]] = WeakValueDictionary()
"""The stores that were opened, by process, index and blobs."""

_reopening: Final = threading.Lock()


def reopened(opener: Callable[..., Any], **how: Any) -> StoreContext:  # noqa: ANN401
    """Return the context of a store that this process has open; open it if there is none."""
    with _reopening:
        context = _contexts.get(_key(**how))
        if context is not None and context.database.is_open:
            return context
        store = opener(**how, create=False)
        atexit.register(store.close)  # the handles that share it can't know when to close it
        opened: StoreContext = store.context
        return opened


def _key(*, index: str, blobs: str | Path, **_others: object) -> tuple[int, str, str]:
    return os.getpid(), index, str(blobs)
