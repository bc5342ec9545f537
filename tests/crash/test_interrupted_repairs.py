"""A repair dies at every system call of storage and at every statement, and loses nothing.

After each death everything readable is still readable, all returned bytes are right, and another
repair completes. Then verification finds no fault.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass

import pytest
from aftermath import Template
from damage import HARMFUL, assert_pristine, fill, held, mutate, read_what_can_be
from events import failing_at, telling_points
from faults import FaultyCalls, PowerCut
from places import CORNERS, objects_of

from cas.backends.local import LocalBackend
from cas.errors import CasError
from index import ArtifactStore
from index.context import utc_now
from index.db.database import Database, sqlite_url
from index.errors import ArtifactIndexError


@dataclass(frozen=True)
class Damaged(Template):
    """A store with a pack that is marked as damaged, and the contents of the store."""

    sources: list
    expected: tuple
    readable: dict


@pytest.fixture(scope="module")
def prepare(stores, tmp_path_factory):
    made = {}

    def prepare(combination):
        if combination not in made:
            folder = tmp_path_factory.mktemp("damaged")
            place = stores.make(combination, folder)
            expected = fill(place, folder)
            mutate(objects_of(place), HARMFUL["halved"])
            with ArtifactStore.open(**place) as store:
                assert not store.verify(depth="bytes").is_sound
                readable = read_what_can_be(store)
            assert 0 < len(readable) < sum(map(len, expected))
            sources = [folder / "then", folder / "now"]
            made[combination] = Damaged(place, stores, sources, expected, readable)
        return made[combination]

    return prepare


def opened(place, calls):
    """Open an embedded store whose storage counts its system calls or lets them fail."""
    database = Database(sqlite_url(place["root"] / "index.db"))
    backend = LocalBackend(place["root"], calls=calls)
    return ArtifactStore(database, backend, create=False, clock=utc_now)


def check_after_death(damaged, place, number):
    """Check that readable files are readable and right, and that a second repair completes.

    After every fourth death, also read every byte of storage.
    """
    with ArtifactStore.open(**place) as store:
        served = read_what_can_be(store)
        assert damaged.readable.items() <= served.items()
        for (at, path), data in served.items():
            assert data == damaged.expected[at - 1][path]
        assert store.repair(*damaged.sources).is_complete
        assert held(store) == damaged.expected
    if number % 4 == 0:
        assert_pristine(place, damaged.expected)


@pytest.mark.slow
# After the death, cleanup in the writing thread fails too, and nothing catches the error.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_dying_at_any_system_call_of_storage(prepare, tmp_path):
    damaged = prepare("sqlite-local")
    fired = 0
    for number in range(0, 1000, 2):  # each kind of call comes several times
        copied = damaged.copy(tmp_path / str(number))
        calls = FaultyCalls(fail_at=number, dead=True)
        with suppress(PowerCut), opened(copied, calls) as store:
            store.repair(*damaged.sources)
        calls.end_process()
        if calls.leaves_more(number):
            check_after_death(damaged, copied, number)
        damaged.drop(copied)
        if not calls.fired:
            break
        fired += 1
    assert fired >= 30  # the number varies: packs have random names, and may share directories


@pytest.mark.slow
@pytest.mark.parametrize("combination", CORNERS)
def test_dying_at_any_statement(prepare, tmp_path, combination):
    damaged = prepare(combination)
    copied = damaged.copy(tmp_path / "whole")
    with ArtifactStore.open(**copied) as store, failing_at(store) as points:
        assert store.repair(*damaged.sources).is_complete
    damaged.drop(copied)
    assert len(points) >= 40
    # On services the statements are the same.
    for number in telling_points(points)[:: 1 if "root" in damaged.place else 8]:
        copied = damaged.copy(tmp_path / str(number))
        store = ArtifactStore.open(**copied)
        with suppress(PowerCut), failing_at(store, number, PowerCut()):
            store.repair(*damaged.sources)
        store.close()
        check_after_death(damaged, copied, number)
        damaged.drop(copied)


def test_any_write_failing_once_ends_the_repair_and_the_next_completes(prepare, tmp_path):
    damaged = prepare("sqlite-local")
    counted = FaultyCalls()
    copied = damaged.copy(tmp_path / "counted")
    with opened(copied, counted) as store:
        store.repair(*damaged.sources)
    fired = refused = 0
    # Dying is tried at every second one, too.
    for number in [n for n, (name, _) in enumerate(counted.calls) if name in WRITES][::2]:
        copied = damaged.copy(tmp_path / str(number))
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        calls = FaultyCalls(fail_at=number, error=error, only=WRITES)
        try:
            with opened(copied, calls) as store:
                store.repair(*damaged.sources)
        except (CasError, ArtifactIndexError):
            refused += 1
            check_after_death(damaged, copied, number)
        damaged.drop(copied)
        fired += calls.fired
    assert fired >= 6
    assert refused >= 5


WRITES = {"write", "pwrite", "fsync", "rename", "fsync_directory", "create_exclusive"}
