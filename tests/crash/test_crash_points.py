"""The process dies at every system call of storage and at every statement of the commit.

After each death the store is opened again. What was committed before is whole, and so is all that
is visible. Leftovers are only in ``tmp/`` and in packs that nothing refers to. A rescan completes.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

import pytest
from aftermath import NEW, OLD, check_after_crash, prepare
from events import failing_at, telling_points
from faults import FaultyCalls, PowerCut
from places import COMBINATIONS, EACH_INDEX, on
from sqlalchemy import event

from cas.backends.local import LocalBackend
from cas.errors import CasError
from index import ArtifactStore
from index.context import utc_now
from index.db.database import Database, sqlite_url
from index.errors import ArtifactIndexError


@pytest.fixture(scope="module", params=COMBINATIONS)
def prepared(request, stores, tmp_path_factory):
    made = prepare(stores, request.param, tmp_path_factory.mktemp("prepared"))
    yield made
    made.drop(made.place)


@pytest.fixture
def place(prepared, tmp_path):
    copied = prepared.copy(tmp_path / "place")
    yield copied
    prepared.drop(copied)


on_local_blobs = on(
    blobs="local",
    because="S3 is not called but asked: test_crash_requests dies there",
    fixture="prepared",
    every_pair=True,
)


def opened(place, calls=None):
    """Open a store whose storage counts its system calls or lets them fail."""
    if calls is None:
        return ArtifactStore.open(**place)
    backend = LocalBackend(place.get("root", place.get("blobs")), calls=calls)
    index = place["index"] if "index" in place else sqlite_url(place["root"] / "index.db")
    database = Database(index)
    try:
        return ArtifactStore(database, backend, create=True, clock=utc_now)
    except BaseException:
        database.close()
        raise


# After the death, cleanup in the writing thread fails too, and nothing catches the error.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@on_local_blobs
def test_dying_at_any_system_call_of_storage(prepared, tmp_path):
    fired = 0
    for number in range(1000):
        place = prepared.copy(tmp_path / str(number))
        calls = FaultyCalls(fail_at=number, dead=True)
        with suppress(PowerCut), opened(place, calls) as store:
            store.session("s").run("r").track(prepared.work)
        calls.end_process()
        if calls.leaves_more(number):
            check_after_crash(place, prepared.work)
        prepared.drop(place)
        if not calls.fired:
            break
        fired += 1
    assert fired >= 15


@pytest.mark.parametrize(
    ("prepared", "code"),
    [
        ("sqlite-local", errno.EIO),
        ("postgresql-local", errno.EIO),
        ("sqlite-local", errno.ENOSPC),  # storage alone tells the two apart
    ],
    indirect=["prepared"],
)
def test_any_system_call_of_storage_failing_once(prepared, tmp_path, code):
    fired = refused = 0
    reasons = set()
    for number in range(1000):
        place = prepared.copy(tmp_path / str(number))
        calls = FaultyCalls(fail_at=number, error=OSError(code, os.strerror(code)))
        try:
            with opened(place, calls) as store:
                store.session("s").run("r").track(prepared.work)
        except (CasError, ArtifactIndexError) as error:
            refused += 1
            reasons.add(str(error))
        if calls.leaves_more(number):
            check_after_crash(place, prepared.work)
        prepared.drop(place)
        if not calls.fired:
            break
        fired += 1
    assert fired >= 15
    assert refused >= 10
    assert all(os.strerror(code) in r or "no space" in r for r in reasons)


def test_dying_at_any_statement(prepared, tmp_path):
    place = prepared.copy(tmp_path / "whole")
    with opened(place) as store, failing_at(store) as points:
        store.session("s").run("r").track(prepared.work)
    assert check_after_crash(place, prepared.work) == NEW
    prepared.drop(place)
    assert len(points) >= 15
    outcomes = []
    for number in telling_points(points):
        place = prepared.copy(tmp_path / str(number))
        store = opened(place)
        with suppress(PowerCut), failing_at(store, number, PowerCut()):
            store.session("s").run("r").track(prepared.work)
        store.close()
        outcomes.append(check_after_crash(place, prepared.work))
        prepared.drop(place)
    assert outcomes[0] == OLD
    assert len(outcomes) >= 5


@pytest.mark.parametrize("prepared", EACH_INDEX, indirect=True)
def test_an_interrupt_in_mid_statement_gives_the_write_lock_back(place, prepared):
    """Even while the traceback lives, as it does in a notebook."""
    kept = []
    store, other = opened(place), ArtifactStore.open(**place)
    for number in range(40):
        try:
            with failing_at(store, number, KeyboardInterrupt(), after=True):
                store.session("s").run("r").track(prepared.work)
        except KeyboardInterrupt as interrupt:
            kept.append(interrupt)
        with other._context.database.writing():
            pass
    assert len(kept) > 10
    store.close()
    other.close()


def test_killed_in_mid_commit_as_a_process(place, prepared):
    """A real SIGKILL between the last statement and COMMIT."""
    child = os.fork()
    if child == 0:
        store = opened(place)

        def die(_connection, _cursor, statement, *_):
            if "INSERT INTO cas_snapshots" in statement:
                os.kill(os.getpid(), 9)

        event.listen(store._context.database.engine, "after_cursor_execute", die)
        store.session("s").run("r").track(prepared.work)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == 9
    assert check_after_crash(place, prepared.work) == OLD


@on_local_blobs
def test_bytes_are_durable_before_rows(place, prepared):
    """Check the recorded calls: each pack's sync, rename and directory sync come before COMMIT."""
    calls = FaultyCalls()
    store = opened(place, calls)

    def note(statement):
        calls.calls.append(("sql", statement))

    engine = store._context.database.engine
    event.listen(engine, "before_cursor_execute", lambda *a: note(a[2]))
    event.listen(engine, "commit", lambda _connection: note("COMMIT"))
    store.session("s").run("r").track(prepared.work)
    store.close()
    names = [name if name != "sql" else detail.split("\n")[0][:30] for name, detail in calls.calls]
    first_row = next(n for n, name in enumerate(names) if name.startswith("INSERT INTO cas_blobs"))
    last_commit = max(n for n, name in enumerate(names) if name == "COMMIT")
    renames = [n for n, name in enumerate(names) if name == "rename"]
    assert renames
    for rename in renames:
        pending = max(n for n in range(rename) if names[n].startswith("INSERT INTO cas_packs"))
        registered = next(n for n in range(pending, len(names)) if names[n] == "COMMIT")
        synced = max(n for n in range(rename) if names[n] == "fsync")
        folder = next(n for n in range(rename, len(names)) if names[n] == "fsync_directory")
        written = max(n for n in range(len(names)) if names[n] == "write")
        assert written < synced < rename < folder < first_row < last_commit
        assert pending < registered < rename
