"""The difference of two snapshots of one run reads only what lies between them."""

from __future__ import annotations

import copy
import pickle
from itertools import count

import pytest
from events import statements
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import EACH_INDEX, places

from index import ArtifactStore
from index.domain.diff import diff_versions
from index.errors import StoreClosedError, UnknownFileError, UnknownRunError, UnknownSnapshotError

place = places(EACH_INDEX)

PATHS = ("a", "b", "d/c")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(PATHS), st.sampled_from([b"A", b"B"])),
        st.tuples(st.just("remove"), st.sampled_from(PATHS)),
        st.tuples(st.just("move"), st.sampled_from(PATHS), st.sampled_from(PATHS)),
        st.tuples(st.just("rewind"), st.integers(0, 5)),
    ),
    min_size=1,
    max_size=7,
)
RUNS = count()


def act(run, step):
    """Take a step, as far as the present files and snapshots allow."""
    kind, *given = step
    if kind == "put":
        run.put(*given)
    elif kind == "rewind":
        run.rewind(min(given[0], run.summary().snapshots))
    elif given[0] in run:
        if kind == "move":
            run.put(given[1], run.read_bytes(given[0]))
        if given[0] != given[-1] or kind == "remove":
            run.remove(given[0])


def listed_diff(run, first, second):
    """Return the difference from whole listings of both states."""
    return diff_versions(run.files(at=first), run.files(at=second))


@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_it_is_that_of_the_whole_listings(store, steps):
    run = store.session("s").run(f"r{next(RUNS)}")
    run.put("kept", b"A")
    for step in steps:
        act(run, step)
    newest = run.summary().snapshots
    for first in range(newest + 1):
        for second in (*range(newest + 1), None):
            found, expected = run.diff(first, second), listed_diff(run, first, second)
            assert found.to_dict() == expected.to_dict()
            assert found == expected
            assert found.identical == expected.identical
            assert bool(found) == bool(expected)
            assert found.by("agent") == expected.by("agent")


@pytest.fixture
def run(store):
    """A run whose second snapshot changes one file of three, and whose third takes that back."""
    run = store.session("s").run("r")
    run.put_many([("a", b"A"), ("b", b"B"), ("c", b"C")])
    run.put("a", b"B")
    run.put("a", b"A")
    return run


def test_content_that_came_back_is_identical_with_its_newer_version(run):
    found = run.diff(1, 3)
    assert not found
    assert [(v.path, v.version) for v in found.identical] == [("a", 3), ("b", 1), ("c", 1)]
    assert [v.version for v in run.diff(3, 1).identical] == [1, 1, 1]


def test_identical_files_are_counted_and_read_only_when_they_are_wanted(store, run):
    with statements(store) as seen:
        found = run.diff(1, 2)
        assert found.to_dict()["identical"] == len(found.lazy_identical) == 2
        assert "2 identical" in found._repr_html_()
    asked = [text for text in seen if "cas_files" in text]
    assert len(asked) == 2
    assert sum("cas_files.meta" in text for text in asked) == 1
    with statements(store) as seen:
        assert [v.path for v in found.identical] == ["b", "c"]
        assert found.identical is found.identical
    assert len([text for text in seen if "cas_files" in text]) == 1


def test_identical_files_stay_those_of_the_snapshots_when_the_run_goes_on(run):
    found = run.diff(1)
    run.put("b", b"later")
    run.remove("c")
    assert [(v.path, v.version) for v in found.identical] == [("a", 3), ("b", 1), ("c", 1)]
    assert len(found.lazy_identical) == 3


def test_what_it_reads_later_needs_the_run_and_the_store(place):
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        run.put_many([("a", b"A"), ("b", b"B")])
        run.put("a", b"B")
        unread, read = run.diff(1, 2), run.diff(1, 2)
        assert [v.path for v in read.identical] == ["b"]
        deleted = run.diff(1, 2)
        run.delete()
        run.put("a", b"another run of that name")
        with pytest.raises(UnknownRunError):
            deleted.identical  # noqa: B018
    assert unread.to_dict() == read.to_dict()
    assert [v.path for v in read.identical] == ["b"]
    with pytest.raises(StoreClosedError):
        unread.identical  # noqa: B018


def test_it_copies_and_pickles_with_its_identical_files(run):
    found = run.diff(1, 2)
    for other in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found), copy.copy(found)):
        assert other == found
        assert hash(other) == hash(found)
        assert other.identical == found.identical
    assert found != run.diff(2, 1)
    assert run.diff(1, 3) != run.diff(3, 1)


def test_paths_are_those_of_either_state(run):
    found = run.diff(1, 2, paths=["a", "b"])
    assert [change.path for change in found.changed] == ["a"]
    assert [v.path for v in found.identical] == ["b"]
    with pytest.raises(UnknownFileError):
        run.diff(1, 2, paths=["nowhere"])


def test_the_same_run_given_as_another_one_is_one_run(run):
    assert run.diff(run, 2, at=1) == run.diff(1, 2)


def test_a_snapshot_that_is_not_there_is_an_error(run):
    for states in ((1, 9), (9, 1)):
        with pytest.raises(UnknownSnapshotError):
            run.diff(*states)


def test_a_fork_compared_with_its_parent_differs_where_one_went_on(run):
    fork = run.fork("fork", at=2)
    fork.put("b", b"forked")
    found = run.diff(fork)
    assert [change.path for change in found.changed] == ["a", "b"]
    assert [(v.path, v.run) for v in found.identical] == [("c", "fork")]
