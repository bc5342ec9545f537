"""Location of the store: from options and environment, or from the nearest parent directory."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from os.path import exists, isfile  # unlike pathlib's, they never raise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from index.api.location import (
    CONFIG_NAME,
    STORE_NAME,
    StoreConfig,
    expanded,
    find_store,
    located,
    open_found,
    read_config,
)
from index.cli.terminal import printable
from index.errors import (
    ConfigError,
    StoreNotFoundError,
    UnknownRunError,
    UnknownSessionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import URL

    from index.api.store import ArtifactStore
    from index.db.database import Database
    from index.domain.progress import Progress
    from index.maintenance.doctor.report import DoctorReport
    from index.maintenance.recover.report import RecoveryReport

__all__ = ["StoreLocation", "check_config", "current_directory", "location_at", "write_config"]


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

    @contextmanager
    def open(self, *, create: bool) -> Iterator[ArtifactStore]:
        """Open the store for a block, whose errors name what is close to what does not exist."""
        with self.open_alone(create=create) as store, _naming_sessions(store):
            yield store

    def open_alone(self, *, create: bool) -> ArtifactStore:
        """Open the store as one of several; create it if `create` is true."""
        return open_found(self._resolve_cached(), create=create)

    def doctor(self) -> DoctorReport:
        """Examine the store, as `index.doctor` does; also where its configuration is broken."""
        from index.maintenance.doctor.doctor import doctor, unconfigured

        try:
            found = self._resolve_cached()
        except ConfigError as error:
            return unconfigured(error)
        if isinstance(found, Path):
            return doctor(found)
        storage: Any = found.options.get("storage_options")
        return doctor(
            index=found.index,
            blobs=found.blobs,
            storage_options=storage,
            cache=None if found.cache is None else expanded(found.cache),
            cache_size=found.cache_size,
        )

    def _resolve_cached(self) -> Path | StoreConfig:
        """Return what `resolve` does, with the cache that the options set."""
        found = self.resolve()
        if not isinstance(found, StoreConfig):
            return found
        cache = (self.cache or found.cache) if self.is_cached else None
        return replace(found, cache=cache, cache_size=self.cache_size or found.cache_size)

    def recover(
        self, *, dry_run: bool, progress: Callable[[Progress], None] | None
    ) -> RecoveryReport:
        """Rebuild the index of the store, as `index.recover` does."""
        from index.maintenance.recover.recover import recover

        found = self.resolve()
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

    def resolve(self) -> Path | StoreConfig:
        """Return the directory of an embedded store, or the URLs of index and blobs."""
        if (self.index is None) != (self.blobs is None):
            raise click.UsageError("--index and --blobs go together; or give --store")
        if self.index is not None and self.blobs is not None:
            return StoreConfig(self.index, self.blobs, options=self.options)
        return self._nearest()

    def open_database(self, **waits: float) -> Database:
        """Open only the index, without a check of its schema. Waits are those of `Database`."""
        from index.context import INDEX_NAME
        from index.db.database import Database, sqlite_url

        if self.index is not None:
            return Database(self.index, **waits)
        found = self._nearest()
        if not isinstance(found, Path):
            return Database(found.index, **waits)
        database = Database(sqlite_url((found / INDEX_NAME).absolute()), **waits)
        if not database.exists():
            raise StoreNotFoundError(str(found))
        return database

    def _nearest(self) -> Path | StoreConfig:
        """Return ``--store``, or the store that the nearest parent directory names."""
        if self.store is not None:
            if isfile(self.store):
                raise click.UsageError(
                    f"--store takes a directory, not the file {printable(str(self.store))}; the"
                    " store that a cas.toml names is found from its directory and below"
                )
            return self.store
        return find_store(current_directory())


@contextmanager
def _naming_sessions(store: ArtifactStore) -> Iterator[None]:
    """Let errors of an unknown session name the closest ones of the store.

    The library does not: whom it serves may see one session only. Who runs the command sees all.
    """
    try:
        yield
    except UnknownSessionError as error:
        raise _with_closest(store, error) from None
    except UnknownRunError as error:
        try:
            store.session(error.session).runs(limit=0)
        except UnknownSessionError as unknown:
            raise _with_closest(store, unknown) from None
        raise


def _with_closest(store: ArtifactStore, error: UnknownSessionError) -> UnknownSessionError:
    from index.domain.listing import closest  # only errors need it

    near = error.closest or closest(error.session, (each.session for each in store.runs()))
    return UnknownSessionError(error.session, near)


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
    noted = read_config(file)
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
    file = current_directory() / CONFIG_NAME
    if not isfile(file):
        return file
    noted = read_config(file)
    if noted is None:
        raise click.UsageError(
            f"{printable(str(file))} names no store; add index = {json.dumps(str(location.index))}"
            f" and blobs = {json.dumps(str(location.blobs))} at its beginning"
        )
    asked = located(file, str(location.index), str(location.blobs), cache, cache_size)
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


def current_directory() -> Path:
    """Return the current directory, without links. Raises click.UsageError if it is gone."""
    try:
        return Path.cwd()
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.UsageError(
            f"the current directory can't be used: {reason}; change to another one"
        ) from error
