from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from index import Provenance, carried, provenance
from index.domain.provenance import current_provenance
from index.errors import InvalidNameError


def test_inner_scopes_add_to_outer_ones_and_end():
    with provenance(phase="control", agent="a"):
        with provenance(agent="b", node_id="n") as told:
            assert told == Provenance(phase="control", agent="b", node_id="n")
            assert current_provenance() == told
        assert current_provenance() == Provenance(phase="control", agent="a")
    assert current_provenance() == Provenance()


def test_a_scope_ends_when_its_block_raises():
    with pytest.raises(RuntimeError), provenance(agent="a"):
        raise RuntimeError
    assert current_provenance() == Provenance()


def test_a_new_thread_starts_without_a_scope():
    seen = []
    with provenance(agent="a"):
        thread = threading.Thread(target=lambda: seen.append(current_provenance()))
        thread.start()
        thread.join()
    assert seen == [Provenance()]


def test_concurrent_tasks_do_not_see_each_others_scope():
    async def agent(name, started, other):
        with provenance(agent=name):
            started.set()
            await other.wait()
            in_thread = await asyncio.to_thread(current_provenance)
            return current_provenance().agent, in_thread.agent

    async def both():
        one, two = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(agent("a", one, two), agent("b", two, one))

    assert asyncio.run(both()) == [("a", "a"), ("b", "b")]


@pytest.mark.parametrize("value", ["", "x" * 256, "a\0b"])
def test_a_value_that_does_not_fit_is_refused(value):
    with pytest.raises(InvalidNameError, match="agent"), provenance(agent=value):
        pass


def test_an_opaque_id_may_look_like_a_path():
    assert Provenance(node_id="steps/3/..").node_id == "steps/3/.."


class TestCoroutinesAndGenerators:
    """A coroutine has the scope in which it was created, not that in which it runs."""

    def test_a_carried_coroutine_function_runs_in_the_scope(self):
        async def agent():
            await asyncio.sleep(0)
            return current_provenance().agent

        with provenance(agent="outer"):
            work = carried(agent)
            by_lambda = carried(lambda: agent())
        for one in (work, by_lambda):
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(lambda one=one: asyncio.run(one())).result() == "outer"
        assert current_provenance().agent is None

    def test_a_decorated_function_or_coroutine_runs_in_the_scope(self):
        @provenance(agent="inner")
        def plain():
            return current_provenance()

        @provenance(agent="inner")
        async def later():
            await asyncio.sleep(0)
            return current_provenance()

        async def both():
            with provenance(phase="control"):
                return await asyncio.gather(later(), later())

        with provenance(phase="control"):
            assert (plain().agent, plain().phase) == ("inner", "control")
        assert {(one.agent, one.phase) for one in asyncio.run(both())} == {("inner", "control")}

    def test_generators_are_refused(self):
        def items():
            yield 1

        async def later():
            yield 1

        for one in (items, later):
            with pytest.raises(TypeError, match="is a generator"):
                carried(one)
            with pytest.raises(TypeError, match="is a generator"):
                provenance(agent="a")(one)
