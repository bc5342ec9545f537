"""A whole store against a model of dicts: writers, collections, damage, repair, lost indexes.

Several stores are open on one place, each with its own arbitrary clock. Whatever they do, in any
order and in the middle of each other, every run holds what the model says at each of its snapshots.
Every byte is right, or was dropped. While storage is damaged on purpose and not yet repaired, a
read may fail, but never returns other bytes, and verification reports the damage.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing, nullcontext
from datetime import timedelta
from pathlib import Path, PurePath

import pytest
from counted import assert_counted
from forged import is_sound
from garbage import HOUR, NOW, Clock, collect, rows, scalar
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from interleaving import at_statement
from lost import lose_index
from machines import run_on
from places import CORNERS, Stores, objects_of, packs_of
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool
from store_model import DROPPED, StoreModel, told

from cas.digest import Digest
from cas.errors import CasError
from cas.packs.pack import pack_object_name
from index import ArtifactStore, FileRepository, recover
from index.errors import (
    ArtifactIndexError,
    BytesNotKeptError,
    RunExistsError,
    UnknownDigestError,
)

WRITERS = 3
DIRECTORIES = 2
CONTENTS = {
    "empty": b"",
    "one": b"one",
    "two": b"two",
    "text": b"three" * 3000,
    "large": b"\1" * ((1 << 20) + 7),
    "larger": bytes(range(256)) * 9000,
}
BETWEEN = "between"
"""The path that is put in the middle of another operation; no work directory has it."""

PATHS = st.sampled_from(["a", "b", "d/c"])
BYTES = st.sampled_from(sorted(CONTENTS))
"""The name of one of the contents, which are too long to print."""

SESSIONS = st.sampled_from(["s1", "s1", "s2"])
RUNS = st.sampled_from(["r1", "r2", "r3"])
NAMES = ("r1", "r2", "r3")
NODES = st.sampled_from([None, None, "n1"])
WHO = st.integers(0, WRITERS - 1)
WHERE = st.integers(0, DIRECTORIES - 1)
GRACES = st.sampled_from([NOW, NOW, NOW, timedelta(microseconds=1), HOUR, 24 * HOUR])
SPANS = st.sampled_from([-30 * 24 * HOUR, -25 * HOUR, -HOUR, HOUR, 25 * HOUR, 30 * 24 * HOUR])
SECOND = timedelta(seconds=1)
MEANWHILE = st.none() | st.tuples(
    st.sampled_from(["collect", "collect", "put", "delete"]), st.integers(0, 20), BYTES
)
"""What another writer does in the middle, and before which statement."""

UNREFERENCED = """
    SELECT count(*) FROM cas_blobs AS b
    WHERE NOT EXISTS (SELECT 1 FROM cas_files WHERE digest = b.digest)
    AND NOT EXISTS (SELECT 1 FROM cas_records WHERE digest = b.digest)
    AND NOT EXISTS (SELECT 1 FROM cas_backups WHERE digest = b.digest OR record = b.digest)
    AND NOT EXISTS (SELECT 1 FROM cas_blob_chunks WHERE chunk = b.digest)
    AND NOT EXISTS (SELECT 1 FROM cas_chunk_lists WHERE list = b.digest)
"""
UNUSED = """
    SELECT count(*) FROM cas_packs AS p
    WHERE state = 'pending'
    OR state = 'live' AND NOT EXISTS (SELECT 1 FROM cas_blobs WHERE pack_id = p.id)
"""
HELD = "SELECT digest FROM cas_files WHERE digest IS NOT NULL"
LIVE = "SELECT name FROM cas_packs WHERE state = 'live' ORDER BY id"
LISTS = "SELECT list FROM cas_chunk_lists WHERE blob IN (SELECT digest FROM cas_files)"
RECORDS = """
    SELECT digest FROM cas_records UNION SELECT digest FROM cas_backups
    UNION SELECT record FROM cas_backups
"""


def url_of(place):
    return str(place.get("index") or f"sqlite:///{place['root'] / 'index.db'}")


class StoreMachine(RuleBasedStateMachine):
    stores: Stores
    combination: str

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.place = self.stores.make(self.combination, self.folder / "place")
        self.objects = objects_of(self.place)
        self.disks = [{} for _ in range(DIRECTORIES)]
        for number in range(DIRECTORIES):
            self.work(number).mkdir()
        self.records = self.folder / "records"
        self.records.mkdir()
        self.clocks = [Clock() for _ in range(WRITERS)]
        self.model = StoreModel()
        self.damaged = {}
        """Name of an object -> its bytes before it was damaged on purpose."""
        self.harmed = {}
        """The same for all objects ever damaged: repaired or not, they stay until collected."""
        self.count = 0
        self.opened = [self.open(number) for number in range(WRITERS)]

    def teardown(self):
        if hasattr(self, "opened"):
            try:
                self.check_everything()
            finally:
                for store in self.opened:
                    store.close()
                self.stores.drop(self.place)
                shutil.rmtree(self.folder)

    def open(self, who):
        return ArtifactStore.open(**self.place, clock=self.clocks[who])

    def work(self, where):
        return self.folder / f"work-{where}"

    def handle(self, who, key):
        return self.opened[who].session(key[0]).run(key[1])

    def begin_step(self):
        """Advance all clocks by a second; return an unused agent name."""
        for clock in self.clocks:
            clock.go(SECOND)
        self.count += 1
        return f"agent-{self.count}"

    def meanwhile(self, who, told_of, *, taken=(), into=None):
        """Return a context in which another writer acts once.

        Parameters
        ----------
        taken
            Runs that the other writer neither deletes nor changes.
        into
            The run that it puts a file into.
        """
        if told_of is None:
            return nullcontext()
        kind, number, data = told_of
        other = (who + 1) % WRITERS
        free = [key for key in self.model.runs if key not in taken]
        if kind == "put" and (into or free):
            return at_statement(
                self.opened[who],
                number,
                lambda: self.put_between(other, into or free[0], CONTENTS[data]),
            )
        if kind == "delete" and free and free[0] != into:
            return at_statement(self.opened[who], number, lambda: self.remove(other, free[0]))
        return at_statement(
            self.opened[who],
            number,
            lambda: collect(self.opened[other], remove_orphans=number % 2 == 0),
            while_writing=True,
        )

    def put_between(self, who, key, content):
        agent = f"between-{self.count}"
        self.handle(who, key).put(BETWEEN, content, agent=agent)
        self.model.record(
            key,
            {BETWEEN: content},
            self.clocks[who](),
            agent=agent,
            node=None,
            seen=False,
            claim=True,
        )

    def remove(self, who, key):
        self.handle(who, key).delete()
        self.model.delete(key, self.clocks[who]())

    # Work directories and clocks

    @rule(where=WHERE, path=PATHS, data=BYTES)
    def write(self, where, path, data):
        target = self.work(where) / path
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(CONTENTS[data])
        self.disks[where][path] = CONTENTS[data]

    @rule(where=WHERE, path=PATHS)
    def unlink(self, where, path):
        if self.disks[where].pop(path, None) is not None:
            (self.work(where) / path).unlink()

    @rule(who=WHO, span=SPANS)
    def move_the_clock(self, who, span):
        self.clocks[who].go(span)

    # Writers

    @rule(
        who=WHO,
        session=SESSIONS,
        run=RUNS,
        where=WHERE,
        node=NODES,
        named=st.booleans(),
        scope=st.sampled_from([None, None, "d", "a"]),
        meanwhile=MEANWHILE,
    )
    def track(self, who, session, run, where, node, named, scope, meanwhile):
        key, agent = (session, run), self.begin_step() if named else None
        with self.meanwhile(
            who, meanwhile, taken=[key], into=key if key in self.model.runs else None
        ):
            self.handle(who, key).track(
                self.work(where), agent=agent, node_id=node, scope=scope and (scope,)
            )
        disk, current = self.disks[where], self.model.now(key)
        changes = {
            path: disk.get(path)
            for path in {*disk, *current}
            if scope is None or path == scope or path.startswith(f"{scope}/")
            if path in disk or current[path].seen
        }
        at = self.clocks[who]()
        self.model.record(key, changes, at, agent=agent, node=node, seen=True, always=True)

    @rule(
        who=WHO,
        session=SESSIONS,
        run=RUNS,
        path=PATHS,
        data=BYTES,
        node=NODES,
        meanwhile=MEANWHILE,
    )
    def put(self, who, session, run, path, data, node, meanwhile):
        key, agent = (session, run), self.begin_step()
        with self.meanwhile(
            who, meanwhile, taken=[key], into=key if key in self.model.runs else None
        ):
            self.handle(who, key).put(path, CONTENTS[data], agent=agent, node_id=node)
        self.model.record(
            key,
            {path: CONTENTS[data]},
            self.clocks[who](),
            agent=agent,
            node=node,
            seen=False,
            claim=True,
        )

    @rule(
        who=WHO,
        session=SESSIONS,
        run=RUNS,
        where=WHERE,
        commits=st.booleans(),
        before=st.booleans(),
        amid=st.booleans(),
    )
    def register(self, who, session, run, where, commits, before, amid):
        """Register in the application's transaction, with collections before it and within it."""
        key, agent = (session, run), self.begin_step()
        disk, current = self.disks[where], self.model.now(key)
        changed = {
            path: data
            for path, data in disk.items()
            if commits or path not in current or current[path].content != data
        }
        if not changed:
            return
        other = self.opened[(who + 1) % WRITERS]
        engine = create_engine(url_of(self.place), poolclass=NullPool)
        with closing(Session(engine)) as transaction:
            files = FileRepository(
                transaction, session, store=self.opened[who], work_dir=self.work(where)
            )
            if before:
                collect(other)
            files.register_files(run, sorted(changed), generating_agent=agent)
            if amid and self.combination.startswith("postgresql"):
                collect(other, remove_orphans=True)
            if commits:
                transaction.commit()
            else:
                transaction.rollback()
        engine.dispose()
        at = self.clocks[who]()
        if commits:
            self.model.record(key, changed, at, agent=agent, node=None, seen=True, claim=True)
        else:
            self.model.attempt(key, changed, at, agent=agent, node=None)

    @rule(
        who=WHO,
        session=SESSIONS,
        run=RUNS,
        new=RUNS,
        data=st.data(),
        meanwhile=MEANWHILE,
    )
    def fork(self, who, session, run, new, data, meanwhile):
        key, made = (session, run), (session, new)
        if key not in self.model.runs:
            return
        self.begin_step()
        at = data.draw(st.integers(0, len(self.model.runs[key]) - 1))
        with self.meanwhile(who, meanwhile, taken=[key, made], into=key):
            try:
                self.handle(who, key).fork(new, at=at)
            except RunExistsError:
                assert made in self.model.runs
                return
        assert made not in self.model.runs
        self.model.fork(key, made, at, self.clocks[who]())

    @rule(who=WHO, session=SESSIONS, run=RUNS, data=BYTES, node=NODES)
    def use(self, who, session, run, data, node):
        key, content = (session, run), CONTENTS[data]
        self.begin_step()
        if content not in self.model.contents(session):
            with pytest.raises(UnknownDigestError):
                self.handle(who, key).use(Digest.of(content), node_id=node)
            return
        (noted,) = self.handle(who, key).use(Digest.of(content), node_id=node)
        self.model.use(key, content, node, self.clocks[who]())
        assert noted in self.handle(who, key).inputs()

    @rule(who=WHO, session=SESSIONS, run=RUNS, data=st.data(), meanwhile=MEANWHILE)
    def rewind(self, who, session, run, data, meanwhile):
        key = session, run
        if key not in self.model.runs:
            return
        self.begin_step()
        at = data.draw(st.integers(0, len(self.model.runs[key]) - 1))
        with self.meanwhile(who, meanwhile, taken=[key]):
            snapshot = self.handle(who, key).rewind(at)
        assert snapshot.recorded == self.model.rewind(key, at, self.clocks[who]())

    @rule(who=WHO, session=SESSIONS, run=RUNS, pick=st.integers(0, 50), meanwhile=MEANWHILE)
    def drop(self, who, session, run, pick, meanwhile):
        key = session, run
        if key not in self.model.runs:
            return
        made = {v for s in self.handle(who, key).snapshots() for v in (*s.added, *s.changed)}
        past = sorted(
            (version.path, version.version, version.first_snapshot)
            for version in made
            if version.end_snapshot is not None and version.digest is not None
        )
        if not past:
            return
        self.begin_step()
        path, number, first = past[pick % len(past)]
        with self.meanwhile(who, meanwhile, taken=[key], into=key):
            self.handle(who, key).drop(path, version=number, reason="a test")
        self.model.drop(key, self.model.runs[key][first][path], self.clocks[who]())

    @rule(who=WHO, session=SESSIONS, run=RUNS, meanwhile=MEANWHILE)
    def delete(self, who, session, run, meanwhile):
        key = session, run
        if key not in self.model.runs:
            return
        self.begin_step()
        with self.meanwhile(who, meanwhile, taken=[key], into=key):
            self.handle(who, key).delete()
        self.model.delete(key, self.clocks[who]())

    @rule(who=WHO, session=SESSIONS)
    def delete_session(self, who, session):
        keys = [key for key in self.model.runs if key[0] == session]
        if not keys:
            return
        self.begin_step()
        self.opened[who].session(session).delete()
        for key in keys:
            self.model.delete(key, self.clocks[who]())
        self.check_sessions()

    # Maintenance

    @rule(
        who=WHO,
        grace=GRACES,
        compact=st.booleans(),
        remove_orphans=st.booleans(),
        meanwhile=MEANWHILE,
    )
    def collect(self, who, grace, compact, remove_orphans, meanwhile):
        self.begin_step()
        with self.meanwhile(who, meanwhile):
            collect(self.opened[who], grace=grace, compact=compact, remove_orphans=remove_orphans)
        if meanwhile is None and grace == NOW and not self.damaged:
            self.check_that_nothing_is_left(who, orphans_too=remove_orphans)
        self.check_everything()

    @rule(who=WHO, grace=GRACES)
    def plan_only(self, who, grace):
        there, blobs = (
            self.objects.names(),
            scalar(self.opened[who], "SELECT count(*) FROM cas_blobs"),
        )
        self.opened[who].plan_gc(grace=grace)
        assert self.objects.names() == there
        assert scalar(self.opened[who], "SELECT count(*) FROM cas_blobs") == blobs

    @rule(who=WHO)
    def back_up(self, who):
        self.begin_step()
        self.opened[who].back_up(keep=2)

    @rule(who=WHO)
    def reopen(self, who):
        self.opened[who].close()
        self.opened[who] = self.open(who)

    @rule(who=WHO, depth=st.sampled_from(["index", "packs", "bytes"]))
    def look(self, who, depth):
        self.verify(who, depth)

    def verify(self, who, depth):
        report = self.opened[who].verify(depth=depth)
        if not self.damaged:
            assert report.is_sound, report.faults
        elif depth == "bytes":
            assert not (self.changed_objects() and report.is_sound)

    @precondition(lambda self: not self.damaged)
    @rule(who=WHO)
    def lose_the_index(self, who):
        self.begin_step()
        needed = {
            bytes(digest).hex()
            for query in (RECORDS, LISTS)
            for (digest,) in rows(self.opened[who], query)
        }
        for store in self.opened:
            store.close()
        lose_index(self.place)
        report = recover(**self.place, clock=self.clocks[who])
        self.opened = [self.open(number) for number in range(WRITERS)]
        assert (report.gaps, report.lost) == ((), ())
        # Unneeded records are not repaired, nor are backups: nothing else has their bytes.
        for reason in report.damaged_records:
            of_a_copy = reason.startswith("the copy of the index")
            assert self.harmed, reason
            assert of_a_copy or not needed & set(reason.split()), reason
        assert {pack.name for pack in report.damaged_packs} <= self.harmed.keys()
        found = {(summary.session, summary.run) for summary in self.opened[who].runs()}
        for key in sorted(found | self.model.runs.keys()):
            self.model.take_over(key, self.read(who, key) if key in found else None)
        self.check_everything()
        # Recovery also restores blobs that were repaired, not collected, and are no longer needed.
        there = self.objects.names()
        self.damaged = {
            name: data
            for name, data in self.harmed.items()
            if name in there and self.objects.read(name) != data
        }
        if any("only a copy of the index" in reason for reason in report.damaged_records):
            faults = self.opened[who].verify(depth="bytes").faults
            assert all(holder.path is None for fault in faults for holder in fault.touches), faults
            self.opened[who].repair()
        self.verify(who, "bytes")

    # Damage

    @rule(
        who=WHO,
        pick=st.integers(0, 50),
        how=st.sampled_from(["dropped", "truncated", "flipped"]),
        place=st.floats(0, 1, exclude_max=True),
    )
    def damage(self, who, pick, how, place):
        names = [pack_object_name(Digest(name)) for (name,) in rows(self.opened[who], LIVE)]
        if not names:
            return
        name = names[pick % len(names)]
        data = self.objects.read(name) if name in self.objects.names() else b""
        if not data:
            return  # dropped already
        self.keep_records(who)
        self.damaged.setdefault(name, data)
        self.harmed.setdefault(name, data)
        at = int(place * len(data))
        if how == "dropped":
            self.objects.remove(name)
        elif how == "truncated":
            self.objects.write(name, data[:at])
        else:
            self.objects.write(name, data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])

    @precondition(lambda self: self.damaged)
    @rule(who=WHO)
    def mend(self, who):
        """Repair from files with the bytes of the model, and from journal records put aside."""
        self.begin_step()
        store = self.opened[who]
        report = store.verify(depth="bytes")
        assert not (self.changed_objects() and report.is_sound)
        source = self.folder / "source"
        source.mkdir()
        for number, content in enumerate(self.model.contents()):
            (source / str(number)).write_bytes(content)
        # Both at once: a repair drops the record of a deletion that none of its sources has, and a
        # recovery may then undo that deletion.
        lost = store.repair(source, self.records).lost
        if lost:  # chunks of a large blob; only garbage collection knows that they are not needed
            assert not any(fault.touched for fault in lost), lost
            collect(store)
        report = store.verify(depth="bytes")
        assert report.is_sound, report.faults
        shutil.rmtree(source)
        self.damaged.clear()
        self.check_everything()

    def keep_records(self, who):
        """Put journal records aside. Another store could have them, a work directory cannot."""
        for (digest,) in rows(self.opened[who], RECORDS):
            kept = self.records / bytes(digest).hex()
            if not kept.exists():
                try:
                    kept.write_bytes(self.opened[who].context.blobs.read(Digest(digest)))
                except CasError:
                    assert self.damaged

    def changed_objects(self):
        """Return the damaged objects that the index relies on."""
        names = {pack_object_name(Digest(name)) for (name,) in rows(self.opened[0], LIVE)}
        there = self.objects.names()
        return [
            name
            for name in self.damaged
            if name in names
            and (name not in there or not is_sound(PurePath(name).stem, self.objects.read(name)))
        ]

    # What must always hold

    def read(self, who, key, *, at=None):
        """Return the files at each snapshot of a run, or at one; None for unreadable bytes."""
        run = self.handle(who, key)
        numbers = range(len(run.snapshots()) + 1) if at is None else [at]
        return [
            {
                version.path: (self.read_version(run, version.path, number), version.agent)
                for version in run.files(at=number)
            }
            for number in numbers
        ]

    def read_version(self, run, path, number):
        try:
            return run.read_bytes(path, at=number)
        except BytesNotKeptError:
            return DROPPED
        except (CasError, ArtifactIndexError):
            if not self.damaged:
                raise
            return None

    def compare(self, found, expected):
        assert [state.keys() for state in found] == [state.keys() for state in expected]
        for state, wanted in zip(found, expected, strict=True):
            for path, (content, agent) in wanted.items():
                assert state[path][1] == agent, path
                assert state[path][0] == content or (self.damaged and state[path][0] is None), path

    def check_everything(self):
        """Check every run at every snapshot, and that there is no other run."""
        who = self.count % WRITERS
        assert {(s.session, s.run) for s in self.opened[who].runs()} == self.model.runs.keys()
        for key, states in self.model.runs.items():
            self.compare(self.read(who, key), told(states))
            assert [(i.digest, i.node_id, i.snapshot) for i in self.handle(who, key).inputs()] == [
                (Digest.of(content), node, number)
                for content, node, number in self.model.inputs[key]
            ]
        self.check_sessions()

    def check_sessions(self):
        """Check that a session cannot read bytes that none of its runs refers to."""
        who = self.count % WRITERS
        for session in ("s1", "s2"):
            held = self.model.contents(session)
            for content in CONTENTS.values():
                if content not in held:
                    with pytest.raises(UnknownDigestError):
                        self.opened[who].session(session).read_bytes(Digest.of(content))

    def check_that_nothing_is_left(self, who, *, orphans_too):
        store = self.opened[who]
        assert scalar(store, UNREFERENCED) == 0
        assert scalar(store, UNUSED) == 0
        assert {bytes(digest) for (digest,) in rows(store, HELD)} == {
            bytes(Digest.of(content)) for content in self.model.contents()
        }
        if orphans_too:
            live = {pack_object_name(Digest(name)) for (name,) in rows(store, LIVE)}
            assert set(packs_of(self.objects)) == live

    @invariant()
    def every_run_holds_what_the_model_says(self):
        """Check the newest snapshots; all are checked after each collection and at the end."""
        for key, states in self.model.runs.items() if hasattr(self, "model") else ():
            found = self.read((self.count + 1) % WRITERS, key, at=len(states) - 1)
            self.compare(found, told(states[-1:]))

    @invariant()
    def the_kept_counts_are_those_of_the_versions(self):
        for store in getattr(self, "opened", ())[:1]:
            assert_counted(store)


@pytest.mark.slow
@pytest.mark.parametrize("combination", CORNERS)
def test_a_store_does_what_the_model_does(stores, combination):
    run_on(StoreMachine, stores, combination, steps=25)
