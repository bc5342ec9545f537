"""Location of the store: from options and environment, or from the nearest parent directory.

A directory names a store with ``.cas/``, an embedded store, or with ``cas.toml``. That text file
has two lines, ``index`` and ``blobs``. You can commit it, because it never contains a password. Two
more lines, ``cache`` and ``cache_size``, may configure a local cache of remote blobs.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from index.cli.output import printable
from index.cli.units import parse_size
from index.errors import StoreNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL

    from index.api.store import ArtifactStore
    from index.db.database import Database
    from index.domain.snapshots import Progress
    from index.maintenance.recover.report import RecoveryReport

__all__ = ["StoreLocation", "check_config", "location_at", "write_config"]

STORE_NAME: Final = ".cas"
CONFIG_NAME: Final = "cas.toml"


@dataclass(frozen=True, slots=True)
class _Noted:
    """The content of a cas.toml, with local paths resolved against its directory."""

    index: str | URL
    blobs: str | Path
    cache: Path | None
    cache_size: int | None


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
        )

    def recover(
        self, *, dry_run: bool, progress: Callable[[Progress], None] | None
    ) -> RecoveryReport:
        """Rebuild the index of the store, as `index.recover` does."""
        from index.maintenance.recover.recover import recover

        found = self._resolve()
        if isinstance(found, Path):
            return recover(found, dry_run=dry_run, progress=progress)
        return recover(index=found.index, blobs=found.blobs, dry_run=dry_run, progress=progress)

    def _resolve(self) -> Path | _Noted:
        """Return the directory of an embedded store, or the URLs of index and blobs."""
        if (self.index is None) != (self.blobs is None):
            raise click.UsageError("--index and --blobs go together; or give --store")
        if self.index is not None and self.blobs is not None:
            return _Noted(self.index, self.blobs, None, None)
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
        file = found / INDEX_NAME
        if not file.exists():
            raise StoreNotFoundError(str(found))
        return Database(sqlite_url(file.absolute()))

    def _nearest(self) -> Path | _Noted:
        """Return ``--store``, or the store that the nearest parent directory names."""
        if self.store is not None:
            return self.store
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / CONFIG_NAME).is_file():
                return _read_config(folder / CONFIG_NAME)
            if (folder / STORE_NAME / "cas.json").is_file():
                return folder / STORE_NAME
        return here / STORE_NAME


def location_at(name: Path, nearest: StoreLocation) -> StoreLocation:
    """Return the store at a directory or in a cas.toml; ``-`` is the `nearest` store.

    A missing or empty directory is a place for a new embedded store. Raises StoreNotFoundError for
    a directory that contains other files.
    """
    if str(name) == "-":
        return nearest
    if name.is_file():
        return _noted_location(name, nearest)
    if (name / "cas.json").is_file() or not name.exists():
        return StoreLocation(name, None, None)
    if (name / CONFIG_NAME).is_file():
        return _noted_location(name / CONFIG_NAME, nearest)
    if (name / STORE_NAME / "cas.json").is_file():
        return StoreLocation(name / STORE_NAME, None, None)
    if name.is_dir() and not any(name.iterdir()):
        return StoreLocation(name, None, None)
    raise StoreNotFoundError(str(name))


def _noted_location(file: Path, nearest: StoreLocation) -> StoreLocation:
    noted = _read_config(file)
    return replace(
        nearest,
        store=None,
        index=noted.index,
        blobs=noted.blobs,
        cache=nearest.cache or noted.cache,
        cache_size=nearest.cache_size or noted.cache_size,
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

    if make_url(location.index).password:
        raise click.UsageError(
            "cas.toml must not contain a password; leave it out of the URL, and put it into"
            " ~/.pgpass or PGPASSWORD"
        )
    file = Path.cwd() / CONFIG_NAME
    if not file.is_file():
        return file
    noted = _read_config(file)
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


def _read_config(file: Path) -> _Noted:
    import tomllib  # an embedded store has no such file

    try:
        config = tomllib.loads(file.read_text(encoding="utf-8"))
        index, blobs = str(config["index"]), str(config["blobs"])
        cache, cache_size = (_text_or_none(config.get(name)) for name in ("cache", "cache_size"))
        return _located(file, index, blobs, cache, cache_size)
    except (OSError, ValueError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise click.UsageError(
            f'{printable(str(file))} can\'t be used: {reason}; it needs two lines, index = "URL"'
            ' and blobs = "URL"'
        ) from error


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


def _expanded(path: Path) -> Path:
    """Return a path with a leading ``~`` expanded, as a shell would do."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise click.UsageError(f"{printable(str(path))} names no home directory") from error
