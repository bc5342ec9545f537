"""The cost of a put into a run that others write to: that of its own files, not of the run."""

from __future__ import annotations

import pytest
from events import on_statement, statements
from places import EACH_INDEX, places

from index import ArtifactStore
from index.db.queries import current

place = places(EACH_INDEX)


@pytest.fixture
def other(place, store):
    """The same store, opened again as by another process."""
    with ArtifactStore.open(**place) as opened:
        yield opened


@pytest.fixture
def loaded(monkeypatch):
    """Collect how many files of a run are loaded at once."""
    counts = []
    for name in ("load_current", "load_concerned"):
        original = getattr(current, name)

        def load(*arguments, original=original):
            files = original(*arguments)
            counts.append(len(files))
            return files

        monkeypatch.setattr(current, name, load)
    return counts


def of(store, files):
    return store.session("s").run(f"r{files}")


def filled(store, files):
    run = of(store, files)
    run.put_many([(f"d{n % 7}/f{n}", b"%d" % n) for n in range(files)])
    return run


@pytest.mark.parametrize("files", [10, 2500])
def test_after_others_have_written_a_put_loads_its_own_files(store, other, loaded, files):
    run = filled(store, files)
    of(other, files).put("theirs", b"theirs")
    loaded.clear()
    assert run.put("d1/f1", b"mine").version == 2
    assert loaded == [1]


@pytest.mark.parametrize("files", [10, 2500])
def test_so_it_does_if_another_commit_comes_first(store, other, loaded, files):
    run = filled(store, files)
    first = "INSERT INTO cas_packs" if store.context.database.is_server else "BEGIN IMMEDIATE"
    acted = on_statement(store, first, lambda: of(other, files).put("d1/f1", b"theirs"))
    loaded.clear()
    assert run.put("d1/f1", b"mine").version == 3
    assert acted
    assert max(loaded) == 1


def test_and_takes_as_many_statements(store, other):
    costs = []
    for files in (10, 2500):
        run = filled(store, files)
        of(other, files).put("theirs", b"theirs %d" % files)
        with statements(store) as seen:
            run.put("d1/f1", b"mine %d" % files)
        costs.append(len(seen))
    assert costs[0] == costs[1]
