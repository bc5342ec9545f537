"""Places of the tests' stores: each kind of index with each kind of blobs.

A place is a dict of arguments of `ArtifactStore.open`. Every store is a copy of an empty one,
migrated once for each combination. PostgreSQL and S3 are real, and start when a test first needs
them. That PostgreSQL hands out ids in no order, because only SQLite promises one.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from index import ArtifactStore

INDEXES = ("sqlite", "postgresql")
BLOBS = ("local", "s3")
COMBINATIONS = tuple(f"{index}-{blobs}" for index in INDEXES for blobs in BLOBS)
CORNERS = ("sqlite-local", "postgresql-s3")
"""Each index and each kind of blobs once, for tests that do not depend on the pairing."""
EACH_INDEX = ("sqlite-local", "postgresql-local")
"""For tests that depend on the index alone."""

everywhere = pytest.mark.parametrize("place", COMBINATIONS, indirect=True)
"""Run a test on all four combinations, because it may depend on the pairing."""


def on(*, index=None, blobs=None, because, fixture="place", every_pair=False):
    """Run a test only on this index and these blobs; `because` says what others lack.

    It runs on a corner if one matches, with local blobs if only the index is given, and with
    `every_pair` on all matching combinations.
    """
    assert because
    chosen = [
        name
        for name in COMBINATIONS
        if index in (None, name.split("-")[0]) and blobs in (None, name.split("-")[1])
    ]
    if not every_pair:
        few = CORNERS if blobs else EACH_INDEX
        chosen = [name for name in chosen if name in few] or chosen
    return pytest.mark.parametrize(fixture, chosen, indirect=True)


def places(combinations):
    """Return the fixture `place` for a module whose tests run on these combinations."""

    @pytest.fixture(params=combinations, name="place")
    def place(request, stores, tmp_path):
        """The place of an empty store, for `ArtifactStore.open`."""
        made = stores.make(request.param, tmp_path / "place")
        yield made
        stores.drop(made)

    return place


def on_one(*, because, fixture="place"):
    """Run a test on SQLite and local blobs alone; `because` says why the others say the same."""
    return on(index="sqlite", blobs="local", because=because, fixture=fixture)


class Servers:
    """PostgreSQL and S3 for as long as the tests run; a context manager."""

    def __enter__(self):
        self._stack = ExitStack()
        return self

    def __exit__(self, *error):
        self._stack.close()

    @cached_property
    def databases(self):
        from postgres import Databases, PostgresServer

        if url := os.environ.get("CAS_TEST_POSTGRES"):
            return self._stack.enter_context(closing(Databases(url)))
        server = PostgresServer()
        self._stack.callback(server.stop)
        databases = Databases(server.url())
        self._stack.callback(databases.disconnect)
        return databases

    @cached_property
    def s3(self):
        from s3 import s3_place  # importing botocore takes long

        return self._stack.enter_context(s3_place())

    @cached_property
    def s3_session(self):
        """Clients of S3, made once instead of once for each store."""
        from shared import SharedClients

        return self._stack.enter_context(closing(SharedClients(self.s3.endpoint)))


class Stores:
    """Makes stores on each combination, and copies of a store on the same one."""

    def __init__(self, servers, folder):
        self._servers = servers
        self._folder = folder
        self._empty = {}
        self._bytes = {}
        """What the buckets of empty stores hold."""

    def make(self, combination, folder, *, prepare=None):
        """Return the place of a new, empty store; its local files are below `folder`.

        With `prepare`, the index is in another owner's database, and `prepare` was called with its
        URL. Index and blobs then are apart even where both are local.
        """
        key = (combination, prepare)
        if key not in self._empty:
            self._empty[key] = self.nowhere(combination, embedded=prepare is None)
            if combination.startswith("postgresql"):
                from postgres import shuffle_ids

                shuffle_ids(self._empty[key]["index"])
            if prepare is not None:
                prepare(self._empty[key]["index"])
            ArtifactStore.open(**self._empty[key]).close()
            if "storage_options" in self._empty[key]:
                self._bytes[self._empty[key]["blobs"]] = bytes_of(self._empty[key])
        return self.copy(self._empty[key], folder)

    def copy(self, place, folder):
        """Return the place of a copy; nobody may have the store open."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if "root" in place:
            return {"root": shutil.copytree(place["root"], folder / "store")}
        copied = self._copy_blobs(place, folder)
        if place["index"].startswith("sqlite"):
            index = folder / "index.db"
            shutil.copyfile(place["index"].removeprefix("sqlite:///"), index)
            return {"index": f"sqlite:///{index}", **copied}
        return {"index": self._servers.databases.create(place["index"]), **copied}

    def drop(self, place):
        """Remove a place's database. Folders and the test bucket are removed elsewhere."""
        if place.get("index", "sqlite").startswith("postgresql"):
            self._servers.databases.drop(place["index"])

    def _copy_blobs(self, place, folder):
        if "storage_options" not in place:
            return {"blobs": shutil.copytree(place["blobs"], folder / "store")}
        copied = self._bucket()
        there = objects_of(copied)
        held = self._bytes.get(place["blobs"]) or bytes_of(place)
        for name, data in held.items():
            there.write(name, data)
        return copied

    def nowhere(self, combination, *, embedded=True):
        """Return a place without a store."""
        index, blobs = combination.split("-")
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir()
        if embedded and combination == "sqlite-local":
            return {"root": folder / "store"}
        where = {"blobs": folder / "store"} if blobs == "local" else self._bucket()
        if index == "sqlite":
            return {"index": f"sqlite:///{folder / 'index.db'}", **where}
        return {"index": self._servers.databases.create(), **where}

    def _bucket(self):
        place = self._servers.s3.elsewhere()
        options = place.options(session=self._servers.s3_session)
        return {"blobs": place.url, "storage_options": options}


class LocalObjects:
    """A directory of blobs, read and damaged without the library."""

    def __init__(self, root):
        self.root = Path(root)

    def names(self):
        """Return the names of all objects, without staged ones."""
        files = (path for path in self.root.rglob("*") if path.is_file())
        names = {str(path.relative_to(self.root)) for path in files}
        return {name for name in names if not name.startswith(("tmp/", "index.db"))}

    def read(self, name):
        return (self.root / name).read_bytes()

    def write(self, name, data):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(data)

    def remove(self, name):
        (self.root / name).unlink()

    def leftovers(self):
        """Return the staged files that writers left."""
        return sorted(path.name for path in (self.root / "tmp").iterdir())


def bytes_of(place):
    """Return all objects in a store's storage."""
    there = objects_of(place)
    return {name: there.read(name) for name in there.names()}


def objects_of(place):
    """Return the objects in a store's storage, read below the API."""
    if "storage_options" not in place:
        return LocalObjects(place.get("root", place.get("blobs")))
    from s3 import Inspector, Place

    options = place["storage_options"]
    url = urlsplit(place["blobs"])
    return Inspector(
        Place(
            options["endpoint_url"],
            url.netloc,
            url.path.lstrip("/"),
            options.get("key"),
            options.get("secret"),
        )
    )


def through(place, proxy):
    """Return the place with a proxy between the store and S3."""
    options = {**place["storage_options"], "endpoint_url": proxy.url}
    return {**place, "storage_options": options}


def packs_of(objects):
    """Return the names of the packs among objects."""
    return sorted(name for name in objects.names() if name.startswith("packs/"))


def as_json(place):
    """Return a place as text for another process, which uses ``**json.loads(text)``."""
    told = {name: str(value) for name, value in place.items()}
    if "storage_options" in place:
        options = place["storage_options"].items()
        told["storage_options"] = {name: value for name, value in options if name != "session"}
    return json.dumps(told)


def filesystem_options(place):
    """Return the options of a filesystem over a place."""
    options = dict(place)
    if "root" in options:
        options["store"] = str(options.pop("root"))
    return options


def environment_of(place):
    """Return the environment of a command that uses a store which `cas.toml` does not name."""
    told = {"CAS_INDEX": place["index"], "CAS_BLOBS": str(place["blobs"])}
    return told | credentials_of(place)


def credentials_of(place):
    """Return the environment variables of AWS's tools for the values in `storage_options`."""
    options = place.get("storage_options", {})
    names = {
        "key": "AWS_ACCESS_KEY_ID",
        "secret": "AWS_SECRET_ACCESS_KEY",
        "endpoint_url": "AWS_ENDPOINT_URL",
    }
    return {names[option]: value for option, value in options.items() if option in names}
