"""Writers, deletions and collections in any order, with arbitrary clocks, against dicts."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from chunkers import chunks_of
from garbage import Clock, check_only_tombstones, check_sound, collect, scalar, tables_of
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from machines import StoreMachine, run_on
from places import CORNERS, objects_of

from cas.digest import Digest
from index import ArtifactStore

MIB = 1 << 20
_LARGE = random.Random(1).randbytes(MIB)
_PIECE = chunks_of(_LARGE)[0]
CONTENTS = {
    "empty": b"",
    "one": b"one",
    "text": b"two" * 3000,
    "piece": _PIECE,
    "large": _LARGE,
    "larger": _LARGE + _PIECE,
}
RUNS = st.sampled_from(["r1", "r2", "r3"])
GRACES = st.sampled_from([timedelta(0), timedelta(hours=1), None])


class GcMachine(StoreMachine):
    """The model: by run, the contents of its paths; for each content, its last reference."""

    @initialize()
    def begin(self):
        self.clock = Clock()
        self.open_store(clock=self.clock)
        self.collector = ArtifactStore.open(**self.place, clock=self.clock)
        self.runs = {}
        self.deletions = 0

    def teardown(self):
        if hasattr(self, "collector"):
            self.collector.close()
        super().teardown()

    def handle(self, run):
        return self.store.session("s").run(run)

    @rule(run=RUNS, path=st.sampled_from("ab"), name=st.sampled_from(list(CONTENTS)))
    def put(self, run, path, name):
        content = CONTENTS[name]
        self.handle(run).put(path, content)
        self.runs.setdefault(run, []).append((path, content))

    @rule(run=RUNS, new=RUNS)
    def fork(self, run, new):
        if run in self.runs and new not in self.runs:
            self.handle(run).fork(new)
            self.runs[new] = list(self.runs[run])

    @rule(run=RUNS)
    def delete(self, run):
        if self.runs.pop(run, None) is not None:
            self.handle(run).delete()
            self.deletions += 1

    @rule(hours=st.integers(-30, 60))
    def move_the_clock(self, hours):
        self.clock.go(timedelta(hours=hours))

    @rule(grace=GRACES, compact=st.booleans())
    def collect(self, grace, compact):
        collect(self.collector, grace=grace, compact=compact)

    @rule()
    def collect_everything(self):
        collect(self.collector, remove_orphans=True)
        needed = {content for puts in self.runs.values() for _, content in puts}
        entries = {chunk for content in needed for chunk in chunks_of(content)}
        large = needed - entries
        found = tables_of(self.store)
        assert found["contents"] == len(entries) + 2 * len(large)
        assert found["chunk_lists"] == len(large)
        assert found["released"] == 0
        assert self.collector.plan_gc(grace=timedelta(0)).swept.blobs == 0
        told = scalar(self.store, "SELECT count(*) FROM cas_records WHERE run_id IS NULL")
        assert told == self.deletions
        if not needed:
            check_only_tombstones(self.store, objects_of(self.place), self.deletions)

    @invariant()
    def everything_that_is_referred_to_is_right(self):
        for run, puts in getattr(self, "runs", {}).items():
            for path, content in dict(puts).items():
                assert self.handle(run).read_bytes(path) == content
            for _, content in puts:
                digest = Digest.of(content)
                assert self.store.session("s").read_bytes(digest) == content

    @invariant()
    def no_row_leads_nowhere(self):
        if hasattr(self, "store"):
            check_sound(self.store, self.place)


@pytest.mark.slow
@pytest.mark.parametrize("combination", CORNERS)
def test_collections_take_what_nothing_refers_to_and_nothing_else(stores, combination):
    run_on(GcMachine, stores, combination, steps=15)
