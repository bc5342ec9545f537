"""Runs that fork, go back and are deleted, against a model of dicts."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from machines import StoreMachine, run_on
from places import COMBINATIONS

from cas.digest import Digest
from index.errors import RunExistsError, UnknownRunError

PATHS = st.sampled_from(["a", "b", "d/c"])
BYTES = st.sampled_from([b"", b"one", b"two", b"three"])
RUNS = st.sampled_from(["r1", "r2", "r3"])
SESSIONS = st.sampled_from(["s1", "s1", "s1", "s2"])


class TreeMachine(StoreMachine):
    """The model: by session and run, a list of states; a state is path -> (bytes, production).

    A production is the number of the put that made the bytes; copies keep the original's.
    """

    @initialize()
    def begin(self):
        self.open_store()
        self.runs = {}
        self.count = 0

    def handle(self, session, run):
        return self.store.session(session).run(run)

    @rule(session=SESSIONS, run=RUNS, path=PATHS, data=BYTES)
    def put(self, session, run, path, data):
        states = self.runs.setdefault((session, run), [{}])
        self.count += 1
        self.handle(session, run).put(path, data, agent=f"agent-{self.count}")
        if path not in states[-1] or states[-1][path][0] != data:
            states.append({**states[-1], path: (data, self.count)})

    @rule(session=SESSIONS, run=RUNS, new=RUNS, data=st.data())
    def fork(self, session, run, new, data):
        states = self.runs.get((session, run))
        if states is None:
            return
        at = data.draw(st.integers(0, len(states) - 1))
        try:
            self.handle(session, run).fork(new, at=at)
        except RunExistsError:
            assert (session, new) in self.runs
            return
        assert (session, new) not in self.runs
        self.runs[session, new] = states[: at + 1]

    @rule(session=SESSIONS, run=RUNS, data=st.data())
    def rewind(self, session, run, data):
        states = self.runs.get((session, run))
        if states is None:
            return
        at = data.draw(st.integers(0, len(states) - 1))
        snapshot = self.handle(session, run).rewind(at)
        before, after = states[-1], states[at]
        kept = {
            path: before[path] if path in before and before[path][0] == content[0] else content
            for path, content in after.items()
        }
        if kept != before:
            states.append(kept)
        assert snapshot.number == len(states) - 1
        assert snapshot.recorded == (kept != before)

    @rule(session=SESSIONS, run=RUNS)
    def delete(self, session, run):
        states = self.runs.pop((session, run), None)
        if states is None:
            try:
                self.handle(session, run).delete()
            except UnknownRunError:
                return
            raise AssertionError("a run that is not there was deleted")
        mine = {content for state in states for content, _ in state.values()}
        others = {
            content
            for (where, _), history in self.runs.items()
            if where == session
            for state in history
            for content, _ in state.values()
        }
        receipt = self.handle(session, run).delete()
        assert {b.digest for b in receipt.released} == {Digest.of(c) for c in mine - others}
        assert {b.digest for b in receipt.kept} == {Digest.of(c) for c in mine & others}

    @rule(session=SESSIONS, one=RUNS, two=RUNS)
    def diff(self, session, one, two):
        if (session, one) not in self.runs or (session, two) not in self.runs:
            return
        before, after = (self.runs[session, run][-1] for run in (one, two))
        found = self.handle(session, one).diff(self.handle(session, two))
        same = {p for p in before.keys() & after.keys() if before[p][0] == after[p][0]}
        assert {v.path for v in found.added} == after.keys() - before.keys()
        assert {v.path for v in found.removed} == before.keys() - after.keys()
        assert {c.path for c in found.changed} == (before.keys() & after.keys()) - same
        assert {v.path for v in found.identical} == same

    @invariant()
    def every_run_holds_what_it_held_at_every_snapshot(self):
        for (session, name), states in getattr(self, "runs", {}).items():
            run = self.handle(session, name)
            for number, state in enumerate(states):
                files = run.files(at=number)
                assert {v.path: run.read_bytes(v.path, at=number) for v in files} == {
                    path: content for path, (content, _) in state.items()
                }
                assert {v.path: v.agent for v in files} == {
                    path: f"agent-{made}" for path, (_, made) in state.items()
                }

    @invariant()
    def each_production_is_told_once(self):
        for session in ("s1", "s2") if hasattr(self, "runs") else ():
            made = {}
            for (where, _), states in self.runs.items():
                for state in states if where == session else ():
                    for content, number in state.values():
                        made.setdefault(content, set()).add(f"agent-{number}")
            for content, agents in made.items():
                found = self.store.session(session).producers(Digest.of(content))
                assert sorted(v.agent for v in found) == sorted(agents)


@pytest.mark.slow
@pytest.mark.parametrize("combination", COMBINATIONS)
def test_a_tree_of_runs_does_what_the_model_does(stores, combination):
    run_on(TreeMachine, stores, combination, steps=30)
