"""The protocol of writers, collectors and readers, checked in every interleaving.

It is the protocol of `docs/protocol/protocol.pml`, written a second time and independently of SPIN,
so that it is checked wherever the tests run. The search is breadth-first, so the path to a fault is
as short as possible. Writers are interchangeable, and so are collectors and readers: states that
differ only in their order are one.

A crash loses only what a process knows, and another process may take its place. So a crash is a
step back to the start, possible at any point. Clocks are not trusted: everything may be older than
the grace period at any time, so no step of a collector waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Checked", "Size", "Variant", "check"]

NOWHERE = -1


class Variant(StrEnum):
    """Differences from the protocol, named as the macros of the specification."""

    CALLERS_TRANSACTION = "CALLERS_TRANSACTION"
    NO_CLEAR = "NO_CLEAR"
    FLAG_SWEEP = "FLAG_SWEEP"
    EARLIER_LOOK = "EARLIER_LOOK"
    NO_PENDING = "NO_PENDING"
    NO_PENDING_CHECK = "NO_PENDING_CHECK"
    NO_RECHECK = "NO_RECHECK"
    ROWS_FIRST = "ROWS_FIRST"
    OBJECT_FIRST = "OBJECT_FIRST"
    NAMES_RETURN = "NAMES_RETURN"
    MOVE_UNCHECKED = "MOVE_UNCHECKED"
    DELETE_BEFORE_MOVE = "DELETE_BEFORE_MOVE"
    ONE_LOOK = "ONE_LOOK"
    TWO_LOOKS = "TWO_LOOKS"


class Row(Enum):
    """The row of a pack; NEVER if it was not registered, GONE if it was deleted."""

    NEVER = 0
    PENDING = 1
    LIVE = 2
    DEAD = 3
    GONE = 4


class Pack(NamedTuple):
    row: Row
    present: bool
    """Whether its object is in storage."""
    held: int
    """Its digests as a bit set, as all sets of digests here."""
    late: bool = False
    """Whether it was published after it was declared dead."""


class Writer(NamedTuple):
    at: str = ""
    needs: int = 0
    missing: int = 0
    pack: int = NOWHERE
    references: int = 0
    """Committed references that were not deleted. Only they outlive a crash."""


class Collector(NamedTuple):
    at: str = ""
    pack: int = NOWHERE
    """The pack that it deletes or compacts."""
    into: int = NOWHERE
    moving: int = 0


class Reader(NamedTuple):
    at: str = ""
    digest: int = 0
    pack: int = NOWHERE
    looks: int = 0


class State(NamedTuple):
    rows: tuple[int, ...]
    """The pack that each digest's row points into."""
    condemned: int
    packs: tuple[Pack, ...]
    writers: tuple[Writer, ...]
    collectors: tuple[Collector, ...]
    readers: tuple[Reader, ...]
    unneeded: int = 0
    """Digests without a reference at the last look of a collector that trusts it (a variant)."""

    @property
    def known(self) -> int:
        return sum(1 << digest for digest, pack in enumerate(self.rows) if pack != NOWHERE)

    @property
    def referenced(self) -> int:
        found = 0
        for writer in self.writers:
            found |= writer.references
        return found

    def canonical(self) -> State:
        return self._replace(
            writers=tuple(sorted(self.writers)),
            collectors=tuple(sorted(self.collectors)),
            readers=tuple(sorted(self.readers)),
        )


class Size(NamedTuple):
    """How many there are of each; writers stop when no pack name is left."""

    writers: int = 2
    collectors: int = 2
    readers: int = 0
    digests: int = 1
    packs: int = 3


@dataclass(frozen=True)
class Checked:
    """The result of a check."""

    states: int
    depth: int
    fault: str | None
    """None if no state has a fault."""
    steps: tuple[str, ...] = ()
    """The steps that lead to the fault."""


class FaultError(Exception):
    """A step found a forbidden state."""


Step = tuple[str, State]


def replaced(items: tuple, number: int, item: object) -> tuple:
    return (*items[:number], item, *items[number + 1 :])


def at_work(state: State, kind: str, number: int, process: tuple) -> State:
    """Return the state after one process has changed."""
    return state._replace(**{kind: replaced(getattr(state, kind), number, process)})


def bits(digests: int) -> Iterator[int]:
    return (digest for digest in range(digests.bit_length()) if digests >> digest & 1)


class Protocol:
    """The steps that each process can take. A change of several rows is one transaction."""

    def __init__(self, size: Size, variants: frozenset[Variant]) -> None:
        self.size = size
        self.variants = variants
        unregistered = {Variant.NO_PENDING, Variant.CALLERS_TRANSACTION}
        self.registers = not variants & unregistered

    def steps(self, state: State) -> Iterator[Step]:
        for number, writer in enumerate(state.writers):
            yield from self.go_on(state, "writers", number, self.write(state, number, writer))
            for digest in bits(writer.references):
                yield f"delete reference {digest}", self.unreferenced(state, number, digest)
        yield from self.collect(state)
        for number, collector in enumerate(state.collectors):
            taken = [
                *self.delete(state, number, collector),
                *self.compact(state, number, collector),
            ]
            yield from self.go_on(state, "collectors", number, iter(taken))
        for number, reader in enumerate(state.readers):
            yield from self.go_on(state, "readers", number, self.read(state, number, reader))

    def go_on(self, state: State, kind: str, number: int, taken: Iterator[Step]) -> Iterator[Step]:
        """Yield the next steps of a process, and its crash; raise FaultError if it is stuck."""
        process = getattr(state, kind)[number]
        able = False
        for step in taken:
            able = True
            yield step
        if process.at:
            if not able:
                raise FaultError(f"one of the {kind} is stuck at {process.at!r}")
            yield f"crash at {process.at}", self.idle(state, kind, number)

    def idle(self, state: State, kind: str, number: int) -> State:
        process = getattr(state, kind)[number]
        fresh = type(process)()
        if kind == "writers":
            fresh = Writer(references=process.references)
        return at_work(state, kind, number, fresh)

    def unreferenced(self, state: State, number: int, digest: int) -> State:
        writer = state.writers[number]
        writer = writer._replace(references=writer.references & ~(1 << digest))
        state = state._replace(writers=replaced(state.writers, number, writer))
        if state.referenced >> digest & 1:
            return state
        # A reader of deleted data has no guarantee.
        readers = tuple(
            Reader() if reader.at and reader.digest == digest else reader
            for reader in state.readers
        )
        return state._replace(readers=readers)

    # Writers

    def write(self, state: State, number: int, writer: Writer) -> Iterator[Step]:
        stages = {"": self.begin, "register": self.register, "publish": self.put}
        yield from stages.get(writer.at, self.finish)(state, number, writer)

    def begin(self, state: State, number: int, writer: Writer) -> Iterator[Step]:
        for needs in range(1, 1 << self.size.digests):
            missing = needs & ~state.known
            if not missing or self.names(state):
                at = "register" if missing else "commit"
                found = writer._replace(at=at, needs=needs, missing=missing)
                yield f"look for {needs:b}", at_work(state, "writers", number, found)

    def register(self, state: State, number: int, writer: Writer) -> Iterator[Step]:
        yield "no name is left", self.idle(state, "writers", number)
        for name in self.names(state):
            if self.registers:
                pack = Pack(Row.PENDING, present=False, held=writer.missing)
                at = "commit" if Variant.ROWS_FIRST in self.variants else "publish"
            else:
                pack, at = Pack(Row.NEVER, present=True, held=writer.missing), "commit"
            done = writer._replace(at=at, pack=name)
            registered = self.with_pack(state, name, pack)
            yield f"name {name}, {pack.row.name}", at_work(registered, "writers", number, done)

    def put(self, state: State, number: int, writer: Writer) -> Iterator[Step]:
        done = writer._replace(at="commit")
        if Variant.ROWS_FIRST in self.variants:
            done = Writer(references=writer.references)
        published = self.publish(state, writer.pack)
        yield f"publish {writer.pack}", at_work(published, "writers", number, done)

    def finish(self, state: State, number: int, writer: Writer) -> Iterator[Step]:
        committed = self.commit(state, writer)
        if committed is None:
            yield "superseded", self.idle(state, "writers", number)
            return
        references = writer.references | writer.needs
        done = Writer(references=references)
        if Variant.ROWS_FIRST in self.variants and writer.pack != NOWHERE:
            done = writer._replace(at="publish", references=references)
        yield f"commit {writer.needs:b}", at_work(committed, "writers", number, done)

    def commit(self, state: State, writer: Writer) -> State | None:
        """Return the state with its rows, or None if the transaction fails."""
        rows, condemned = list(state.rows), state.condemned
        if writer.pack != NOWHERE:
            pack = state.packs[writer.pack]
            pending = Row.PENDING if self.registers else Row.NEVER
            if pack.row != pending and Variant.NO_PENDING_CHECK not in self.variants:
                return None
            state = self.with_pack(state, writer.pack, pack._replace(row=Row.LIVE))
            for digest in bits(pack.held):
                if rows[digest] == NOWHERE:
                    rows[digest] = writer.pack
        gone = any(rows[digest] == NOWHERE for digest in bits(writer.needs))
        if gone and Variant.NO_RECHECK not in self.variants:
            return None
        if Variant.NO_CLEAR not in self.variants:
            condemned &= ~writer.needs
        return state._replace(rows=tuple(rows), condemned=condemned)

    def names(self, state: State) -> list[int]:
        """Return the names that a new pack may get: only unused ones."""
        if Variant.NAMES_RETURN in self.variants:
            for name, pack in enumerate(state.packs):
                if pack.row == Row.GONE:
                    return [name]
        return [len(state.packs)] if len(state.packs) < self.size.packs else []

    def with_pack(self, state: State, name: int, pack: Pack) -> State:
        return state._replace(packs=(*state.packs[:name], pack, *state.packs[name + 1 :]))

    def publish(self, state: State, name: int) -> State:
        pack = state.packs[name]
        late = pack.row in (Row.DEAD, Row.GONE)
        return self.with_pack(state, name, pack._replace(present=True, late=late))

    # Collectors

    def collect(self, state: State) -> Iterator[Step]:
        """Yield single transactions, which any collector may begin."""
        referenced = state.referenced
        for digest in bits(state.known):
            bit = 1 << digest
            if not state.condemned & bit:
                if not referenced & bit:
                    yield f"condemn {digest}", state._replace(condemned=state.condemned | bit)
            elif not referenced & bit or Variant.FLAG_SWEEP in self.variants:
                rows = replaced(state.rows, digest, NOWHERE)
                swept = state._replace(rows=rows, condemned=state.condemned & ~bit)
                yield f"sweep {digest}", swept
            yield from self.sweep_at_once(state, digest)
        if Variant.OBJECT_FIRST not in self.variants:
            for name in self.unused(state):
                dead = self.with_pack(state, name, state.packs[name]._replace(row=Row.DEAD))
                yield f"declare {name} dead", dead

    def sweep_at_once(self, state: State, digest: int) -> Iterator[Step]:
        """Sweep without condemning first, as without a grace period."""
        bit = 1 << digest
        may_go = not state.referenced & bit
        if Variant.EARLIER_LOOK in self.variants:
            if may_go and not state.unneeded & bit:
                yield f"look at {digest}", state._replace(unneeded=state.unneeded | bit)
            may_go = bool(state.unneeded & bit)
        if may_go:
            rows = replaced(state.rows, digest, NOWHERE)
            swept = state._replace(rows=rows, condemned=state.condemned & ~bit)
            yield f"sweep {digest} at once", swept

    def unused(self, state: State) -> Iterator[int]:
        """Yield the packs that may be declared dead."""
        for name, pack in enumerate(state.packs):
            if pack.row == Row.PENDING or (pack.row == Row.LIVE and name not in state.rows):
                yield name

    def delete(self, state: State, number: int, collector: Collector) -> Iterator[Step]:
        """Yield the three steps that remove the object of a pack."""
        name = collector.pack
        if not collector.at:
            for found in self.deletable(state):
                done = Collector("delete", found)
                yield f"choose {found}", at_work(state, "collectors", number, done)
        elif collector.at == "delete":
            left = self.with_pack(state, name, state.packs[name]._replace(present=False))
            done = collector._replace(at="forget")
            yield f"delete object {name}", at_work(left, "collectors", number, done)
        elif collector.at == "forget":
            row = state.packs[name].row
            if row == Row.DEAD:
                row = Row.GONE
            elif Variant.OBJECT_FIRST in self.variants and name in self.unused(state):
                row = Row.DEAD
            state = self.with_pack(state, name, state.packs[name]._replace(row=row))
            yield f"delete row {name}", self.idle(state, "collectors", number)

    def deletable(self, state: State) -> Iterator[int]:
        """Yield the packs whose objects may be deleted: dead ones, and others in wrong variants."""
        for name, pack in enumerate(state.packs):
            listed = pack.present and pack.row in (Row.NEVER, Row.GONE)
            if pack.row == Row.DEAD or (listed and Variant.NO_PENDING in self.variants):
                yield name
        if Variant.OBJECT_FIRST in self.variants:
            yield from self.unused(state)

    def compact(self, state: State, number: int, collector: Collector) -> Iterator[Step]:
        """Yield the four steps that rewrite a pack."""
        stages = {"": self.choose, "rewrite": self.rewrite, "copy": self.copy, "move": self.move}
        if collector.at in stages:
            yield from stages[collector.at](state, number, collector)

    def choose(self, state: State, number: int, _collector: Collector) -> Iterator[Step]:
        for name, pack in enumerate(state.packs):
            moving = sum(1 << digest for digest, at in enumerate(state.rows) if at == name)
            if pack.row == Row.LIVE and moving and self.names(state):
                done = Collector("rewrite", name, moving=moving)
                yield f"compact {name}", at_work(state, "collectors", number, done)

    def rewrite(self, state: State, number: int, collector: Collector) -> Iterator[Step]:
        yield "no name is left", self.idle(state, "collectors", number)
        for name in self.names(state):
            pack = Pack(Row.PENDING, present=False, held=collector.moving)
            done = collector._replace(at="copy", into=name)
            registered = self.with_pack(state, name, pack)
            yield f"name {name}, PENDING", at_work(registered, "collectors", number, done)

    def copy(self, state: State, number: int, collector: Collector) -> Iterator[Step]:
        old, new = collector.pack, collector.into
        if state.packs[old].present:
            done = collector._replace(at="move")
            published = self.publish(state, new)
            yield f"publish {new}", at_work(published, "collectors", number, done)
        else:
            yield f"{old} is gone", self.idle(state, "collectors", number)

    def move(self, state: State, number: int, collector: Collector) -> Iterator[Step]:
        old, new = collector.pack, collector.into
        if Variant.DELETE_BEFORE_MOVE in self.variants and state.packs[old].present:
            left = self.with_pack(state, old, state.packs[old]._replace(present=False))
            yield f"delete object {old}", left
            return
        done = self.idle(state, "collectors", number)
        pack = state.packs[new]
        if pack.row == Row.PENDING or Variant.MOVE_UNCHECKED in self.variants:
            moved = tuple(
                new if at == old and pack.held >> digest & 1 else at
                for digest, at in enumerate(state.rows)
            )
            done = self.with_pack(done, new, pack._replace(row=Row.LIVE))._replace(rows=moved)
        yield f"move rows from {old} to {new}", done

    # Readers

    def read(self, state: State, number: int, reader: Reader) -> Iterator[Step]:
        """Look up a location, read there, and look it up again if the object is gone."""

        if not reader.at:
            for digest in bits(state.referenced):
                yield (
                    f"locate {digest}",
                    at_work(
                        state, "readers", number, Reader("read", digest, state.rows[digest], 1)
                    ),
                )
        elif state.packs[reader.pack].present:
            yield (
                f"read {reader.digest} in {reader.pack}",
                at_work(state, "readers", number, Reader()),
            )
        else:
            allowed = {Variant.ONE_LOOK: 1, Variant.TWO_LOOKS: 2}
            if any(reader.looks == allowed.get(variant) for variant in self.variants):
                raise FaultError(f"a reader gives up on {reader.digest}, which is referenced")
            place = state.rows[reader.digest]
            if place == reader.pack:
                raise FaultError(f"a reader finds {reader.digest} gone, and not moved")
            # More looks are not distinguished, to keep the number of states finite.
            looks = min(reader.looks + 1, 2)
            again = Reader("read", reader.digest, place, looks)
            yield f"locate {reader.digest} again", at_work(state, "readers", number, again)

    # What must hold

    def find_fault(self, state: State) -> str | None:
        """Return what is wrong in a state."""
        for digest in bits(state.referenced):
            if state.rows[digest] == NOWHERE:
                return f"{digest} is referenced and has no row"
            if not state.packs[state.rows[digest]].present:
                return f"{digest} is referenced and its object is gone"
        if not self.variants:
            # Stronger than necessary for rows without a reference. The rest depends on it, so look
            # closely at a change of the protocol that breaks it.
            for digest in bits(state.known):
                pack = state.packs[state.rows[digest]]
                if pack.row != Row.LIVE or not pack.present or not pack.held >> digest & 1:
                    return f"{digest} has a row that points to nothing"
        return None

    def find_garbage(self, state: State) -> str | None:
        """Return garbage of a state that one undisturbed collector should remove, and cannot."""
        left = state
        while step := next(self.collect(left), None) or next(
            self.delete(left, 0, left.collectors[0]), None
        ):
            left = step[1]
        if left.known & ~left.referenced:
            return "a row that nothing refers to can't be collected"
        for name, pack in enumerate(left.packs):
            # An object that was never registered, or came too late, is only reported.
            told = pack.late or pack.row == Row.NEVER
            if pack.present and name not in left.rows and not told:
                return f"the object of {name} can't be collected"
        return None


def check(size: Size, variants: frozenset[Variant] = frozenset()) -> Checked:
    """Visit every reachable state; stop at the first with a fault."""
    search = _Search(Protocol(size, variants))
    try:
        search.run()
    except FaultError as error:
        steps = tuple(search.steps_so_far())
        return Checked(len(search.came_from), len(steps), str(error), steps)
    return Checked(len(search.came_from), len(search.steps_so_far()), None)


class _Search:
    """A breadth-first search, so that the last state is at least as far as all others."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        size = protocol.size
        self._state = State(
            rows=(NOWHERE,) * size.digests,
            condemned=0,
            packs=(),
            writers=(Writer(),) * size.writers,
            collectors=(Collector(),) * size.collectors,
            readers=(Reader(),) * size.readers,
        )
        self.came_from: dict[State, tuple[str, State] | None] = {self._state: None}
        self._cleared: set[State] = set()

    def run(self) -> None:
        waiting = deque([self._state])
        while waiting:
            self._state = state = waiting.popleft()
            for label, reached in self._protocol.steps(state):
                new = reached.canonical()
                if new not in self.came_from:
                    self.came_from[new] = (label, state)
                    self._check(new)
                    waiting.append(new)

    def _check(self, state: State) -> None:
        fault = self._protocol.find_fault(state)
        alone = _undisturbed(state)
        if fault is None and alone not in self._cleared:
            self._cleared.add(alone)
            fault = self._protocol.find_garbage(alone)
        if fault is not None:
            self._state = state
            raise FaultError(fault)

    def steps_so_far(self) -> list[str]:
        """Return the steps to the last visited state."""
        steps = []
        state = self._state
        while (origin := self.came_from[state]) is not None:
            steps.append(origin[0])
            state = origin[1]
        return steps[::-1]


def _undisturbed(state: State) -> State:
    """Return the state after all processes have crashed, with one collector to clean up."""
    return state._replace(
        writers=tuple(Writer(references=writer.references) for writer in state.writers),
        collectors=(Collector(),),
        readers=(),
    )
