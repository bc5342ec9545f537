"""A run against a model of dicts, without code of the library."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from machines import run_on
from places import COMBINATIONS, Stores

from index import ArtifactStore
from index.errors import UnknownRunError

NAMES = st.sampled_from(["a", "b", "d/a", "d/e/b", "x\udcff", "q\\r", "link"])
CONTENTS = {
    "empty": b"",
    "A": b"A",
    "B": b"B",
    "text": b"text " * 500,
    "chunk": b"\0" * (1 << 20),
    "large": b"\1" * ((1 << 20) + 7),
}
BYTES = st.one_of(st.binary(max_size=12), st.sampled_from(list(CONTENTS)))
"""Bytes, or the name of one of the contents, which are too long to print."""
NODES = st.sampled_from([None, "n1", "n2"])
AGENTS = st.sampled_from([None, "engineer", "planner"])


class RunMachine(RuleBasedStateMachine):
    """Writes, removes, links, tracks, puts and restores in any order, across reopenings."""

    stores: Stores
    combination: str

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.work = self.folder / "work"
        self.work.mkdir()
        self.place = self.stores.make(self.combination, self.folder / "place")
        self.store = ArtifactStore.open(**self.place)
        self.run = self.store.session("s").run("r")
        self.disk = {}  # path -> (bytes, is a link)
        self.current = {}  # path -> dict(content, agent, node, seen)
        self.versions = {}  # path -> list of contents
        self.states = [{}]  # by snapshot number: path -> content
        self.order = []  # paths by first appearance: (snapshot, path)
        self.exists = False

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            self.stores.drop(self.place)
            shutil.rmtree(self.folder)

    # The work directory

    def clear(self, path):
        """Remove what is in the way of a file at `path`."""
        parts = path.split("/")
        for n in range(1, len(parts)):
            above = "/".join(parts[:n])
            if above in self.disk:
                (self.work / above).unlink()
                del self.disk[above]
        for other in [p for p in self.disk if p == path or p.startswith(f"{path}/")]:
            (self.work / other).unlink()
            del self.disk[other]
        if (self.work / path).is_dir():
            shutil.rmtree(self.work / path)

    @rule(path=NAMES, data=BYTES)
    def write(self, path, data):
        data = CONTENTS.get(data, data)
        self.clear(path)
        (self.work / path).parent.mkdir(parents=True, exist_ok=True)
        (self.work / path).write_bytes(data)
        self.disk[path] = (data, False)

    @rule(to=st.sampled_from(["a", "nowhere", "/etc/passwd"]))
    def link(self, to):
        self.clear("link")
        (self.work / "link").symlink_to(to)
        self.disk["link"] = (to.encode(), True)

    @rule(path=NAMES)
    def remove(self, path):
        if path in self.disk:
            (self.work / path).unlink()
            del self.disk[path]

    @rule(path=NAMES, mode=st.sampled_from([0o600, 0o755]))
    def touch(self, path, mode):
        if path in self.disk and not self.disk[path][1]:
            (self.work / path).chmod(mode)
            os.utime(self.work / path)

    # The library and the model

    def record(self, changes, *, agent, node, seen, always=False):
        """Apply `{path: content or None}` to the model as one snapshot, if it changes anything."""
        new = {}
        for path, content in changes.items():
            known = self.current.get(path)
            if content is None or known is None or known["content"] != content:
                new[path] = content
                continue
            known["seen"] |= seen
            if node is not None and known["node"] == node and known["agent"] is None:
                known["agent"] = agent
        if not new and (self.exists or not always):
            return
        number = len(self.states)
        for path, content in new.items():
            if content is None:
                del self.current[path]
                continue
            self.current[path] = {"content": content, "agent": agent, "node": node, "seen": seen}
            if path not in self.versions:
                self.order.append((number, path))
            self.versions.setdefault(path, []).append((content, number))
        self.states.append({path: known["content"] for path, known in self.current.items()})
        self.exists = True

    def scan(self, scope):
        covered = [
            path
            for path in {*self.disk, *self.current}
            if scope is None or path == scope or path.startswith(f"{scope}/")
        ]
        return {
            path: self.disk.get(path)
            for path in covered
            if path in self.disk or (path in self.current and self.current[path]["seen"])
        }

    @rule(agent=AGENTS, node=NODES, scope=st.sampled_from([None, None, "d", "a"]))
    def track(self, agent, node, scope):
        before = len(self.states) - 1
        snapshot = self.run.track(
            self.work, agent=agent, node_id=node, scope=None if scope is None else (scope,)
        )
        self.record(self.scan(scope), agent=agent, node=node, seen=True, always=True)
        assert snapshot.number == len(self.states) - 1
        assert snapshot.recorded == (snapshot.number > before)
        assert snapshot.skipped == ()

    @rule(path=NAMES, data=BYTES, agent=AGENTS, node=NODES)
    def put(self, path, data, agent, node):
        data = CONTENTS.get(data, data)
        version = self.run.put(path, data, agent=agent, node_id=node)
        self.record({path: (data, False)}, agent=agent, node=node, seen=False)
        assert version.version == len(self.versions[path])

    @rule()
    def reopen(self):
        self.store.close()
        self.store = ArtifactStore.open(**self.place)
        self.run = self.store.session("s").run("r")

    @rule(data=st.data())
    def restore(self, data):
        if not self.exists:
            return
        number = data.draw(st.integers(0, len(self.states) - 1))
        state = self.states[number]
        if any(f"{one}/" in other for one in state for other in state if other.startswith(one)):
            return  # a file was put in the place of a directory: no directory can hold both
        out = self.folder / "out"
        self.run.restore(out, at=number)
        found = {}
        for folder, names, files in os.walk(out):
            for name in (*names, *files):
                path = Path(folder, name)
                status = path.lstat()
                if stat.S_ISLNK(status.st_mode):
                    content = (os.fsencode(os.readlink(path)), True)
                elif stat.S_ISREG(status.st_mode):
                    content = (path.read_bytes(), False)
                else:
                    continue
                found[os.path.relpath(path, out)] = content
        assert found == state
        shutil.rmtree(out)

    @rule(path=NAMES)
    def history(self, path):
        if path not in self.versions:
            return
        versions = self.run.history(path)
        told = [(self.run.read_bytes(path, version=v.version), v.is_link) for v in versions]
        assert told == [content for content, _ in self.versions[path]]
        assert [v.first_snapshot for v in versions] == [n for _, n in self.versions[path]]
        assert [v.version for v in versions] == list(range(1, len(versions) + 1))
        assert (versions[-1].end_snapshot is None) == (path in self.current)

    @invariant()
    def the_listing_is_the_models(self):
        if not hasattr(self, "run"):
            return
        if not self.exists:
            try:
                self.run.files()
            except UnknownRunError:
                return
            raise AssertionError("a run that nothing was recorded in exists")
        files = self.run.files()
        assert [v.path for v in files] == [p for _, p in sorted(self.order) if p in self.current]
        for version in files:
            known = self.current[version.path]
            assert (version.agent, version.node_id) == (known["agent"], known["node"])
            assert version.size == len(known["content"][0])
            assert version.is_link == known["content"][1]
            assert version.version == len(self.versions[version.path])

    @invariant()
    def every_snapshot_still_lists_what_it_did(self):
        if getattr(self, "exists", False):
            number = len(self.states) // 2
            assert {v.path for v in self.run.files(at=number)} == set(self.states[number])
            assert len(self.run.snapshots()) == len(self.states) - 1


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_a_run_does_what_the_model_does(stores, combination):
    run_on(RunMachine, stores, combination, steps=25)
