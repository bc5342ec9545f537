"""Run a state machine: on which store, with how many examples, and with which report."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine

from index import ArtifactStore

if TYPE_CHECKING:
    from places import Stores

EXAMPLES = 0.5
"""Share of the profile's examples that a machine gets: its examples are long."""

EXAMPLES_ELSEWHERE = 0.15
"""The same on other combinations than SQLite and local blobs. Each of their statements and requests
goes through a socket, and a step costs up to ten times as much. Faults of a combination show in any
example; faults of the model show on the quick one."""


class StoreMachine(RuleBasedStateMachine):
    """A machine with a store of its own, on a combination; it calls `open_store` first."""

    stores: Stores
    combination: str

    def open_store(self, **options):
        self.folder = Path(tempfile.mkdtemp())
        self.place = self.stores.make(self.combination, self.folder / "place")
        self.store = ArtifactStore.open(**self.place, **options)

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            self.stores.drop(self.place)
            shutil.rmtree(self.folder)


def run_machine(machine, *, steps, share=EXAMPLES):
    """Run a machine with a share of the profile's examples, or raise.

    Where examples are repeatable, the first failing one is reported as it was drawn. Shrinking runs
    a machine hundreds of times and takes minutes; only the profile `nightly` does it.
    """
    profile = settings()
    phases = [
        phase
        for phase in profile.phases
        if not (profile.derandomize and phase in (Phase.shrink, Phase.explain))
    ]
    case = machine.TestCase
    case.settings = settings(
        max_examples=max(1, int(profile.max_examples * share)),
        stateful_step_count=steps,
        phases=phases,
    )
    case("runTest").runTest()


def run_on(machine, stores, combination, *, steps):
    """Run a machine on a combination, given by its class attributes, or raise."""
    share = EXAMPLES if combination == "sqlite-local" else EXAMPLES_ELSEWHERE
    chosen = {"stores": stores, "combination": combination}
    run_machine(type(machine.__name__, (machine,), chosen), steps=steps, share=share)
