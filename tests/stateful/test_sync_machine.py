"""Two stores, recorded into, synced and sometimes cut off, against a model of dicts."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from counted import assert_counted
from events import failing_at
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from machines import run_machine

import index.db.queries.transfer
import index.transfer.delta
from cas.digest import Digest
from index import ArtifactStore
from index.errors import RunExistsError

PATHS = st.sampled_from(["a", "b", "d/c"])
BYTES = st.sampled_from([b"", b"one", b"two", b"three"])
RUNS = st.sampled_from(["r1", "r2", "r3"])
SOMEWHERE = st.sampled_from(["ours", "ours", "ours", "theirs"])


class CutOff(BaseException):
    pass


@dataclass(frozen=True)
class Model:
    """A run: its content after each commit that made a snapshot, and the names of these commits.

    A path holds (bytes, production). A production is the number of the put that made the bytes.
    """

    states: tuple = ({},)
    commits: tuple = ()
    parent: tuple | None = None

    def then(self, commit, state):
        return replace(self, states=(*self.states, state), commits=(*self.commits, commit))

    def until(self, at, parent):
        return Model(self.states[: at + 1], self.commits[:at], (parent, at))


def begins_with(one, other):
    return one.commits[: len(other.commits)] == other.commits


class SyncMachine(RuleBasedStateMachine):
    template: Path

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.stores, self.models = {}, {"ours": {}, "theirs": {}}
        for name in self.models:
            shutil.copytree(self.template, self.folder / name)
            self.stores[name] = ArtifactStore.open(self.folder / name)
        self.count = 0

    def teardown(self):
        if hasattr(self, "stores"):
            for store in self.stores.values():
                store.close()
            shutil.rmtree(self.folder)

    def handle(self, where, run):
        return self.stores[where].session("s").run(run)

    @rule(where=SOMEWHERE, run=RUNS, path=PATHS, data=BYTES)
    def put(self, where, run, path, data):
        self.count += 1
        self.handle(where, run).put(path, data, agent=f"agent-{self.count}")
        model = self.models[where].get(run, Model())
        newest = model.states[-1]
        if path not in newest or newest[path][0] != data:
            model = model.then(self.count, {**newest, path: (data, self.count)})
        self.models[where][run] = model

    @rule(where=SOMEWHERE, run=RUNS, new=RUNS, data=st.data())
    def fork(self, where, run, new, data):
        model = self.models[where].get(run)
        if model is None:
            return
        at = data.draw(st.integers(0, len(model.commits)))
        try:
            self.handle(where, run).fork(new, at=at)
        except RunExistsError:
            assert new in self.models[where]
            return
        self.models[where][new] = model.until(at, run)

    @rule(where=SOMEWHERE, run=RUNS, data=st.data())
    def rewind(self, where, run, data):
        model = self.models[where].get(run)
        if model is None:
            return
        at = data.draw(st.integers(0, len(model.commits)))
        self.handle(where, run).rewind(at)
        before, after = model.states[-1], model.states[at]
        kept = {
            path: before[path] if path in before and before[path][0] == content[0] else content
            for path, content in after.items()
        }
        if kept != before:
            self.count += 1
            self.models[where][run] = model.then(self.count, kept)

    @rule(where=SOMEWHERE, run=RUNS)
    def delete(self, where, run):
        if self.models[where].pop(run, None) is not None:
            self.handle(where, run).delete()

    @rule(
        run=st.none() | RUNS, back=st.booleans(), cut=st.none() | st.integers(0, 60), data=st.data()
    )
    def sync(self, run, back, cut, data):
        here, there = ("theirs", "ours") if back else ("ours", "theirs")
        ours, theirs = self.models[here], self.models[there]
        if run is not None and run not in ours:
            return
        chosen = None if run is None else [run]
        if cut is not None:
            after = data.draw(st.booleans())
            try:
                with failing_at(self.stores[there], cut, CutOff(), after=after):
                    self.stores[here].sync_to(self.stores[there], runs=chosen)
            except CutOff:
                self.accept_what_arrived(here, there)
                return
        report = (
            None if cut is not None else self.stores[here].sync_to(self.stores[there], runs=chosen)
        )
        expected = {name: self.expected(ours[name], theirs.get(name)) for name in chosen or ours}
        if report is not None:
            for told in report.runs:
                assert told.outcome in expected[told.run][0], told
                if told.outcome in ("copied", "updated"):
                    theirs[told.run] = expected[told.run][1]
            return
        self.accept_what_arrived(here, there)

    def expected(self, mine, theirs):
        """Return the possible outcomes for a run, and its destination model if it is copied."""
        if theirs is None:
            return {"copied"}, mine
        if not (begins_with(mine, theirs) or begins_with(theirs, mine)):
            return {"conflict"}, theirs
        may = {"conflict"} if mine.parent != theirs.parent else set()
        if len(theirs.commits) > len(mine.commits):
            return may | {"ahead"}, theirs
        if mine.commits == theirs.commits:
            return may | {"unchanged", "updated"}, theirs
        return may | {"updated"}, mine

    def accept_what_arrived(self, here, there):
        """After a cut, accept each run in its old or its new state."""
        ours, theirs = self.models[here], self.models[there]
        found = {summary.run: summary.snapshots for summary in self.stores[there].runs()}
        assert theirs.keys() <= found.keys()
        for name, snapshots in found.items():
            if name not in theirs or len(theirs[name].commits) != snapshots:
                outcomes, model = self.expected(ours[name], theirs.get(name))
                assert outcomes & {"copied", "updated"}
                assert len(model.commits) == snapshots
                theirs[name] = model

    @invariant()
    def every_run_holds_what_it_held_at_every_snapshot(self):
        for where, models in getattr(self, "models", {}).items():
            assert {s.run for s in self.stores[where].runs()} == models.keys()
            for name, model in models.items():
                run = self.handle(where, name)
                for number, state in enumerate(model.states):
                    files = run.files(at=number)
                    assert {
                        v.path: (run.read_bytes(v.path, at=number), v.agent) for v in files
                    } == {
                        path: (content, f"agent-{made}") for path, (content, made) in state.items()
                    }

    @invariant()
    def the_kept_counts_are_those_of_the_versions(self):
        for store in getattr(self, "stores", {}).values():
            assert_counted(store)

    @invariant()
    def each_production_is_told_once(self):
        for where, models in getattr(self, "models", {}).items():
            made = {}
            for model in models.values():
                for state in model.states:
                    for content, number in state.values():
                        made.setdefault(content, set()).add(f"agent-{number}")
            for content, agents in made.items():
                found = self.stores[where].session("s").producers(Digest.of(content))
                assert sorted(v.agent for v in found) == sorted(agents)


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "steps"), [(5_000, 30), (1, 10)])
def test_two_stores_do_what_the_model_does(empty_store, monkeypatch, batch, steps):
    """Also with pages and batches of one version, and with all batches but one in a file."""
    if batch == 1:
        monkeypatch.setattr(index.transfer.delta, "_BATCH", 1)
        monkeypatch.setattr(index.transfer.delta, "_IN_MEMORY", 1)
        monkeypatch.setattr(index.db.queries.transfer, "_PAGE", 1)
    SyncMachine.template = empty_store
    run_machine(SyncMachine, steps=steps)
