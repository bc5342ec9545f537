"""Running a state machine on each combination of index and blobs."""

from __future__ import annotations

from hypothesis import settings

EXAMPLES_ELSEWHERE = 0.15
"""Of the examples of SQLite and local blobs, how many the others get: each statement and request of
theirs goes through a socket, and a step costs up to ten times as much. What is theirs alone is in
each example; what is the model's is found on the quick one."""


def run_on(machine, stores, combination, *, steps):
    """Run a machine, whose class attributes `stores` and `combination` say where, or raise."""
    examples = settings().max_examples
    if combination != "sqlite-local":
        examples = max(1, int(examples * EXAMPLES_ELSEWHERE))
    chosen = {"stores": stores, "combination": combination}
    case = type(machine.__name__, (machine,), chosen).TestCase
    case.settings = settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    case("runTest").runTest()
