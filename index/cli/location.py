"""Location of the store: from options and environment, or from the nearest parent directory.

A directory names a store with ``.cas/``, an embedded store, or with ``cas.toml``. That text file
has two lines, ``index`` and ``blobs``. You can commit it, because it never contains a password. Two
more lines, ``cache`` and ``cache_size``, may configure a local cache of remote blobs. Three may
give waits, such as ``"5m"``: ``lock_wait``, ``database_wait`` and ``storage_wait``. The table
``[storage_options]`` has options for the client of the storage.
A table ``[track]`` may say what scans leave out. With nothing else in the file, the store is
``.cas/``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from os.path import exists, isfile  # unlike pathlib's, they never raise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cas.redaction import Secrets
from index.cli.output import printable
from index.cli.units import parse_duration, parse_size
from index.errors import StoreNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL

    from index.api.store import ArtifactStore
    from index.db.database import Database
    from index.domain.snapshots import Progress
    from index.maintenance.recover.report import RecoveryReport

__all__ = ["StoreLocation", "check_config", "location_at", "track_settings", "write_config"]

STORE_NAME: Final = ".cas"
CONFIG_NAME: Final = "cas.toml"

_WAITS: Final = ("lock_wait", "database_wait", "storage_wait")
_NEEDED: Final = 'it needs two lines, index = "URL" and blobs = "URL"'
_TRACK: Final = "track"
_TRACK_FLAGS: Final = ("hidden", "default_ignores", "gitignore")


@dataclass(frozen=True, slots=True)
class _Noted:
    """The content of a cas.toml, with local paths resolved against its directory."""

    index: str | URL
    blobs: str | Path
    cache: Path | None = None
    cache_size: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    """Other arguments of `ArtifactStore.open`: the waits, and ``storage_options``."""


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """Location of the store, from options and environment."""

    store: Path | None
    index: str | URL | None
    blobs: str | Path | None
    cache: Path | None = None
    cache_size: int | None = None
    """Bytes."""
    is_cached: bool = True
    """Whether a configured cache may be used."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Other arguments of `ArtifactStore.open`, from a cas.toml."""

    def open(self, *, create: bool) -> ArtifactStore:
        """Open the store; create it if `create` is true."""
        from index.api.store import ArtifactStore  # imports SQLAlchemy, which --help must not

        found = self._resolve()
        if isinstance(found, Path):
            return ArtifactStore.open(found, create=create)
        cache = (self.cache or found.cache) if self.is_cached else None
        return ArtifactStore.open(
            index=found.index,
            blobs=found.blobs,
            cache=None if cache is None else _expanded(cache),
            cache_size=self.cache_size or found.cache_size,
            create=create,
            **found.options,  # type: ignore[arg-type]  # as `_options` checked them
        )

    def recover(
        self, *, dry_run: bool, progress: Callable[[Progress], None] | None
    ) -> RecoveryReport:
        """Rebuild the index of the store, as `index.recover` does."""
        from index.maintenance.recover.recover import recover

        found = self._resolve()
        if isinstance(found, Path):
            return recover(found, dry_run=dry_run, progress=progress)
        storage: Any = found.options.get("storage_options")
        return recover(
            index=found.index,
            blobs=found.blobs,
            storage_options=storage,
            dry_run=dry_run,
            progress=progress,
        )

    def _resolve(self) -> Path | _Noted:
        """Return the directory of an embedded store, or the URLs of index and blobs."""
        if (self.index is None) != (self.blobs is None):
            raise click.UsageError("--index and --blobs go together; or give --store")
        if self.index is not None and self.blobs is not None:
            return _Noted(self.index, self.blobs, options=self.options)
        return self._nearest()

    def open_database(self) -> Database:
        """Open only the index, without a check of its schema."""
        from index.context import INDEX_NAME
        from index.db.database import Database, sqlite_url

        if self.index is not None:
            return Database(self.index)
        found = self._nearest()
        if not isinstance(found, Path):
            return Database(found.index)
        database = Database(sqlite_url((found / INDEX_NAME).absolute()))
        if not database.exists():
            raise StoreNotFoundError(str(found))
        return database

    def _nearest(self) -> Path | _Noted:
        """Return ``--store``, or the store that the nearest parent directory names."""
        if self.store is not None:
            if isfile(self.store):
                raise click.UsageError(
                    f"--store takes a directory, not the file {printable(str(self.store))}; the"
                    " store that a cas.toml names is found from its directory and below"
                )
            return self.store
        here = _current_directory()
        for folder in (here, *here.parents):
            if isfile(folder / CONFIG_NAME):
                return _read_config(folder / CONFIG_NAME) or folder / STORE_NAME
            if isfile(folder / STORE_NAME / "cas.json"):
                return folder / STORE_NAME
        return here / STORE_NAME


def location_at(name: Path, nearest: StoreLocation) -> StoreLocation:
    """Return the store at a directory or in a cas.toml; ``-`` is the `nearest` store.

    A missing or empty directory is a place for a new embedded store. Raises StoreNotFoundError for
    a directory that contains other files.
    """
    if str(name) == "-":
        return nearest
    if isfile(name):
        return _noted_location(name, nearest)
    if isfile(name / "cas.json") or not exists(name):
        return StoreLocation(name, None, None)
    if isfile(name / CONFIG_NAME):
        return _noted_location(name / CONFIG_NAME, nearest)
    if isfile(name / STORE_NAME / "cas.json"):
        return StoreLocation(name / STORE_NAME, None, None)
    if name.is_dir() and not any(name.iterdir()):
        return StoreLocation(name, None, None)
    raise StoreNotFoundError(str(name))


def _noted_location(file: Path, nearest: StoreLocation) -> StoreLocation:
    noted = _read_config(file)
    if noted is None:
        return StoreLocation(file.parent / STORE_NAME, None, None)
    return replace(
        nearest,
        store=None,
        index=noted.index,
        blobs=noted.blobs,
        cache=nearest.cache or noted.cache,
        cache_size=nearest.cache_size or noted.cache_size,
        options=noted.options,
    )


def check_config(
    location: StoreLocation, *, cache: str | None, cache_size: str | None
) -> Path | None:
    """Return the file that `write_config` would write; None if there is nothing to write.

    Raises click.UsageError if the file names another store or cache, or the URL has a password.
    """
    if location.index is None or location.blobs is None:
        return None
    from sqlalchemy import make_url

    from index.db.engines import has_password

    if has_password(make_url(location.index)):
        raise click.UsageError(
            "cas.toml must not contain a password; leave it out of the URL, and put it into"
            " ~/.pgpass or PGPASSWORD"
        )
    file = _current_directory() / CONFIG_NAME
    if not isfile(file):
        return file
    noted = _read_config(file)
    if noted is None:
        raise click.UsageError(
            f"{printable(str(file))} names no store; add index = {json.dumps(str(location.index))}"
            f" and blobs = {json.dumps(str(location.blobs))} at its beginning"
        )
    asked = _located(file, str(location.index), str(location.blobs), cache, cache_size)
    if (noted.index, noted.blobs) != (asked.index, asked.blobs):
        raise click.UsageError(
            f"{printable(str(file))} names another store; change or remove it first"
        )
    if (cache is not None and noted.cache != asked.cache) or (
        cache_size is not None and noted.cache_size != asked.cache_size
    ):
        raise click.UsageError(f"{printable(str(file))} names another cache; change its lines")
    return file


def write_config(
    location: StoreLocation, file: Path, *, cache: str | None, cache_size: str | None
) -> None:
    """Write index, blobs and the cache, if any, to cas.toml for later commands.

    An existing file stays as it is.
    """
    lines = {
        "index": str(location.index),
        "blobs": str(location.blobs),
        "cache": cache,
        "cache_size": cache_size,
    }
    text = "".join(
        f"{name} = {json.dumps(value)}\n" for name, value in lines.items() if value is not None
    )
    with suppress(FileExistsError), file.open("x", encoding="utf-8") as made:
        made.write(text)


def track_settings(*, ignore: tuple[str, ...], **flags: bool | None) -> dict[str, Any]:
    """Return the arguments of `Run.track` that the nearest cas.toml and the options set.

    Options take precedence over the file, and its patterns come before theirs. A flag that neither
    has is not in the result.
    """
    try:
        here = Path.cwd()
        folders = (here, *here.parents)
    except OSError:  # it was removed; what is needed may be given in full
        folders = ()
    files = (folder / CONFIG_NAME for folder in folders)
    file = next((file for file in files if isfile(file)), None)
    noted = {} if file is None else _checked_settings(file, _load(file).get(_TRACK, {}))
    given = {name: value for name, value in flags.items() if value is not None}
    return {**noted, **given, "ignore": (*noted.get("ignore", ()), *ignore)}


def _checked_settings(file: Path, table: object) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise _unusable(file, f"{_TRACK} is no table; write [{_TRACK}] on a line of its own")
    for name, value in table.items():
        if name == "ignore":
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise _unusable(file, "ignore in [track] is a list of patterns in quotes")
        elif name not in _TRACK_FLAGS:
            known = ", ".join(("ignore", *_TRACK_FLAGS))
            raise _unusable(file, f"[track] has no setting {name!r}; it has {known}")
        elif not isinstance(value, bool):
            raise _unusable(file, f"{name} in [track] is true or false")
    return table


def _read_config(file: Path) -> _Noted | None:
    """Return what a cas.toml says about the store; None if it is only about scans."""
    config = _load(file)
    if config.keys() == {_TRACK}:
        return None
    try:
        index, blobs = str(config["index"]), str(config["blobs"])
        cache, cache_size = (_text_or_none(config.get(name)) for name in ("cache", "cache_size"))
        located = _located(file, index, blobs, cache, cache_size)
        return replace(located, options=_options(config))
    except (ValueError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise _unusable(file, f"{reason}; {_NEEDED}") from error


def _load(file: Path) -> dict[str, Any]:
    import tomllib  # an embedded store has no such file

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unusable(file, f"{error}; {_NEEDED}") from error


def _unusable(file: Path, reason: str) -> click.UsageError:
    return click.UsageError(f"{printable(str(file))} can't be used: {reason}")


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


def _located(
    file: Path, index: str, blobs: str, cache: str | None, cache_size: str | None
) -> _Noted:
    """Return the configuration, with local paths resolved against the directory of `file`."""
    from sqlalchemy import make_url

    url = make_url(index)
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(file.parent / url.database))
    return _Noted(
        url,
        blobs if "://" in blobs else file.parent / blobs,
        file.parent / _expanded(Path(cache)) if cache else None,
        None if cache_size is None else parse_size(cache_size),
    )


def _current_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.UsageError(
            f"the current directory can't be used: {reason}; change to another one"
        ) from error


def _expanded(path: Path) -> Path:
    """Return a path with a leading ``~`` expanded, as a shell would do."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise click.UsageError(f"{printable(str(path))} names no home directory") from error
