from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
import unittest
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager

import pytest

from index import Provenance, carried, provenance
from index.decorators import off_the_loop
from index.domain.scopes import _generators as generators
from index.domain.scopes import _scopes as scopes
from index.domain.scopes import current_provenance
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
    """What a decorated or carried function returns runs in the scope, wherever it runs."""

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

    def test_a_decorated_coroutine_ends_anywhere(self):
        @provenance(agent="inner")
        async def work():
            with provenance(node_id="n"):
                await asyncio.sleep(0)

        coroutine = work()
        contextvars.copy_context().run(coroutine.send, None)
        coroutine.close()
        assert current_provenance() == Provenance()

    def test_a_coroutine_keeps_scopes_of_its_own_between_its_steps(self):
        @provenance(agent="inner")
        async def work():
            with provenance(node_id="n"):
                await asyncio.sleep(0)
                return current_provenance()

        async def both():
            return await asyncio.gather(work(), work())

        assert asyncio.run(both()) == [Provenance(agent="inner", node_id="n")] * 2


async def a_coroutine():
    await asyncio.sleep(0)
    return current_provenance()


def a_generator():
    yield current_provenance()
    return "end"


async def an_async_generator():
    yield current_provenance()


class TestKindsOfFunctions:
    """Frameworks run a function by its kind: a test, a fixture, a handler of requests."""

    @pytest.mark.parametrize("wrap", [carried, provenance(agent="a")])
    @pytest.mark.parametrize(
        "function",
        [a_coroutine, a_generator, an_async_generator, current_provenance, asyncio.sleep],
    )
    def test_a_function_stays_of_its_kind(self, wrap, function):
        wrapped = wrap(function)
        for is_kind in (
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
            asyncio.iscoroutinefunction,
        ):
            assert is_kind(wrapped) == is_kind(function)
        assert wrapped.__name__ == function.__name__
        assert inspect.signature(wrapped) == inspect.signature(function)

    def test_an_asynchronous_test_runs_and_can_fail(self):
        class Case(unittest.IsolatedAsyncioTestCase):
            @provenance(agent="a")
            async def test_it(self):
                self.fail(f"made by {current_provenance().agent}")

        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
        ((_, told),) = result.failures
        assert "made by a" in told

    def test_the_callers_scope_is_taken_when_it_begins_to_run(self):
        inner = provenance(agent="inner")
        with provenance(node_id="made"):
            coroutine, generator = inner(a_coroutine)(), inner(a_generator)()
            items = inner(an_async_generator)()

        async def go():
            with provenance(node_id="run"):
                return await coroutine, await anext(items)

        expected = Provenance(agent="inner", node_id="run")
        assert asyncio.run(go()) == (expected, expected)
        with provenance(node_id="run"):
            assert next(generator) == expected

    def test_what_a_plain_function_returns_runs_in_the_scope_of_its_call(self):
        inner = provenance(agent="inner")
        with provenance(node_id="made"):
            coroutine = inner(lambda: a_coroutine())()
            generator = inner(lambda: a_generator())()
            items = inner(lambda: an_async_generator())()

        async def go():
            return await coroutine, [item async for item in items]

        expected = Provenance(agent="inner", node_id="made")
        assert asyncio.run(go()) == (expected, [expected])
        assert list(generator) == [expected]

    def test_nothing_of_it_runs_if_it_never_begins(self):
        begun = []

        @provenance(agent="a")
        def work():
            begun.append(True)
            yield

        work().close()
        assert begun == []


def items(agent):
    """Yield what is current inside a `with` block of a generator."""
    with provenance(agent=agent):
        for _ in range(3):
            yield current_provenance().agent


async def async_items(agent):
    with provenance(agent=agent):
        for _ in range(3):
            await asyncio.sleep(0)
            yield current_provenance().agent


class TestBlocksInGenerators:
    def test_the_caller_is_in_no_scope_of_a_generator(self):
        planner, engineer = items("planner"), items("engineer")
        assert (next(planner), next(engineer)) == ("planner", "engineer")
        assert current_provenance() == Provenance()
        with provenance(agent="caller"):
            assert next(planner) == "planner"
            assert current_provenance().agent == "caller"
        assert list(planner) == ["planner"]
        assert list(engineer) == ["engineer"] * 2
        assert current_provenance() == Provenance()

    def test_nor_is_it_between_items_of_an_asynchronous_one(self):
        async def go():
            async for item in async_items("writer"):
                assert item == "writer"
                assert current_provenance() == Provenance()
                assert await asyncio.to_thread(current_provenance) == Provenance()
                with provenance(agent="caller"):
                    assert await asyncio.create_task(now()) == Provenance(agent="caller")
            return current_provenance()

        assert asyncio.run(go()) == Provenance()

    @pytest.mark.parametrize(("decorated", "inside"), [(False, "writer"), (True, None)])
    def test_a_task_of_the_consumer_sees_the_block_while_the_generator_runs_but_no_decorator(
        self, decorated, inside
    ):
        async def go():
            runs, looked = asyncio.Event(), asyncio.Event()

            async def steps():
                yield
                runs.set()
                await looked.wait()
                yield

            async def in_block():
                with provenance(agent="writer"):
                    yield
                    runs.set()
                    await looked.wait()
                    yield

            async def of_the_consumer():
                between = current_provenance().agent
                await runs.wait()
                seen = between, current_provenance().agent
                looked.set()
                return seen

            taken = provenance(agent="writer")(steps)() if decorated else in_block()
            await anext(taken)
            task = asyncio.create_task(of_the_consumer())
            await asyncio.sleep(0)  # it begins while the generator rests
            await anext(taken)
            await taken.aclose()
            return await task

        assert asyncio.run(go()) == (None, inside)

    def test_threads_and_tasks_that_a_generator_waits_for_are_in_its_scope(self):
        async def agent():
            with provenance(agent="writer"):
                yield await asyncio.to_thread(current_provenance)
                yield await asyncio.create_task(now())
                yield (await asyncio.gather(now(), now()))[1]
                yield await off_the_loop(current_provenance)

        async def go():
            return [item async for item in agent()]

        assert asyncio.run(go()) == [Provenance(agent="writer")] * 4

    def test_items_may_be_taken_in_any_context(self):
        taken = items("writer")
        for _ in range(3):
            assert contextvars.copy_context().run(next, taken) == "writer"
        assert contextvars.copy_context().run(next, taken, None) is None
        with ThreadPoolExecutor(1) as pool:
            taken = items("writer")
            assert [next(taken), pool.submit(next, taken).result()] == ["writer"] * 2
            pool.submit(taken.close).result()
            assert pool.submit(current_provenance).result() == Provenance()
        assert current_provenance() == Provenance()

    def test_a_generator_may_be_closed_anywhere(self):
        async def closed_by_another_task():
            taken = async_items("writer")
            await anext(taken)
            await asyncio.create_task(taken.aclose())
            return current_provenance()

        async def broken_off():
            complaints = []
            asyncio.get_running_loop().set_exception_handler(lambda _, it: complaints.append(it))
            async for _ in async_items("writer"):
                break
            for _ in range(5):
                gc.collect()
                await asyncio.sleep(0)
            assert not complaints
            return current_provenance()

        gc.collect()  # what other tests left would complain to this loop
        for shape in (closed_by_another_task, broken_off):
            assert asyncio.run(shape()) == Provenance()

    def test_scopes_inside_a_generator_add_to_its_own(self):
        def inner():
            with provenance(node_id="n"):
                return current_provenance()

        def nested():
            with provenance(agent="a"), provenance(phase="p"):
                yield current_provenance()
                yield inner()
                yield next(items("b"))
                yield current_provenance()

        assert list(nested()) == [
            Provenance(agent="a", phase="p"),
            Provenance(agent="a", phase="p", node_id="n"),
            "b",
            Provenance(agent="a", phase="p"),
        ]

    def test_what_a_generator_leaves_behind_is_forgotten(self):
        async def go():
            for _ in range(3):
                taken = async_items("writer")
                await anext(taken)
                await asyncio.create_task(taken.aclose())
            with provenance(agent="a"):
                return len(scopes.get()), len(generators)

        assert asyncio.run(go()) == (1, 0)

    @pytest.mark.parametrize("is_async", [False, True])
    def test_a_context_manager_made_of_a_generator_holds_for_its_caller(self, is_async):
        @contextmanager
        def step(node_id):
            with provenance(node_id=node_id):
                yield

        @asynccontextmanager
        async def async_step(node_id):
            with provenance(node_id=node_id):
                yield

        async def entered():
            async with async_step("n"):
                return current_provenance(), await asyncio.to_thread(current_provenance)

        def all_items():
            with step("n"), provenance(agent="a"):
                yield current_provenance()

        if is_async:
            assert asyncio.run(entered()) == (Provenance(node_id="n"),) * 2
            return
        with step("n"), ExitStack() as stack:
            stack.enter_context(provenance(agent="a"))
            assert current_provenance() == Provenance(node_id="n", agent="a")
        assert current_provenance() == Provenance()
        taken = all_items()
        assert next(taken) == Provenance(node_id="n", agent="a")
        assert current_provenance() == Provenance()
        assert list(taken) == []


async def now():
    return current_provenance()


class TestDecoratedGenerators:
    def test_only_the_steps_are_in_the_scope(self):
        @provenance(agent="inner")
        def work():
            sent = yield current_provenance()
            with provenance(node_id=sent):
                yield current_provenance()
                try:
                    yield
                except KeyError:
                    yield "caught"
                return "end"

        def outer():
            return (yield from steps)

        with provenance(phase="planning"):
            steps = work()
            taken = outer()
        with provenance(phase="control"):
            assert next(taken) == Provenance(phase="control", agent="inner")
        assert current_provenance() == Provenance()
        expected = Provenance(phase="control", agent="inner", node_id="n")
        assert contextvars.copy_context().run(taken.send, "n") == expected
        assert current_provenance() == Provenance()
        next(taken)
        assert taken.throw(KeyError()) == "caught"
        with pytest.raises(StopIteration, match="end"):
            next(taken)

    def test_only_the_steps_of_an_asynchronous_one(self):
        ended = []

        @provenance(agent="inner")
        async def work():
            try:
                sent = yield current_provenance()
                with provenance(node_id=sent):
                    yield current_provenance()
                    try:
                        yield
                    except KeyError:
                        yield await asyncio.to_thread(current_provenance)
            finally:
                await asyncio.sleep(0)
                ended.append(current_provenance())

        async def go():
            taken = work()
            assert await anext(taken) == Provenance(agent="inner")
            assert current_provenance() == Provenance()
            expected = Provenance(agent="inner", node_id="n")
            assert await asyncio.create_task(taken.asend("n")) == expected
            assert current_provenance() == Provenance()
            await anext(taken)
            assert await taken.athrow(KeyError()) == expected
            await asyncio.create_task(taken.aclose())
            assert ended == [Provenance(agent="inner")]
            return [item async for item in work()]

        assert len(asyncio.run(go())) == 3

    def test_a_carried_generator_runs_in_the_scope(self):
        with provenance(agent="outer"):
            work = carried(items_of_now)
        with ThreadPoolExecutor(1) as pool, provenance(agent="other"):
            assert pool.submit(list, work()).result() == [Provenance(agent="outer")] * 2
        assert list(work()) == [Provenance(agent="outer")] * 2

    def test_a_carried_function_has_no_scope_of_the_generator_that_calls_it(self):
        bare = carried(current_provenance)

        def agent():
            with provenance(agent="writer"):
                yield bare()

        assert list(agent()) == [Provenance()]


def items_of_now():
    yield current_provenance()
    yield current_provenance()


class TestOneScopeForMany:
    def test_tasks(self):
        scope = provenance(agent="writer")

        async def task(number):
            with scope:
                await asyncio.sleep(0.001 * (number + 1))
                return current_provenance().agent

        async def go():
            with scope:
                return [*await asyncio.gather(*map(task, range(3))), current_provenance().agent]

        assert asyncio.run(go()) == ["writer"] * 4
        assert current_provenance() == Provenance()

    def test_threads(self):
        scope, inside = provenance(agent="writer"), threading.Barrier(4)

        def work():
            with scope, scope:
                inside.wait(30)
                found = current_provenance().agent
            inside.wait(30)
            return found, current_provenance()

        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(work) for _ in range(4)]
        assert [one.result() for one in done] == [("writer", Provenance())] * 4

    def test_a_generator_and_its_caller(self):
        scope = provenance(agent="both")

        def work():
            with scope:
                yield current_provenance().agent
                yield current_provenance().agent

        with scope:
            taken = work()
            assert next(taken) == "both"
        assert current_provenance() == Provenance()
        assert next(taken) == "both"


class TestLabels:
    def test_integers_and_uuids_are_taken_by_their_text(self):
        name = uuid.UUID(int=7)
        with provenance(step_id=3, node_id=name) as given:
            assert given == Provenance(step_id="3", node_id=str(name))

    @pytest.mark.parametrize("value", [3.0, True, b"a", ["a"], object()])
    def test_other_values_are_refused(self, value):
        with pytest.raises(InvalidNameError, match="no string, integer or UUID"):
            Provenance(node_id=value)
