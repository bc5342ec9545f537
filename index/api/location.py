"""Finding of the store from a directory: it names one with ``.cas/`` or ``cas.toml``.

``.cas/`` is an embedded store. ``cas.toml`` is a text file with two lines, ``index`` and ``blobs``.
You can commit it, because it never contains a password. Two more lines, ``cache`` and
``cache_size``, may configure a local cache of remote blobs. Three may give waits, such as ``"5m"``:
``lock_wait``, ``database_wait`` and ``storage_wait``. The table ``[storage_options]`` has options
for the client of the storage. A table ``[track]`` may say what scans leave out, and ``[defaults]``
which session and run commands use. With nothing else in the file, the store is ``.cas/``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from os.path import isfile  # unlike pathlib's, it never raises
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas.redaction import Secrets
from index.domain.names import CONFIG_NAME, check_local
from index.domain.units import parse_duration, parse_size
from index.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import URL

    from index.api.store import ArtifactStore

__all__ = [
    "CONFIG_NAME",
    "DEFAULTS",
    "STORE_NAME",
    "TRACK",
    "StoreConfig",
    "expanded",
    "find_store",
    "load_config",
    "located",
    "nearest",
    "open_found",
    "read_config",
]

STORE_NAME: Final = ".cas"

TRACK: Final = "track"
"""The table of what scans leave out."""

DEFAULTS: Final = "defaults"
"""The table of what commands use where an option is not given."""

_WAITS: Final = ("lock_wait", "database_wait", "storage_wait")
_KNOWN: Final = (
    *("index", "blobs", "cache", "cache_size", *_WAITS, "storage_options", DEFAULTS, TRACK),
)
_NEEDED: Final = 'it needs two lines, index = "URL" and blobs = "URL"'


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """The content of a cas.toml, with local paths resolved against its directory."""

    index: str | URL
    blobs: str | Path
    cache: Path | None = None
    cache_size: int | None = None
    """Bytes."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Other arguments of `ArtifactStore.open`: the waits, and ``storage_options``."""


def nearest(directory: str | os.PathLike[str] | None = None) -> Path | StoreConfig:
    """Return the store that the environment names, or that of the nearest directory.

    With a directory, it is the one that is nearest to that.
    """
    if directory is not None:
        return find_store(Path(check_local(directory)).absolute())
    named = {name: os.environ.get(f"CAS_{name}") for name in ("STORE", "INDEX", "BLOBS", "CACHE")}
    if named["STORE"]:
        return Path(named["STORE"]).absolute()
    found = find_store(Path.cwd())
    if named["INDEX"] and named["BLOBS"]:
        found = StoreConfig(named["INDEX"], named["BLOBS"])
    if isinstance(found, StoreConfig) and named["CACHE"]:
        size = os.environ.get("CAS_CACHE_SIZE")
        limit = parse_size(size) if size else found.cache_size
        found = replace(found, cache=Path(named["CACHE"]), cache_size=limit)
    return found


def open_found(found: Path | StoreConfig, *, create: bool) -> ArtifactStore:
    """Open an embedded store, or the one that a cas.toml describes."""
    from index.api.store import ArtifactStore  # imports SQLAlchemy, which --help must not

    if isinstance(found, Path):
        return ArtifactStore.open(found, create=create)
    return ArtifactStore.open(
        index=found.index,
        blobs=found.blobs,
        cache=None if found.cache is None else expanded(found.cache),
        cache_size=found.cache_size,
        create=create,
        **found.options,  # type: ignore[arg-type]  # as `_options` checked them
    )


def find_store(here: Path) -> Path | StoreConfig:
    """Return the store that a directory or its nearest parent names.

    If none does, that is ``.cas/`` in the directory, which need not exist.
    """
    for folder in (here, *here.parents):
        if isfile(folder / CONFIG_NAME):
            return read_config(folder / CONFIG_NAME) or folder / STORE_NAME
        if isfile(folder / STORE_NAME / "cas.json"):
            return folder / STORE_NAME
    return here / STORE_NAME


def read_config(file: Path) -> StoreConfig | None:
    """Return what a cas.toml says about the store; None if it is only about options.

    Raises ConfigError if it can't be used.
    """
    config = load_config(file)
    for name in config:
        if name not in _KNOWN:
            close = get_close_matches(name, _KNOWN, n=1) or (", ".join(_KNOWN),)
            raise ConfigError(str(file), f"it has no setting {name!r}; it may have {close[0]}")
    if config.keys() <= {TRACK, DEFAULTS}:
        return None
    try:
        index, blobs = str(config["index"]), str(config["blobs"])
        cache, cache_size = (_text_or_none(config.get(name)) for name in ("cache", "cache_size"))
        return replace(located(file, index, blobs, cache, cache_size), options=_options(config))
    except (ValueError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(str(file), f"{reason}; {_NEEDED}") from error


def load_config(file: Path) -> dict[str, Any]:
    """Return the content of a cas.toml. Raises ConfigError if it can't be read."""
    import tomllib  # an embedded store has no such file

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(str(file), f"{error}; {_NEEDED}") from error


def located(
    file: Path, index: str, blobs: str, cache: str | None, cache_size: str | None
) -> StoreConfig:
    """Return a configuration, with local paths resolved against the directory of `file`."""
    from sqlalchemy import make_url

    url = make_url(index)
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(file.parent / url.database))
    return StoreConfig(
        url,
        blobs if "://" in blobs else file.parent / blobs,
        file.parent / expanded(Path(cache)) if cache else None,
        None if cache_size is None else parse_size(cache_size),
    )


def expanded(path: Path) -> Path:
    """Return a path with a leading ``~`` expanded, as a shell does. Raises ConfigError."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigError(str(path), "it names no home directory; give it in full") from error


def _options(config: Mapping[str, object]) -> dict[str, object]:
    """Return other arguments of `ArtifactStore.open`. Raises ValueError for wrong ones."""
    found: dict[str, object] = {
        name: parse_duration(str(config[name])).total_seconds() for name in _WAITS if name in config
    }
    storage = config.get("storage_options")
    if storage is not None:
        if not isinstance(storage, Mapping):
            raise ValueError("storage_options is a table, as in [storage_options]")
        if Secrets(storage).are_any:
            raise ValueError("credentials are found where the service's own tools look for them")
        found["storage_options"] = storage
    return found


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)
