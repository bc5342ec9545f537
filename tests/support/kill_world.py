"""A store in which operations are killed, one after the other, and what must hold throughout."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from damage import records_of
from garbage import collect
from lost import lose_index
from old_formats import index_of
from places import as_json, objects_of, packs_of
from trees import read, write
from victims import perform

from cas.digest import Digest
from cas.packs.pack import pack_object_name
from index import ArtifactStore, recover
from index.db.database import Database
from index.db.schema import HEAD, current
from index.errors import IndexPresentError

_NO_TIME = timedelta(0)

_KEPT = 5
"""Number of runs to keep. If there are more, the oldest is deleted and becomes garbage."""


@dataclass
class Attempt:
    """An operation for a victim."""

    operation: str
    told: dict
    grows: dict = field(default_factory=dict)
    """What each snapshot of a run will hold; each line of the victim confirms one more."""
    shrinks: list = field(default_factory=list)
    """Runs to delete; each line confirms one more."""
    is_sound: bool = True
    """Whether the store is sound before and during the operation."""


class World:
    """A store, another one as destination of syncs, and all acknowledged changes."""

    def __init__(self, stores, combination, folder, draw):
        self._stores = stores
        self._combination = combination
        self._folder = folder
        self._draw = draw
        self._number = 0
        self.place = stores.make(combination, folder / "store")
        self._other = stores.make(combination, folder / "other")
        self._sources = folder / "sources"
        self._expected = {}
        """For each run, what it holds at each snapshot; not read from the store."""
        self._bytes = {}
        """By digest, all bytes that the store was ever given."""
        self._told = {}
        """For each run, all that the store reported when it was complete."""
        self.found = Counter()
        """What deaths left behind."""
        for _ in range(2):
            self._do(self.track())
        self._settle()

    def drop(self):
        for place in (self.place, self._other):
            self._stores.drop(place)

    # Operations for victims.

    def track(self):
        draw, name, folders = self._draw, self._name("track"), []
        files = {f"d{n % 7}/{n}": draw.randbytes(draw.randrange(4000)) for n in range(40)}
        files |= {"large": draw.randbytes(1_500_000), "text": b"step,amplitude\n" * 9000}
        for number in range(3):
            for path in draw.sample(sorted(files), 12):
                files[path] = draw.randbytes(draw.randrange(4000))
            files[f"only/{number}"] = b"%d" % number
            files.pop(f"only/{number - 1}", None)
            folders.append(self._written(f"{name}-{number}", files))
        told = {"place": self._as_json, "run": name, "folders": [str(f) for f in folders]}
        steps = [self._known(read(folder)) for folder in folders]
        return Attempt("track", told, grows={name: steps})

    def put(self):
        name = self._name("put")
        sizes = [self._draw.randrange(3000) for _ in range(11)] + [1_200_000]
        files = {f"p{n:02}": self._draw.randbytes(size) for n, size in enumerate(sizes)}
        folder = self._written(name, files)
        steps = [self._known(dict(sorted(files.items())[: n + 1])) for n in range(len(files))]
        told = {"place": self._as_json, "run": name, "folder": str(folder)}
        return Attempt("put", told, grows={name: steps})

    def delete(self):
        gone = sorted(self._expected, key=lambda name: int(name.split("-")[1]))[:2]
        return Attempt("delete", {"place": self._as_json, "runs": gone}, shrinks=gone)

    def collect(self):
        self._make_garbage()
        return Attempt("collect", {"place": self._as_json, "compact": False})

    def compact(self):
        self._make_garbage()
        with ArtifactStore.open(**self.place) as store:
            collect(store, compact=False)
        return Attempt("collect", {"place": self._as_json, "compact": True})

    def restore(self):
        run = self._draw.choice(sorted(self._expected))
        to = self._folder / "restored"
        return Attempt("restore", {"place": self._as_json, "run": run, "to": str(to)})

    def back_up(self):
        return Attempt("back_up", {"place": self._as_json})

    def recover(self):
        lose_index(self.place)
        return Attempt("recover", {"place": self._as_json}, is_sound=False)

    def sync(self):
        self._do(self.track())
        return Attempt("sync", {"place": self._as_json, "other": json.loads(as_json(self._other))})

    def repair(self):
        self._damage()
        with ArtifactStore.open(**self.place) as store:
            assert not store.verify(depth="bytes").is_sound
        told = {"place": self._as_json, "folder": str(self._sources)}
        return Attempt("repair", told, is_sound=False)

    # What must hold.

    def check_killed(self, attempt, said):
        """Check that all acknowledged changes are there, and that others are whole or absent."""
        self._wait_for_the_dead()
        check = getattr(self, f"_after_{attempt.operation}", None)
        if check is not None:
            check(attempt, said)
        if attempt.operation == "recover":
            return
        with ArtifactStore.open(**self.place, create=False) as store:
            report = store.verify(depth="bytes")
            assert report.is_sound == attempt.is_sound or attempt.operation == "repair"
            assert not attempt.is_sound or not report.faults
            self.found["packs that were noted, and not recorded"] += bool(report.pending)
            self.found["packs that no row knows"] += bool(report.orphan_count)
            self.found["staged files"] += bool(objects_of(self.place).leftovers())
            if attempt.is_sound:
                self._compare(store, attempt, said)

    def complete(self, attempt):
        """Do the interrupted operation again; check that it completes and leaves no garbage."""
        self._do(attempt)
        self._settle(attempt)

    def _do(self, attempt):
        told = dict(attempt.told)
        for name, steps in attempt.grows.items():
            if "folders" in told:
                with ArtifactStore.open(**self.place) as store:
                    done = len(_snapshots(store, name))
                told["folders"] = told["folders"][done:]
            self._expected[name] = steps
        for name in attempt.shrinks:
            self._expected.pop(name, None)
        if attempt.operation == "recover" and self._has_index():
            with pytest.raises(IndexPresentError):
                perform(attempt.operation, told)
            return
        perform(attempt.operation, told)

    def _settle(self, attempt=None):
        """Check everything, remember the reports, and check that nothing is left to collect."""
        if attempt is not None:
            check = getattr(self, f"_done_{attempt.operation}", None)
            if check is not None:
                check(attempt)
        with ArtifactStore.open(**self.place, create=False) as store:
            collect(store, remove_orphans=True)
            plan = store.plan_gc(grace=_NO_TIME, remove_orphans=True)
            assert list(plan.iter_blobs()) == []
            assert plan.orphans == ()
            # The name of a pack that was never published stays reserved, for a late publisher.
            there = set(packs_of(objects_of(self.place)))
            assert {pack.reason for pack in plan.packs} <= {"dead"}
            assert not there & {pack_object_name(pack.name) for pack in plan.packs}
            if plan.compacted:  # the rewritten entries are one more small pack
                assert {pack.reason for pack in plan.compacted} == {"small"}
                plan.execute()
                assert store.plan_gc(grace=_NO_TIME).compacted == ()
            report = store.verify(depth="bytes")
            assert report.is_sound, report.faults
            assert (report.pending, report.orphan_count) == (0, 0)
            told = self._telling(store)
            for name, before in self._told.items():
                assert told.get(name, before) == before
            assert {name: each.held for name, each in told.items()} == self._expected
            self._told = told
        assert objects_of(self.place).leftovers() == []
        self._check_folder()

    def _compare(self, store, attempt, said):
        told = self._telling(store)
        for name, before in self._told.items():
            if name not in attempt.shrinks:
                assert told[name] == before
        for name, steps in attempt.grows.items():
            held = told[name].held if name in told else []
            assert held == steps[: len(held)]
            assert len(said) <= len(held) <= len(said) + 1
            self.found["commits that were not acknowledged"] += len(held) - len(said)
        there = [name for name in attempt.shrinks if name in told]
        assert there in (attempt.shrinks[len(said) :], attempt.shrinks[len(said) + 1 :])
        assert told.keys() <= self._expected.keys() | attempt.grows.keys() | set(attempt.shrinks)

    def _after_restore(self, attempt, _said):
        to = Path(attempt.told["to"])
        final = self._expected[attempt.told["run"]][-1]
        if to.exists():
            there = {p: Digest.of(d) for p, d in read(to).items() if not p.startswith(".cas-")}
            assert there.items() <= final.items()
            self.found["restores in part"] += there.keys() != final.keys()

    def _done_restore(self, attempt):
        to = Path(attempt.told["to"])
        restored = {path: Digest.of(data) for path, data in read(to).items()}
        assert restored == self._expected[attempt.told["run"]][-1]
        shutil.rmtree(to)

    def _after_sync(self, _attempt, said):
        with ArtifactStore.open(**self._other, create=False) as other:
            report = other.verify(depth="bytes")
            assert report.is_sound, report.faults
            told = self._telling(other)
            for name, each in told.items():
                assert each.held == self._expected[name][: len(each.held)]
            for name in said:
                assert told[name].held == self._expected[name]

    def _done_sync(self, _attempt):
        with ArtifactStore.open(**self._other, create=False) as other:
            told = self._telling(other)
            assert {name: each.held for name, each in told.items()} == self._expected
            collect(other, remove_orphans=True)
            report = other.verify(depth="bytes")
            assert report.is_sound, report.faults
            assert (report.pending, report.orphan_count) == (0, 0)
        assert objects_of(self._other).leftovers() == []

    def _done_back_up(self, _attempt):
        """Check that a copy of the store with a lost index recovers everything."""
        copied = self._stores.copy(self.place, self._folder / f"copy-{self._number}")
        self._number += 1
        lose_index(copied)
        report = recover(**copied)
        assert report.lost == ()
        assert report.from_backup is not None
        with ArtifactStore.open(**copied, create=False) as store:
            assert self._telling(store) == self._told
        self._stores.drop(copied)
        if "root" in copied:
            shutil.rmtree(copied["root"])

    def _after_recover(self, _attempt, _said):
        self.found["recoveries that were done"] += self._has_index()

    def _after_repair(self, _attempt, _said):
        with ArtifactStore.open(**self.place, create=False) as store:
            for name, before in self._told.items():
                run = store.session("s").run(name)
                assert len(run.snapshots()) == len(before.held)

    def _done_repair(self, _attempt):
        objects = objects_of(self.place)
        aside = [name for name in objects.names() if name.startswith("damaged/")]
        assert aside
        for name in aside:
            objects.remove(name)

    # Helpers.

    @property
    def _as_json(self):
        return json.loads(as_json(self.place))

    def _name(self, of):
        self._number += 1
        return f"{of}-{self._number}"

    def _known(self, files):
        """Remember bytes; return their digests by path."""
        digests = {path: Digest.of(data) for path, data in files.items()}
        self._bytes |= {digests[path]: data for path, data in files.items()}
        return digests

    def _telling(self, store):
        return _told(store, self._bytes)

    def _written(self, name, files):
        folder = self._sources / name
        write(folder, files)
        return folder

    def _make_garbage(self):
        """Leave a pack that is mostly garbage, and many small packs."""
        draw, deleted, kept = self._draw, self._name("deleted"), self._name("kept")
        files = {f"{n}": draw.randbytes(draw.randrange(20_000)) for n in range(120)}
        files["large"] = draw.randbytes(1_300_000)
        folder = self._written(deleted, files)
        few = {path: files[path] for path in sorted(files)[::9]} | {"large": files["large"]}
        with ArtifactStore.open(**self.place) as store:
            session = store.session("s")
            session.run(deleted).track(folder)
            for path, data in sorted(few.items()):
                session.run(kept).put(path, data)
            session.run(deleted).delete()
            steps = [dict(sorted(few.items())[: n + 1]) for n in range(len(few))]
            self._expected[kept] = [self._known(step) for step in steps]
            self._told[kept] = self._telling(store)[kept]
        self._written(kept, few)
        shutil.rmtree(folder)

    def _damage(self):
        """Flip a bit in some blobs that the sources also have."""
        objects = objects_of(self.place)
        needed = {d for steps in self._expected.values() for step in steps for d in step.values()}
        mine = {digest for digest in needed if self._bytes[digest]}
        found = []
        for name in packs_of(objects):
            data = objects.read(name)
            for _, _, digest, offset, stored, _ in records_of(data):
                if Digest(digest) in mine:
                    found.append((name, offset + stored // 2))
        for name, at in self._draw.sample(sorted(found), 3):
            data = bytearray(objects.read(name))
            data[at] ^= 0x10
            objects.write(name, bytes(data))

    def _has_index(self):
        database = Database(index_of(self.place))
        try:
            if database.file is not None:
                return Path(database.file).exists()
            if current(database) is None:
                return False
            with database.reading() as connection:
                return connection.exec_driver_sql("SELECT count(*) FROM cas_store").scalar() == 1
        finally:
            database.close()

    def _wait_for_the_dead(self):
        """Return when a server has noticed that the victim is dead."""
        url = str(self.place.get("index", ""))
        if url.startswith("postgresql"):
            others = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
                while connection.execute(others).fetchone() != (0,):
                    pass

    def _check_folder(self):
        """Check that the victim left nothing beside the index."""
        if "root" in self.place:
            there = {path.name for path in self.place["root"].iterdir()}
            assert there <= {"cas.json", "damaged", "index.db", "index.json", "packs", "tmp"}, there

    def tidy(self):
        """Delete the oldest runs and their sources."""
        names = sorted(self._expected, key=lambda name: int(name.split("-")[1]))
        with ArtifactStore.open(**self.place) as store:
            for name in names[:-_KEPT]:
                store.session("s").run(name).delete()
                del self._expected[name], self._told[name]
                for folder in self._sources.glob(f"{name}*"):
                    shutil.rmtree(folder)
        with ArtifactStore.open(**self._other) as other:
            for summary in other.runs():
                if summary.run not in self._expected:
                    other.session("s").run(summary.run).delete()
        needed = {d for steps in self._expected.values() for step in steps for d in step.values()}
        self._bytes = {digest: self._bytes[digest] for digest in needed}


class NewWorld:
    """A new, empty database for each victim, which creates the tables in it."""

    def __init__(self, stores, combination):
        self._stores = stores
        self._combination = combination
        self._place = None

    def migrate(self):
        self._place = self._stores.nowhere(self._combination, embedded=False)
        return Attempt("migrate", {"index": index_of(self._place)})

    def check_killed(self, _attempt, _said):
        database = Database(index_of(self._place))
        assert current(database) in (None, HEAD)
        database.close()

    def complete(self, attempt):
        perform(attempt.operation, attempt.told)
        database = Database(index_of(self._place))
        assert current(database) == HEAD
        database.close()
        with ArtifactStore.open(**self._place) as store:
            store.session("s").run("r").put("f", b"1")
            assert store.verify(depth="bytes").is_sound
        self._stores.drop(self._place)


def _snapshots(store, name):
    there = {summary.run for summary in store.runs()}
    return store.session("s").run(name).snapshots() if name in there else ()


@dataclass(frozen=True)
class Told:
    """All that a store reports about a run, without what a recovery loses."""

    summary: object
    snapshots: list
    versions: list
    held: list
    """At each snapshot: paths and digests. Their bytes were read."""


def _told(store, known):
    """Return the reports on each run; compare every byte with `known`."""
    told, seen = {}, set()
    for summary in store.runs():
        run = store.session("s").run(summary.run)
        snapshots = run.snapshots()
        versions = [asdict(v) for s in snapshots for v in (*s.added, *s.changed)]
        for version in versions:
            del version["id"]
        held = []
        for snapshot in snapshots:
            files = run.files(at=snapshot.number)
            held.append({v.path: v.digest for v in files})
            for version in files:
                if version.digest not in seen:
                    seen.add(version.digest)
                    data = run.read_bytes(version.path, at=snapshot.number)
                    assert data == known[version.digest]
        numbers = [(s.number, s.created_at, s.provenance, s.unchanged) for s in snapshots]
        told[summary.run] = Told(summary, numbers, versions, held)
    return told
