"""A process is killed at random moments of its operations on a store, again and again.

Each time the store is opened again, every byte of it is verified, and what the process had
acknowledged is compared byte by byte. Then the operation is repeated and completes, and garbage
collection leaves nothing. One store lives through all kills.

CAS_KILLS is the number of kills, an eighth of that on services; CAS_SEED is the seed:

    CAS_KILLS=300 pytest -s tests/crash/test_kill_loop.py
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter

import pytest
from kill_world import NewWorld, World
from victims import Victims

KILLS = int(os.environ.get("CAS_KILLS", "11"))
SEED = int(os.environ.get("CAS_SEED", "5"))

OPERATIONS = (
    "track", "put", "delete", "collect", "compact", "restore", "back_up", "recover", "sync",
    "repair", "migrate",
)  # fmt: skip


@pytest.fixture(scope="module")
def victims():
    with Victims() as started:
        yield started


class Loop:
    """Kills, and counts in which state they hit."""

    def __init__(self, world, new_world, victims, draw):
        self._world = world
        self._new_world = new_world
        self._victims = victims
        self._draw = draw
        self._pauses = {}
        """For each operation, the seconds before each of its lines when it is not killed."""
        self.kills = Counter()
        self.struck = Counter()
        self.begun = Counter()
        """Number of kills during an operation after it had acknowledged something."""

    def run(self, operation):
        """Have an operation done, killed, and done again; at first, also without a kill."""
        if operation not in self._pauses:
            self._pauses[operation] = self._once(operation, None).pauses
        # Choose among lines evenly. Otherwise most kills would hit the longest step: on services,
        # connecting, before anything was acknowledged.
        lines = self._draw.randrange(len(self._pauses[operation]))
        fate = self._once(operation, (lines, self._draw.uniform(0, self._pauses[operation][lines])))
        self.kills[operation] += 1
        self.struck[operation] += not fate.is_done
        if fate.is_done:  # it has become faster
            self._pauses[operation][lines] /= 2
        self.begun[operation] += bool(not fate.is_done and fate.said)

    def _once(self, operation, kill):
        world = self._new_world if operation == "migrate" else self._world
        attempt = getattr(world, operation)()
        fate = self._victims.run(attempt.operation, attempt.told, kill=kill)
        world.check_killed(attempt, fate.said)
        world.complete(attempt)
        self._world.tidy()
        return fate

    def tell(self, combination):
        """Print the figures, for `pytest -s`."""
        lines = [f"{'operation':10} {'kills':>6} {'struck':>6} {'acknowledged before':>20}"]
        lines += [
            f"{name:10} {self.kills[name]:6} {self.struck[name]:6} {self.begun[name]:20}"
            for name in OPERATIONS
        ]
        totals = (sum(each.values()) for each in (self.kills, self.struck, self.begun))
        lines.append("{:10} {:6} {:6} {:20}".format("all", *totals))
        lines += [f"{count:6}  {what}" for what, count in self._world.found.items()]
        sys.stdout.write("\n".join([f"\n{combination}, seed {SEED}", *lines, ""]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("combination", "kills"),
    [("sqlite-local", KILLS), ("postgresql-s3", max(KILLS // 8, 1))],
    ids=["sqlite-local", "postgresql-s3"],
)
def test_nothing_that_was_acknowledged_is_lost(stores, victims, tmp_path, combination, kills):
    draw = random.Random(f"{SEED} {combination}")
    world = World(stores, combination, tmp_path / "world", draw)
    new_world = NewWorld(stores, combination)
    loop = Loop(world, new_world, victims, draw)
    waiting = []
    for _ in range(kills):
        if not waiting:
            waiting = draw.sample(OPERATIONS, len(OPERATIONS))
        loop.run(waiting.pop())
    loop.tell(combination)
    assert sum(loop.kills.values()) == kills
    if kills >= len(OPERATIONS):  # fewer kills prove nothing
        assert sum(loop.struck.values()) > kills * 0.4
    world.drop()
