"""A run against a model of dicts, without code of the library."""

from __future__ import annotations

import os
import shutil
import stat
from collections import Counter
from pathlib import Path

import pytest
from counted import assert_counted
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from machines import StoreMachine, run_on
from places import COMBINATIONS

from index import ArtifactStore, NewFile, Provenance
from index.errors import UnknownRunError

NAMES = st.sampled_from(["a", "b", "d/a", "d/e", "d/e/b", "x\udcff", "q\\r", "link"])
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
PREFIXES = st.sampled_from(["d", "d/e", "p"])
NODES = st.sampled_from([None, "n1", "n2"])
AGENTS = st.sampled_from([None, "engineer", "planner"])
FINAL = st.sampled_from([None, True, False])
TAGS = st.sampled_from(["best", "old"])
STATUSES = st.sampled_from(["running", "finished", "failed", "cancelled"])


class RunMachine(StoreMachine):
    """Writes, tracks, puts, annotates, removes and restores in any order, across reopenings.

    Each scan finds what the status before it said. Tags and the status of the run change between.
    A second directory is recorded under paths of the run. Another store records, too, so that this
    one does not always know the run.
    """

    @initialize()
    def begin(self):
        self.open_store()
        self.work = self.folder / "work"
        self.work.mkdir()
        self.scratch = self.folder / "scratch"
        self.scratch.mkdir()
        self.run = self.store.session("s").run("r")
        self.other = ArtifactStore.open(**self.place)
        self.disk = {}  # path -> (bytes, is a link)
        self.beside = {}  # the same of the second directory
        self.current = {}  # path -> dict(content, agent, node, the prefixes that saw it)
        self.versions = {}  # path -> list of contents
        self.states = [{}]  # by snapshot number: path -> content
        self.order = []  # paths by first appearance: (snapshot, path)
        self.final = {}  # path -> what was last said of it
        self.tags = {}  # name -> (snapshot, path, version), of which some are None
        self.moves = Counter()  # name -> how often it was set, moved or removed
        self.status = None
        self.exists = False

    def teardown(self):
        if hasattr(self, "other"):
            self.other.close()
        super().teardown()

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

    @rule(name=st.sampled_from(["a", "b"]), data=st.none() | BYTES)
    def write_beside(self, name, data):
        (self.scratch / name).unlink(missing_ok=True)
        self.beside.pop(name, None)
        if data is not None:
            data = CONTENTS.get(data, data)
            (self.scratch / name).write_bytes(data)
            self.beside[name] = (data, False)

    # The library and the model

    def record(self, changes, *, agent, node, seen=(), always=False, claim=False):
        """Apply `{path: content or None}` to the model as one snapshot, if it changes anything.

        `seen` has the prefix of a scan, and for a put nothing.
        """
        added = [path for path in changes if path not in self.current]
        changes |= {
            path: None
            for path in self.current
            if any(path.startswith(f"{new}/") or new.startswith(f"{path}/") for new in added)
        }
        new = {}
        for path, content in changes.items():
            known = self.current.get(path)
            if content is None or known is None or known["content"] != content:
                new[path] = content
                continue
            known["seen"] |= {*seen}
            if claim:
                self.claim(known, agent, node)
            elif node is not None and known["node"] == node and known["agent"] is None:
                known["agent"] = agent
        if not new and (len(self.states) > 1 or not always):
            return
        number = len(self.states)
        for path, content in new.items():
            if content is None:
                del self.current[path]
                continue
            self.current[path] = {
                "content": content, "agent": agent, "node": node, "seen": {*seen},
            }  # fmt: skip
            if path not in self.versions:
                self.order.append((number, path))
            self.versions.setdefault(path, []).append((content, number))
        self.states.append({path: known["content"] for path, known in self.current.items()})
        self.exists = True

    @staticmethod
    def claim(known, agent, node):
        elsewhere = None not in (known["node"], node) and known["node"] != node
        other = agent is not None and known["agent"] != agent
        if known["agent"] is not None and (elsewhere or other):
            return
        known["agent"] = known["agent"] or agent
        known["node"] = known["node"] or node

    def scan(self, disk, scope, prefix=""):
        """Return what a scan finds, as paths in the run; None for what it misses."""
        missed = [path for path, known in self.current.items() if prefix in known["seen"]]
        return {
            path: disk.get(path)
            for path in {*disk, *missed}
            if scope is None or path == scope or path.startswith(f"{scope}/")
        }

    @rule(
        agent=AGENTS,
        node=NODES,
        scope=st.sampled_from([None, None, "d", "a"]),
        final=st.sampled_from([(), ("d/", "/b")]),
    )
    def track(self, agent, node, scope, final):
        before = len(self.states) - 1
        # Of a scope that is not on disk, the run may hold files that were put there.
        is_there = os.path.lexists(self.work / (scope or "")) or any(
            path == scope or path.startswith(f"{scope}/") for path in self.current
        )
        scopes = None if scope is None else (scope,)
        looked = self.run.status(self.work, scope=scopes)
        snapshot = self.run.track(self.work, agent=agent, node_id=node, scope=scopes, final=final)
        for part in ("added", "changed", "removed"):
            told = sorted(entry.path for entry in getattr(looked, part))
            assert told == sorted(version.path for version in getattr(snapshot, part))
        changes = self.scan(self.disk, scope)
        found = [path for path, content in changes.items() if content is not None]
        if final:
            self.final |= {path: True for path in found if path == "b" or path.startswith("d/")}
        self.record(changes, agent=agent, node=node, seen=[""], always=True)
        assert snapshot.number == len(self.states) - 1
        assert snapshot.recorded == (snapshot.number > before)
        assert [each.path for each in snapshot.skipped] == ([] if is_there else [scope])

    @rule(agent=AGENTS, node=NODES, prefix=PREFIXES)
    def track_beside(self, agent, node, prefix):
        snapshot = self.run.track(self.scratch, prefix=prefix, agent=agent, node_id=node)
        disk = {f"{prefix}/{name}": content for name, content in self.beside.items()}
        changes = self.scan(disk, prefix, prefix)
        self.record(changes, agent=agent, node=node, seen=[prefix], always=True)
        assert snapshot.number == len(self.states) - 1

    @rule(
        files=st.dictionaries(NAMES, BYTES, min_size=1, max_size=3),
        agent=AGENTS,
        node=NODES,
        final=FINAL,
        elsewhere=st.booleans(),
    )
    def put(self, files, agent, node, final, elsewhere):
        files = {path: CONTENTS.get(data, data) for path, data in files.items()}
        if any(f"{one}/" in other for one in files for other in files if other.startswith(one)):
            return
        run = self.other.session("s").run("r") if elsewhere else self.run
        versions = run.put_many(
            [NewFile(path, data, is_final_output=final) for path, data in files.items()],
            agent=agent,
            node_id=node,
        )
        changes = {path: (data, False) for path, data in files.items()}
        if final is not None:
            self.final |= dict.fromkeys(files, final)
        self.record(changes, agent=agent, node=node, claim=True)
        assert [v.version for v in versions] == [len(self.versions[path]) for path in files]
        for version in versions:
            refused = version.refused or Provenance()
            assert (refused.agent, refused.node_id) == (
                None if agent == version.agent else agent,
                None if node == version.node_id else node,
            )

    @rule(path=NAMES, agent=AGENTS, node=NODES, final=FINAL)
    def annotate(self, path, agent, node, final):
        if path not in self.current:
            return
        version = self.run.annotate(path, agent=agent, node_id=node, is_final_output=final)
        if final is not None:
            self.final[path] = final
        self.claim(self.current[path], agent, node)
        assert version.version == len(self.versions[path])

    @rule(paths=st.sets(NAMES, min_size=1, max_size=3), elsewhere=st.booleans())
    def forget(self, paths, elsewhere):
        run = self.other.session("s").run("r") if elsewhere else self.run
        if not paths <= self.current.keys():
            with pytest.raises(LookupError):
                run.remove_many(sorted(paths))
            return
        gone = run.remove_many(sorted(paths))
        assert [v.path for v in gone] == sorted(paths)
        self.record(dict.fromkeys(paths), agent=None, node=None)
        assert {v.end_snapshot for v in gone} == {len(self.states) - 1}

    @rule(name=TAGS, path=st.none() | NAMES, data=st.data(), elsewhere=st.booleans())
    def tag(self, name, path, data, elsewhere):
        if len(self.states) == 1:
            return
        run = self.other.session("s").run("r") if elsewhere else self.run
        number = data.draw(st.integers(1, len(self.states) - 1))
        version = sum(first <= number for _, first in self.versions.get(path, ()))
        if path is not None and path not in self.states[number]:
            with pytest.raises(LookupError):
                run.tag(name, at=number, path=path)
            return
        made = run.tag(name, at=number, path=path)
        self.tags[name] = (number, None, None) if path is None else (None, path, version)
        self.moves[name] += 1
        assert (made.snapshot, made.path, made.version) == self.tags[name]

    @rule(name=TAGS)
    def untag(self, name):
        if name not in self.tags:
            with pytest.raises(LookupError):
                self.run.untag(name)
            return
        self.run.untag(name)
        del self.tags[name]
        self.moves[name] += 1

    @rule(status=STATUSES)
    def say_how_it_goes(self, status):
        assert self.run.set_status(status).status == status
        self.status, self.exists = status, True

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
            assert version.is_final_output == self.final.get(version.path, False)
            assert version.size == len(known["content"][0])
            assert version.is_link == known["content"][1]
            assert version.version == len(self.versions[version.path])

    @invariant()
    def the_statistics_are_the_models(self):
        if not getattr(self, "exists", False):
            return
        assert_counted(self.store)
        stats = self.run.stats()
        held = [known["content"][0] for known in self.current.values()]
        ever = [data for versions in self.versions.values() for (data, _), _ in versions]
        assert (stats.files, stats.bytes) == (len(held), sum(map(len, held)))
        assert (stats.versions, stats.version_bytes) == (len(ever), sum(map(len, ever)))
        assert stats.distinct_bytes == sum(map(len, set(ever)))
        assert stats.files_by_agent == Counter(known["agent"] for known in self.current.values())
        assert stats.files_by_node == Counter(known["node"] for known in self.current.values())
        assert stats.final_outputs == sum(self.final.get(path, False) for path in self.current)

    @invariant()
    def tags_and_status_are_the_models(self):
        if not getattr(self, "exists", False):
            return
        assert self.run.summary().status == self.status
        told = {tag.name: (tag.snapshot, tag.path, tag.version) for tag in self.run.tags()}
        assert told == self.tags
        for name, (number, path, version) in self.tags.items():
            assert len(self.run.tag_history(name)) == self.moves[name]
            if path is None:
                assert {v.path for v in self.run.files(at=name)} == set(self.states[number])
            else:
                assert self.run.file(path, at=name).version == version

    @invariant()
    def every_snapshot_still_lists_what_it_did(self):
        if getattr(self, "exists", False):
            number = len(self.states) // 2
            assert {v.path for v in self.run.files(at=number)} == set(self.states[number])
            assert len(self.run.snapshots()) == len(self.states) - 1


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_a_run_does_what_the_model_does(stores, combination):
    run_on(RunMachine, stores, combination, steps=25)
