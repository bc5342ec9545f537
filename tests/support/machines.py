"""Running a state machine: on which store, with how many examples, what a failure reports."""

from __future__ import annotations

from hypothesis import Phase, settings

EXAMPLES_ELSEWHERE = 0.15
"""Of the examples of SQLite and local blobs, how many the others get: each statement and request of
theirs goes through a socket, and a step costs up to ten times as much. What is theirs alone is in
each example; what is the model's is found on the quick one."""


def run_machine(machine, *, steps, share=1.0):
    """Run a machine with a share of the profile's examples, or raise.

    Where examples are repeatable, the first one that fails is reported as it was drawn. Shrinking
    runs a machine hundreds of times and takes minutes; only the profile `nightly` does it.
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
    """Run a machine, whose class attributes `stores` and `combination` say where, or raise."""
    share = 1.0 if combination == "sqlite-local" else EXAMPLES_ELSEWHERE
    chosen = {"stores": stores, "combination": combination}
    run_machine(type(machine.__name__, (machine,), chosen), steps=steps, share=share)
