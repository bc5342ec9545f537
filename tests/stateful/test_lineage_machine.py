"""What was made from what, and what is stale, against a model that knows each step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from machines import StoreMachine, run_on
from places import EACH_INDEX

PATHS = ["f", "g", "h"]
RUNS = st.sampled_from(["one", "two"])
PICK = st.integers(0, 1_000)
WRITES = st.dictionaries(
    st.sampled_from(PATHS), st.sampled_from([None, None, b"", b"A", b"B"]), min_size=1, max_size=2
)
"""What a step writes; None for bytes that no other has."""


@dataclass(eq=False)
class Version:
    """A version, and what its step has read: each a run (None for its own), path, number, bytes."""

    run: str
    path: str
    number: int
    content: bytes
    read: list[tuple[str | None, str, int, bytes]]
    made: int
    """When, as a count."""
    first: int
    """The snapshot that has it first."""
    end: int | None = None
    """The snapshot that has it no longer."""
    origin: Version | None = None
    dropped: bool = False

    @property
    def name(self):
        return (self.run, self.path, self.number)

    def is_at(self, snapshot):
        return self.first <= snapshot and (self.end is None or self.end > snapshot)


@dataclass
class Model:
    """All versions of all runs."""

    versions: list[Version] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)
    """The newest snapshot of each run."""
    begun: dict[str, int] = field(default_factory=dict)
    count: int = 0

    def of(self, run):
        return [each for each in self.versions if each.run == run]

    def present(self, run, path):
        found = [each for each in self.of(run) if each.path == path and each.end is None]
        return found[0] if found else None

    def begin(self, run):
        if run not in self.begun:
            self.count += 1
            self.begun[run], self.newest[run] = self.count, 0

    def record(self, run, changes):
        """Record a snapshot with new versions, or None, of paths."""
        self.newest[run] += 1
        self.count += 1
        for path, new in changes.items():
            before = self.present(run, path)
            if before:
                before.end = self.newest[run]
            if new:
                number = 1 + max((v.number for v in self.of(run) if v.path == path), default=0)
                placed = {"run": run, "path": path, "number": number, "made": self.count}
                self.versions.append(replace(new, **placed, first=self.newest[run], end=None))

    # What is true

    def named(self, version, reading):
        """Return the version that one has read, if it is still there."""
        run, path, number, content = reading
        name = (run or version.run, path, number)
        found = [v for v in self.versions if v.name == name and v.content == content]
        return found[0] if found else None

    def is_produced(self, version):
        """Whether it is no copy, or the first one of a version that is deleted."""
        origin = version.origin
        if origin is None or origin in self.versions:
            return origin is None
        copies = [v for v in self.versions if v.origin is origin]
        return version is min(copies, key=self._age)

    def _age(self, version):
        run = version.run
        return version.made, self.begun[run], run, version.path, version.number

    def first_of(self, content):
        """Return the version that was produced first with some bytes, of those that are kept."""
        found = [
            v for v in self.versions
            if v.content == content and not v.dropped and self.is_produced(v)
        ]  # fmt: skip
        return min(found, key=self._age, default=None)

    def sources(self, version):
        """Return what a version comes from, a step above: its equal, or what its step has read."""
        if version.origin in self.versions:
            return [version.origin]
        first = self.first_of(version.content) if version.content else None
        if first and version.dropped and first.made >= version.made:
            first = None
        read = [self.named(version, each) or self.first_of(each[3]) for each in version.read]
        return [each for each in (first, *read) if each and each is not version]

    def above(self, version):
        found, left = {version.name}, [version]
        while left:
            new = [each for each in self.sources(left.pop()) if each.name not in found]
            found |= {each.name for each in new}
            left += new
        return found

    def stale(self):
        """Return the present files that are made from versions which have newer ones."""
        found = set()
        for used in self.versions:
            now = self.present(used.run, used.path)
            if used.end is None or now is None or now.content == used.content or not used.content:
                continue
            reached, left = {used.name}, [used]
            while left:
                source = left.pop()
                for each in self.versions:
                    is_later = (each.run, each.path) == (used.run, used.path)
                    read = any(self.named(each, reading) is source for reading in each.read)
                    if read and source.content and not is_later and each.name not in reached:
                        reached.add(each.name)
                        left.append(each)
                        found |= {each.name} if each.end is None else set()
        return found


class LineageMachine(StoreMachine):
    """Two runs and their forks, in one session. Each step has an event of its own."""

    @initialize()
    def begin(self):
        self.open_store()
        self.session = self.store.session("s")
        self.model = Model()
        self.steps = 0

    def pick(self, number, wanted):
        found = [each for each in self.model.versions if wanted(each)]
        return found[number % len(found)] if found else None

    @rule(run=RUNS, reads=st.lists(PICK, max_size=2), writes=WRITES)
    def step(self, run, reads, writes):
        self.steps += 1
        who = {"node_id": "n", "event_id": f"e{self.steps}"}
        picked = (self.pick(number, lambda each: not each.dropped) for number in reads)
        read = {each.name: each for each in picked if each}
        handle = self.session.run(run)
        if read:
            self.model.begin(run)
            handle.use(*(self.session.run(r).file(p, version=n) for r, p, n in read), **who)
        contents = {
            path: c if c is not None else b"%d%s" % (self.steps, path.encode())
            for path, c in writes.items()
        }
        handle.put_many(list(contents.items()), **who)
        self.model.begin(run)
        readings = [
            (None if each.run == run else each.run, each.path, each.number, each.content)
            for each in read.values()
        ]
        changes = {}
        for path, content in contents.items():
            before = self.model.present(run, path)
            if before is None or before.content != content:
                changes[path] = Version(run, path, 0, content, readings, 0, 0)
        if changes:
            self.model.record(run, changes)

    @rule(run=PICK, at=PICK)
    def rewind(self, run, at):
        run = self.some_run(run)
        if run is None:
            return
        at %= self.model.newest[run] + 1
        changes = {}
        for path in PATHS:
            before = self.model.present(run, path)
            then = [v for v in self.model.of(run) if v.path == path and v.is_at(at)]
            if then and not then[0].dropped and not (before and before.content == then[0].content):
                changes[path] = replace(then[0], origin=then[0].origin or then[0])
            elif before and not then:
                changes[path] = None
        self.session.run(run).rewind(at)
        if changes:
            self.model.record(run, changes)

    @rule(run=PICK, at=PICK)
    def fork(self, run, at):
        run = self.some_run(run)
        if run is None:
            return
        at %= self.model.newest[run] + 1
        self.steps += 1
        new = f"fork-{self.steps}"
        self.session.run(run).fork(new, at=at)
        self.model.begin(new)
        self.model.newest[new] = at
        for each in self.model.of(run):
            end = each.end if each.end is not None and each.end <= at else None
            if each.first <= at and not (each.dropped and end is None):
                origin = each.origin or each
                self.model.versions.append(replace(each, run=new, end=end, origin=origin))

    def some_run(self, number):
        runs = sorted(self.model.begun)
        return runs[number % len(runs)] if runs else None

    @rule(number=PICK)
    def drop(self, number):
        version = self.pick(number, lambda each: each.end is not None and not each.dropped)
        if version:
            self.session.run(version.run).drop(version.path, version=version.number, reason="large")
            version.dropped = True

    @rule(number=PICK)
    def remove(self, number):
        version = self.pick(number, lambda each: each.end is None)
        if version:
            self.session.run(version.run).remove(version.path)
            self.model.record(version.run, {version.path: None})

    @rule(run=PICK, really=st.sampled_from([False, False, True]))
    def delete(self, run, really):
        run = self.some_run(run)
        if run and really:
            self.session.run(run).delete()
            self.model.versions = [each for each in self.model.versions if each.run != run]
            del self.model.begun[run], self.model.newest[run]

    @invariant()
    def everything_comes_from_what_its_step_has_read(self):
        for each in getattr(self, "model", Model()).versions[-4:]:
            start = next(
                version
                for version in self.session.run(each.run).history(each.path)
                if version.version == each.number
            )
            found = self.session.lineage(start)
            assert {(v.run, v.path, v.version) for v in found.versions} == self.model.above(each)

    @invariant()
    def what_has_a_newer_source_is_stale(self):
        if getattr(self, "model", Model()).begun:
            found = {
                (s.version.run, s.version.path, s.version.version) for s in self.session.stale()
            }
            assert found == self.model.stale()


@pytest.mark.slow
@pytest.mark.parametrize("combination", EACH_INDEX)
def test_lineage_and_stale_are_what_the_steps_have_read(combination, stores):
    run_on(LineageMachine, stores, combination, steps=20)
