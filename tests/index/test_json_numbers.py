"""Notes come back as they were given: 1 is not 1.0, and no integer is too large."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lost import lose_index
from places import EACH_INDEX, places
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from trees import write

from index import ArtifactStore, FileRepository, recover
from index.db.queries import adopted, runs
from index.errors import InvalidMetaError

NUMBERS = (
    *(0, 0.0, -0.0, 1, 1.0, True, 0.1, 1e16, 1e22, 5e-324, 1.7976931348623157e308),
    *(2**53 + 1, 2**63, -(2**64), 10**40),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(), some, max_size=3),
)

place = places(EACH_INDEX)


def written(value):
    """Return what tells 1, 1.0 and True apart."""
    return json.dumps(value)


def test_any_note_comes_back_as_it_was_given(run):
    @given(VALUES.filter(lambda value: value is not None))
    @example(list(NUMBERS))
    @example({"\0": "\0", "\ud800": "\udcff"})
    def check(value):
        put = run.put("a", b"1", meta=value)
        for found in (put, run.file("a"), run.files()[0], run.history("a")[-1]):
            assert written(found.meta) == written(value)

    check()


@pytest.mark.parametrize("meta", [float("nan"), [float("inf")], {"a": -float("inf")}, Decimal(1)])
def test_a_number_that_json_does_not_have_is_refused(run, meta):
    with pytest.raises(InvalidMetaError, match="not JSON"):
        run.put("a", b"1", meta=meta)


def test_one_is_another_note_than_one_point_zero_and_true(run):
    run.put("a", b"1")
    for value in (1, 1.0, True, 1, 0.0, -0.0):
        run.annotate("a", meta=value)
        assert written(run.file("a").meta) == written(value)
        run.put("a", b"1", meta=value)
    assert len(run.history("a")) == 1


def test_numbers_survive_forks_rewinds_a_sync_a_recovery_and_the_command(
    place, stores, tmp_path, cas
):
    def notes(run):
        return {version.path: written(version.meta) for version in run.files()}

    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        for number, value in enumerate(NUMBERS):
            run.put(f"n{number:02}", b"same", meta={"value": value})
        expected = notes(run)
        assert len(set(expected.values())) == len(NUMBERS)
        run.put("n00", b"another")  # the note follows the path
        run.rewind(len(NUMBERS))
        fork = run.fork("fork")
        assert notes(run) == notes(fork) == expected
    code, out, _ = cas("--index", place_index(place), "--blobs", place_blobs(place), "ls", "-R",
                       "--session", "s", "--run", "r", "--json")  # fmt: skip
    assert code == 0
    assert {each["path"]: written(each["meta"]) for each in json.loads(out)} == expected
    for kind in EACH_INDEX:
        other = stores.make(kind, tmp_path / kind)
        with ArtifactStore.open(**place) as store, ArtifactStore.open(**other) as there:
            store.sync_to(there)
            assert notes(there.session("s").run("fork")) == expected
        lose_index(other)
        recover(**other)
        with ArtifactStore.open(**other) as there:
            assert notes(there.session("s").run("r")) == expected
        stores.drop(other)


def place_index(place):
    return place.get("index") or f"sqlite:///{place['root']}/index.db"


def place_blobs(place):
    return place.get("blobs") or place["root"]


def test_an_applications_own_json_functions_change_no_note(place, run, store, work):
    write(work, {"a": b"1"})

    def narrow(value):
        raise TypeError("Integer exceeds 64-bit range")

    engine = create_engine(
        place_index(place),
        json_serializer=narrow,
        json_deserializer=lambda text: json.loads(text, parse_float=Decimal, parse_int=float),
    )
    value = [2**70 + 1, 1.0, 1]
    with Session(engine) as session, session.begin():
        repository = FileRepository(session, "session-1", store=store, work_dir=work)
        made = repository.register_file("run-1", "a", meta=value)
        assert written(made.meta) == written(value)
        (found,) = repository.list_files("run-1")
        assert written(found.meta) == written(value)
    engine.dispose()
    assert written(run.file("a").meta) == written(value)


def test_odd_text_in_notes_is_no_obstacle_to_an_adoption(store, run):
    run.put("a", b"1", meta={"\0": "\ud800"})
    run.put("b", b"1", meta={"adopted": {"file_path": "/old/b"}, "\0": "\0"})
    with store.context.database.reading() as connection:
        found = runs.find_run(connection, "session-1", "run-1")
        assert adopted.list_origins(connection, found.id) == [("b", "/old/b")]
