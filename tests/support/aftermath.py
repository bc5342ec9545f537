"""The start of a scan that dies, and what must hold wherever it died."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePath

from forged import assert_sound
from places import Stores, objects_of, packs_of
from sqlalchemy import text
from trees import contents, write

from cas.packs.pack import read_footer
from index import ArtifactStore

OLD = {"old": b"old bytes", "both": b"first"}
NEW = {"old": b"old bytes", "both": b"second", "new": os.urandom(4000), "big": os.urandom(3 << 20)}


@dataclass(frozen=True)
class Template:
    """A store. Each death gets a copy of it."""

    place: dict
    stores: Stores

    def copy(self, folder):
        return self.stores.copy(self.place, folder)

    def drop(self, place):
        """Remove a copy, even while its connections are in use."""
        self.stores.drop(place)
        if "root" in place:
            shutil.rmtree(place["root"])


@dataclass(frozen=True)
class Prepared(Template):
    """A store that holds OLD, and a work directory that holds NEW."""

    combination: str
    work: Path


def prepare(stores, combination, folder):
    """Return a store that holds OLD, and a directory that holds NEW, both below `folder`."""
    place = stores.make(combination, folder)
    work = folder / "work"
    write(work, OLD)
    with ArtifactStore.open(**place) as store:
        store.session("s").run("r").track(work)
    write(work, NEW)
    return Prepared(place, stores, combination, work)


def check_after_crash(place, work):
    """Check what must hold; then rescan, and check that everything is there."""
    objects = objects_of(place)
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        visible = contents(run)
        assert visible in (OLD, NEW)
        with store._context.database.reading() as connection:
            referenced = connection.execute(
                text("SELECT DISTINCT name FROM cas_packs JOIN cas_blobs ON pack_id = cas_packs.id")
            ).scalars()
            there = {PurePath(name).stem for name in packs_of(objects)}
            assert {bytes(name).hex() for name in referenced} <= there
        for name in packs_of(objects):
            data = objects.read(name)
            assert_sound(PurePath(name).stem, data)
            assert read_footer("p", len(data), lambda start, size, d=data: d[start : start + size])
        run.track(work)
        assert contents(run) == NEW
        assert contents(run, at=1) == OLD
        assert objects.leftovers() == []
    return visible
