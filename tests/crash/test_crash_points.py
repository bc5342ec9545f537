"""The process dies at every system call of storage and at every statement of the commit.

After each death the store is opened again: what was committed before is whole, what is visible is
whole, leftovers are confined to ``tmp/`` and packs that nothing refers to, and a rescan completes.
"""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from events import failing_at
from faults import FaultyCalls, PowerCut
from sqlalchemy import event, text
from trees import contents, packs_in, write

from cas.digest import Digest
from cas.errors import CasError
from cas.local import LocalBackend
from cas.pack import read_footer
from index import ArtifactStore
from index.artifacts import _utc_now
from index.database import Database, sqlite_url
from index.errors import ArtifactIndexError

OLD = {"old": b"old bytes", "both": b"first"}
NEW = {"old": b"old bytes", "both": b"second", "new": os.urandom(4000), "big": os.urandom(3 << 20)}


@pytest.fixture(scope="module")
def prepared(empty_store, tmp_path_factory):
    """A store that holds OLD, and a work directory that holds NEW."""
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copytree(empty_store, folder / "store")
    write(folder / "work", OLD)
    with ArtifactStore.open(folder / "store") as store:
        store.session("s").run("r").track(folder / "work")
    write(folder / "work", NEW)
    return folder


@pytest.fixture
def root(prepared, tmp_path):
    shutil.copytree(prepared / "store", tmp_path / "store")
    return tmp_path / "store"


def opened(root, calls=None):
    backend = LocalBackend(root, calls=calls)
    return ArtifactStore(
        Database(sqlite_url(root / "index.db")), backend, create=True, clock=_utc_now
    )


def check_after_crash(root, work):
    """What must hold whatever happened; then a rescan completes and everything is there."""
    with ArtifactStore.open(root) as store:
        run = store.session("s").run("r")
        assert contents(run, at=1) == OLD
        assert contents(run) in (OLD, NEW)
        visible = contents(run)
        with store._services.database.reading() as connection:
            referenced = connection.execute(
                text("SELECT DISTINCT name FROM cas_packs JOIN cas_blobs ON pack_id = cas_packs.id")
            ).scalars()
            there = {path.stem for path in packs_in(root)}
            assert {bytes(name).hex() for name in referenced} <= there
        for pack in packs_in(root):
            data = pack.read_bytes()
            assert pack.stem == str(Digest.of(data))
            assert read_footer("p", len(data), lambda start, size, d=data: d[start : start + size])
        run.track(work)
        assert contents(run) == NEW
        assert contents(run, at=1) == OLD
        assert list((root / "tmp").iterdir()) == []
    return visible


# Dead is dead: cleaning up in the writing thread dies as well, where nobody catches it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_dying_at_any_system_call_of_storage(prepared, tmp_path):
    fired = 0
    for number in range(1000):
        root = tmp_path / str(number)
        shutil.copytree(prepared / "store", root)
        calls = FaultyCalls(fail_at=number, dead=True)
        try:
            store = opened(root, calls)
            store.session("s").run("r").track(prepared / "work")
        except PowerCut:
            calls.end_process()
        else:
            store.close()
        check_after_crash(root, prepared / "work")
        shutil.rmtree(root)
        if not calls.fired:
            break
        fired += 1
    assert fired >= 15
    assert fired == len(calls.calls)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_any_system_call_of_storage_failing_once(prepared, tmp_path, code):
    fired = refused = 0
    reasons = set()
    for number in range(1000):
        root = tmp_path / str(number)
        shutil.copytree(prepared / "store", root)
        calls = FaultyCalls(fail_at=number, error=OSError(code, os.strerror(code)))
        try:
            with opened(root, calls) as store:
                store.session("s").run("r").track(prepared / "work")
        except (CasError, ArtifactIndexError) as error:
            refused += 1
            reasons.add(str(error))
        check_after_crash(root, prepared / "work")
        shutil.rmtree(root)
        if not calls.fired:
            break
        fired += 1
    assert fired >= 15
    assert refused >= 10
    assert all(os.strerror(code) in r or "no space" in r for r in reasons)


@pytest.mark.parametrize("after", [False, True])
def test_dying_at_any_statement(prepared, tmp_path, after):
    fired = 0
    outcomes = []
    for number in range(1000):
        root = tmp_path / f"{number}-{after}"
        shutil.copytree(prepared / "store", root)
        store = opened(root)
        try:
            with failing_at(store, number, PowerCut(), after=after) as passed:
                store.session("s").run("r").track(prepared / "work")
        except PowerCut:
            pass
        store.close()
        outcomes.append(check_after_crash(root, prepared / "work") == NEW)
        shutil.rmtree(root)
        if "fired" not in passed:
            break
        fired += 1
    assert fired >= 15
    assert outcomes[-1] is True
    assert outcomes[0] is False


def test_an_interrupt_in_mid_statement_gives_the_write_lock_back(root, prepared):
    """Even while the traceback lives, as it does in a notebook."""
    kept = []
    store = opened(root)
    for number in range(40):
        try:
            with failing_at(store, number, KeyboardInterrupt(), after=True):
                store.session("s").run("r").track(prepared / "work")
        except KeyboardInterrupt as interrupt:
            kept.append(interrupt)
        with ArtifactStore.open(root) as other, other._services.database.writing():
            pass
    assert len(kept) > 10
    store.close()


def test_killed_in_mid_commit_as_a_process(root, prepared):
    """A real SIGKILL between the last statement and COMMIT."""
    child = os.fork()
    if child == 0:
        store = opened(root)

        def die(_connection, _cursor, statement, *_):
            if "INSERT INTO cas_snapshots" in statement:
                os.kill(os.getpid(), 9)

        event.listen(store._services.database.engine, "after_cursor_execute", die)
        store.session("s").run("r").track(prepared / "work")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == 9
    assert check_after_crash(root, prepared / "work") == OLD


def test_bytes_are_durable_before_rows(root, prepared):
    """In the order of recorded calls: sync, rename, directory sync of every pack, then COMMIT."""
    calls = FaultyCalls()
    store = opened(root, calls)

    def note(statement):
        calls.calls.append(("sql", statement))

    engine = store._services.database.engine
    event.listen(engine, "before_cursor_execute", lambda *a: note(a[2]))
    event.listen(engine, "commit", lambda _connection: note("COMMIT"))
    store.session("s").run("r").track(prepared / "work")
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
