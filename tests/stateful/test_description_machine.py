"""Parents, notes, tags and holds of runs, with deletions, lost indexes and syncs, against dicts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from lost import lose_index
from machines import run_machine

from index import ArtifactStore, recover
from index.errors import HeldError, ParentCycleError, TaggedRunError, UnknownRunError

RUNS = st.sampled_from(["a", "b", "c", "d"])
TAGS = st.sampled_from(["best", "last"])
NOTES = st.dictionaries(st.sampled_from("xy"), st.none() | st.integers(0, 9), min_size=1)


class DescriptionMachine(RuleBasedStateMachine):
    template: Path

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        shutil.copytree(self.template, self.folder / "ours")
        self.store = ArtifactStore.open(self.folder / "ours")
        self.parents, self.notes, self.tags = {}, {}, {}
        self.held = set()
        """The runs that are held; None is the session."""

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    @property
    def session(self):
        return self.store.session("s")

    def made(self, run):
        self.parents.setdefault(run, None)
        self.notes.setdefault(run, None)

    @rule(run=RUNS)
    def put(self, run):
        self.session.run(run).put("f", run.encode())
        self.made(run)

    @rule(run=RUNS, parent=RUNS | st.just(""))
    def link(self, run, parent):
        above, seen = parent, set()
        while above and above not in seen:
            seen.add(above)
            above = self.parents.get(above)
        if run in seen:
            with pytest.raises(ParentCycleError):
                self.session.run(run).describe(parent=parent)
            return
        self.session.run(run).describe(parent=parent)
        self.made(run)
        self.parents[run] = parent or None

    @rule(run=RUNS, notes=NOTES)
    def note(self, run, notes):
        self.session.run(run).describe(notes=notes)
        self.made(run)
        merged = {**(self.notes[run] or {}), **notes}
        self.notes[run] = {name: value for name, value in merged.items() if value is not None}

    @rule(run=RUNS, name=TAGS)
    def tag(self, run, name):
        if run not in self.parents:
            with pytest.raises(UnknownRunError):
                self.session.tag_run(name, run)
            return
        self.session.tag_run(name, run)
        self.tags[name] = run

    @rule(name=TAGS)
    def untag(self, name):
        if name not in self.tags:
            with pytest.raises(UnknownRunError):
                self.session.untag_run(name)
            return
        self.session.untag_run(name)
        del self.tags[name]

    def forget(self, run):
        del self.parents[run], self.notes[run]
        for name, parent in self.parents.items():
            self.parents[name] = None if parent == run else parent

    @rule(run=RUNS, force=st.booleans())
    def delete(self, run, force):
        if run not in self.parents:
            with pytest.raises(UnknownRunError):
                self.session.run(run).delete()
            return
        if self.held & {run, None}:
            with pytest.raises(HeldError):
                self.session.run(run).delete(force=force)
            return
        if run in self.tags.values() and not force:
            with pytest.raises(TaggedRunError):
                self.session.run(run).delete()
            return
        self.session.run(run).delete(force=force)
        self.forget(run)
        self.tags = {name: tagged for name, tagged in self.tags.items() if tagged != run}

    @rule()
    def delete_session(self):
        if not self.parents:
            return
        if self.held:
            with pytest.raises(HeldError):
                self.session.delete()
            return
        self.session.delete()
        self.parents, self.notes, self.tags = {}, {}, {}

    @rule(run=RUNS | st.none())
    def hold(self, run):
        if run in self.parents or (run is None and self.parents):
            (self.session if run is None else self.session.run(run)).hold("case 7")
            self.held.add(run)

    @rule(run=RUNS | st.none())
    def release(self, run):
        if run in self.held:
            (self.session if run is None else self.session.run(run)).release_hold("closed")
            self.held.remove(run)

    @rule(run=RUNS)
    def fork(self, run):
        if run in self.parents and "d" not in self.parents and run != "d":
            self.session.run(run).fork("d")
            self.made("d")

    @rule()
    def back_up(self):
        self.store.back_up()

    @rule()
    def lose(self):
        before = self.session.holds(past=True)
        self.store.close()
        lose_index({"root": self.folder / "ours"})
        recover(self.folder / "ours")
        self.store = ArtifactStore.open(self.folder / "ours")
        assert self.session.holds(past=True) == before

    @rule()
    def leave_for_a_copy(self):
        """Go on in a copy of the store, whose records begin anew."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        with ArtifactStore.open(place / "ours") as copy:
            self.store.sync_to(copy)
        self.store.close()
        shutil.rmtree(self.folder / "ours")
        (place / "ours").rename(self.folder / "ours")
        self.store = ArtifactStore.open(self.folder / "ours")

    @rule(run=RUNS)
    def bring_back(self, run):
        """Delete a run and take it from a copy, where it has the age that it had."""
        if run not in self.parents or self.held & {run, None} or run in self.tags.values():
            return
        said = self.parents[run], self.notes[run]
        with ArtifactStore.open(Path(tempfile.mkdtemp(dir=self.folder)) / "theirs") as copy:
            self.store.sync_to(copy, runs=[run])
            copy.session("s").run(run).hold("case 8")
            self.session.run(run).delete()
            copy.sync_to(self.store)
        self.forget(run)
        self.parents[run], self.notes[run] = said
        self.held.add(run)

    @invariant()
    def holds(self):
        if not hasattr(self, "store"):
            return
        runs = {each.run: each for each in self.store.runs()}
        assert {run: each.parent for run, each in runs.items()} == self.parents
        assert {run: each.notes for run, each in runs.items()} == self.notes
        assert {tag.name: tag.run for tag in self.session.run_tags()} == self.tags
        assert {each.run for each in self.session.holds()} == self.held
        for run, each in runs.items():
            named = sorted(name for name, tagged in self.tags.items() if tagged == run)
            assert list(each.tags) == named
            children = {name for name, parent in self.parents.items() if parent == run}
            assert {child.run for child in self.session.run(run).children()} == children


@pytest.mark.slow
def test_what_is_said_of_runs_is_kept(empty_store):
    DescriptionMachine.template = empty_store
    run_machine(DescriptionMachine, steps=30)
