"""The differences of two states, path by path: those of `Run.diff`, and read in pages."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import ArtifactStore
from index.domain.diff import diff_versions
from index.errors import UnknownRunError, UnknownSnapshotError

PATHS = ("a", "d/b", "a\\b", "b", "\udcff", "é", "z")
SMALL_PAGES = pytest.mark.parametrize("page", [1, 2, 1000])

steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(PATHS), st.sampled_from([b"1", b"2"])),
        st.tuples(st.just("remove"), st.sampled_from(PATHS)),
        st.tuples(st.just("rewind"), st.integers(0, 5)),
    ),
    min_size=1,
    max_size=12,
)


def play(run, history):
    for what, *values in history:
        if what == "put":
            run.put(*values)
        elif what == "remove" and values[0] in run:
            run.remove(values[0])
        elif what == "rewind" and values[0] <= run.summary().snapshots:
            run.rewind(values[0])


def expected(run, before, other, after):
    """Return the differences of two listings, as a set: in which order they come is asked apart."""
    found = diff_versions(run.files(at=before), other.files(at=after))
    return {(one and one.id, two and two.id) for one, two in found.pairs}


def ids(pairs):
    return [(one and one.id, two and two.id) for one, two in pairs]


@settings(max_examples=10)
@given(history=steps, data=st.data())
def test_any_two_snapshots_of_any_history_differ_as_their_listings_do(
    empty_store, tmp_path_factory, history, data
):
    place = shutil.copytree(empty_store, tmp_path_factory.mktemp("drawn") / "store")
    with ArtifactStore.open(place) as store:
        run = store.session("s").run("r")
        run.put("first", b"1")
        play(run, history)
        newest = run.summary().snapshots
        before, after = (data.draw(st.integers(0, newest)) for _ in range(2))
        pairs = [*run.iter_diff(before, after)]
        assert set(ids(pairs)) == expected(run, before, run, after)
        assert len(ids(pairs)) == len(set(ids(pairs)))
        assert [*run.iter_diff(before)] == [*run.iter_diff(before, newest)]
        fork = run.fork("fork", at=before)
        fork.put("more", b"2")
        assert set(ids(fork.iter_diff(run, after))) == expected(fork, None, run, after)


@SMALL_PAGES
def test_it_is_read_in_pages_and_goes_on_after_any_path(run, monkeypatch, page):
    monkeypatch.setattr("index.api.run_reader._PAGE", page)
    monkeypatch.setattr("index.api.run_files._PAGE", page)
    run.put_many([(path, b"1") for path in PATHS])
    run.put_many([(path, b"2") for path in PATHS[::2]])
    run.remove("b")
    fork = run.fork("other", at=1)
    for pairs in (
        lambda **how: run.iter_diff(1, 3, **how),
        lambda **how: fork.iter_diff(run, **how),
        lambda **how: run.iter_diff(fork, **how),
    ):
        every = [*pairs()]
        paths = [(one or two).path for one, two in every]
        assert paths == ["\udcff", "a", "a\\b", "b", "z"]  # as they are stored
        for number, path in enumerate(paths):
            assert [*pairs(after=path)] == every[number + 1 :]
            assert [*pairs(limit=number)] == every[:number]


def test_a_state_is_the_one_when_the_first_page_was_read(run, monkeypatch):
    monkeypatch.setattr("index.api.run_reader._PAGE", 1)
    run.put_many([("a", b"1"), ("b", b"1")])
    pairs = run.iter_diff(0)
    first = next(pairs)
    run.put("b", b"2")
    assert [first[1].version, *(after.version for _, after in pairs)] == [1, 1]


def test_what_is_wrong_raises(run, store):
    run.put("a", b"1")
    with pytest.raises(UnknownSnapshotError):
        run.iter_diff(0, 7)
    with pytest.raises(UnknownRunError):
        run.iter_diff(store.session("elsewhere").run("r"))
    with pytest.raises(ValueError, match="limit is a number of paths"):
        run.iter_diff(0, limit=-1)
    with pytest.raises(ValueError, match="at goes with another run"):
        run.iter_diff(0, 1, at=1)


def test_a_run_that_is_deleted_meanwhile_is_no_longer_there(run, monkeypatch):
    monkeypatch.setattr("index.api.run_reader._PAGE", 1)
    run.put_many([("a", b"1"), ("b", b"1")])
    pairs = run.iter_diff(0)
    next(pairs)
    run.delete()
    run.put("b", b"1")
    with pytest.raises(UnknownRunError):
        next(pairs)
