"""Where the store is: told by options and environment, or by what lies nearest upward.

A folder tells with ``.cas/``, an embedded store, or with ``cas.toml``, a text file with two lines,
``index`` and ``blobs``, that may be committed: it never holds a password.
"""

from __future__ import annotations

import json
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from index.cli.output import printable
from index.errors import StoreNotFoundError

if TYPE_CHECKING:
    from sqlalchemy import URL

    from index.artifacts import ArtifactStore
    from index.database import Database

__all__ = ["Place", "check_config", "place_at", "write_config"]

STORE_NAME: Final = ".cas"
CONFIG_NAME: Final = "cas.toml"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the store is, as told by options and environment."""

    store: Path | None
    index: str | URL | None
    blobs: str | Path | None

    def open(self, *, create: bool) -> ArtifactStore:
        """Open the store; make it if `create` says so."""
        from index.artifacts import ArtifactStore  # not for --help: it brings SQLAlchemy

        if (self.index is None) != (self.blobs is None):
            raise click.UsageError("--index and --blobs go together; or give --store")
        if self.index is not None:
            return ArtifactStore.open(index=self.index, blobs=self.blobs, create=create)
        found = self._nearest()
        if isinstance(found, Path):
            return ArtifactStore.open(found, create=create)
        index, blobs = found
        return ArtifactStore.open(index=index, blobs=blobs, create=create)

    def open_database(self) -> Database:
        """Open the index alone, whatever its schema."""
        from index.artifacts import INDEX_NAME
        from index.database import Database, sqlite_url

        if self.index is not None:
            return Database(self.index)
        found = self._nearest()
        if not isinstance(found, Path):
            return Database(found[0])
        file = found / INDEX_NAME
        if not file.exists():
            raise StoreNotFoundError(str(found))
        return Database(sqlite_url(file.absolute()))

    def _nearest(self) -> Path | tuple[str | URL, str | Path]:
        """Return the directory of an embedded store, or an index and where the blobs are."""
        if self.store is not None:
            return self.store
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / CONFIG_NAME).is_file():
                return _read_config(folder / CONFIG_NAME)
            if (folder / STORE_NAME / "cas.json").is_file():
                return folder / STORE_NAME
        return here / STORE_NAME


def place_at(name: Path, nearest: Place) -> Place:
    """Return the store that a directory or a cas.toml is or names; ``-`` is the `nearest` one.

    A directory that isn't there, or is empty, is where an embedded store would be made.
    StoreNotFoundError for one that holds other things.
    """
    if str(name) == "-":
        return nearest
    if name.is_file():
        return Place(None, *_read_config(name))
    if (name / "cas.json").is_file() or not name.exists():
        return Place(name, None, None)
    if (name / CONFIG_NAME).is_file():
        return Place(None, *_read_config(name / CONFIG_NAME))
    if (name / STORE_NAME / "cas.json").is_file():
        return Place(name / STORE_NAME, None, None)
    if name.is_dir() and not any(name.iterdir()):
        return Place(name, None, None)
    raise StoreNotFoundError(str(name))


def check_config(place: Place) -> Path | None:
    """Return where `write_config` would note index and blobs; None if nothing is to be noted.

    click.UsageError if there is a note of another store, or the URL has a password in it.
    """
    if place.index is None or place.blobs is None:
        return None
    from sqlalchemy import make_url

    if make_url(place.index).password:
        raise click.UsageError(
            "a password does not belong into cas.toml; leave it out of the URL, and put it into"
            " ~/.pgpass or PGPASSWORD"
        )
    file = Path.cwd() / CONFIG_NAME
    if file.is_file() and _read_config(file) != _located(file, str(place.index), str(place.blobs)):
        raise click.UsageError(
            f"{printable(str(file))} names another store; change or remove it first"
        )
    return file


def write_config(place: Place, file: Path) -> None:
    """Note index and blobs for later commands, unless they are noted."""
    text = f"index = {json.dumps(place.index)}\nblobs = {json.dumps(place.blobs)}\n"
    with suppress(FileExistsError), file.open("x", encoding="utf-8") as made:
        made.write(text)


def _read_config(file: Path) -> tuple[str | URL, str | Path]:
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
        index, blobs = told["index"], told["blobs"]
    except (OSError, ValueError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise click.UsageError(
            f'{printable(str(file))} can\'t be used: {reason}; it needs two lines, index = "URL"'
            ' and blobs = "URL"'
        ) from error
    return _located(file, str(index), str(blobs))


def _located(file: Path, index: str, blobs: str) -> tuple[str | URL, str | Path]:
    """Return both, with local paths relative to the file that names them."""
    from sqlalchemy import make_url

    url = make_url(index)
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(file.parent / url.database))
    return url, blobs if "://" in blobs else file.parent / blobs
