"""A backup and a recovery die at every statement, call and request, or find the disk full.

After each death the store has all that it had, or its index is still lost; the next attempt
completes. Interrupted collections and repairs have their own modules.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from fault_proxy import Fault
from faults import FaultyCalls, PowerCut
from garbage import collect
from histories import histories
from lost import lose_index
from old_formats import index_of
from places import CORNERS, as_json, objects_of, on, through
from sqlalchemy import event
from sqlalchemy.engine import Engine
from trees import write

from cas.errors import BackendError, CasError, StorageFullError
from index import ArtifactStore, recover
from index.db import schema
from index.db.database import Database
from index.errors import IndexUnavailableError

MIB = 1 << 20
STEP = int(os.environ.get("CAS_DEATH_STEP", "5"))
"""Die at every n-th statement. With 1, at each, which takes minutes."""

LARGE = os.urandom(MIB + 99)


@dataclass(frozen=True)
class Prepared:
    """A store with a backup and later commits, its reports, and a copy of it without index."""

    place: dict
    lost: dict
    expected: dict
    stores: object

    def copy(self, folder, *, lost=False):
        return self.stores.copy(self.lost if lost else self.place, folder)


def histories_of(store):
    return {
        key: (history["versions"], history["held"])
        for key, (_, history) in histories(store).items()
    }


@pytest.fixture(scope="module")
def prepared(request, stores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    place = stores.make(request.param, folder)
    write(folder / "work", {"a": b"1", "b": b"2" * 5000, "large": LARGE})
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        run.track(folder / "work", agent="planner")
        store.back_up()
        run.fork("f").put("a", b"11", agent="engineer")
        store.session("t").run("gone").put("x", b"gone")
        store.session("t").run("gone").delete()
        run.put("c", b"3" * 400)
        before = histories_of(store)
    lost = stores.copy(place, folder / "lost")
    lose_index(lost)
    yield Prepared(place, lost, before, stores)
    stores.drop(place)
    stores.drop(lost)


on_both = pytest.mark.parametrize("prepared", ["sqlite-local", "postgresql-s3"], indirect=True)
on_embedded = on(
    index="sqlite",
    blobs="local",
    because="its system calls can be counted, and its disk can be full",
    fixture="prepared",
)
on_services = on(
    index="postgresql", blobs="s3", because="local blobs get no requests", fixture="prepared"
)


def has_index(place):
    database = Database(index_of(place))
    try:
        if database.file is not None:
            return Path(database.file).exists()
        if schema.current(database) is None:
            return False
        with database.reading() as connection:
            return connection.exec_driver_sql("SELECT count(*) FROM cas_store").scalar() == 1
    finally:
        database.close()


def check_recovery(prepared, place):
    """Check that there is no index or a complete one; then recover and check all."""
    if not has_index(place):
        assert recover(**place).lost == ()
    check_copy(prepared, place)
    if "root" in place:
        names = {path.name for path in place["root"].iterdir()}
        assert not [name for name in names if name.startswith(".cas-")]


def check_copy(prepared, place):
    """Check that everything is there, and that another backup succeeds."""
    with ArtifactStore.open(**place, create=False) as store:
        report = store.verify(depth="bytes")
        assert report.is_sound, report.faults
        assert histories_of(store) == prepared.expected
        store.back_up(keep=1)
        collect(store, remove_orphans=True)
        assert store.verify(depth="bytes").is_sound
        assert histories_of(store) == prepared.expected
    assert objects_of(place).leftovers() == []


@contextmanager
def any_statement_fails(number, error):
    """Raise before the statement or commit of that number, of any database in the block."""
    passed = []

    def count(*_):
        passed.append("point")
        if len(passed) == number + 1:
            passed.append("fired")
            raise error

    for name in ("before_cursor_execute", "commit"):
        event.listen(Engine, name, count)
    try:
        yield passed
    finally:
        for name in ("before_cursor_execute", "commit"):
            event.remove(Engine, name, count)


# A dead process closes no cursors.
abandoned = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.slow
@abandoned
@on_both
def test_a_recovery_dies_at_any_statement(prepared, tmp_path):
    step = STEP if "root" in prepared.place else 9 * STEP
    fired = 0
    for number in range(0, 2000, step):
        place = prepared.copy(tmp_path / str(number), lost=True)
        with suppress(PowerCut), any_statement_fails(number, PowerCut()) as passed:
            recover(**place)
        assert has_index(place) == ("fired" not in passed)
        if number % 15 == 0 or "fired" not in passed:
            check_recovery(prepared, place)
        prepared.stores.drop(place)
        if "fired" not in passed:
            break
        fired += 1
    assert fired * step >= 50


@abandoned
@on_both
def test_a_copy_of_the_index_dies_at_any_statement(prepared, tmp_path):
    step = STEP if "root" in prepared.place else 9 * STEP
    fired = 0
    for number in range(0, 2000, step):
        place = prepared.copy(tmp_path / str(number))
        with (
            suppress(PowerCut),
            ArtifactStore.open(**place) as store,
            any_statement_fails(number, PowerCut()) as passed,
        ):
            store.back_up()
        check_copy(prepared, place)
        prepared.stores.drop(place)
        if "fired" not in passed:
            break
        fired += 1
    assert fired * step >= 15


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@on_embedded
def test_a_copy_of_the_index_dies_at_any_system_call(prepared, tmp_path, monkeypatch):
    fired = 0
    for number in range(1000):
        place = prepared.copy(tmp_path / str(number))
        calls = FaultyCalls(fail_at=number, dead=True)
        with monkeypatch.context() as patched:
            patched.setattr("cas.backends.local.PosixCalls", lambda calls=calls: calls)
            with suppress(PowerCut), ArtifactStore.open(**place) as store:
                store.back_up()
        calls.end_process()
        if calls.leaves_more(number):
            check_copy(prepared, place)
        if not calls.fired:
            break
        fired += 1
    assert fired >= 20


@on_services
@pytest.mark.parametrize("operation", ["recover", "back_up"])
def test_any_request_refused_from_then_on(prepared, proxy, tmp_path, operation):
    refused = 0
    for number in range(0, 1000, 5 if operation == "recover" else 1):
        place = prepared.copy(tmp_path / str(number), lost=operation == "recover")
        with (
            suppress(CasError),
            proxy.fault(Fault.EXPIRED_TOKEN, times=None, skip=number, must_fire=False) as planned,
        ):
            if operation == "recover":
                recover(**through(place, proxy))
            else:
                with ArtifactStore.open(**through(place, proxy)) as store:
                    store.back_up()
        if operation == "recover":
            assert has_index(place) == (not planned.fired)
            if number % 10 == 0 or not planned.fired:
                check_recovery(prepared, place)
        else:
            check_copy(prepared, place)
        prepared.stores.drop(place)
        if not planned.fired:
            break
        refused += 1
    assert refused >= 3


@on_embedded
def test_storage_that_fails_while_a_copy_is_read_ends_the_recovery(prepared, tmp_path, monkeypatch):
    """The backup is not treated as damaged: without it, what only it knows would be lost."""
    place = prepared.copy(tmp_path / "place", lost=True)

    def fail(*_):
        raise BackendError("packs", os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr("cas.reader.BlobReader.iter_pieces", fail)
        with pytest.raises(BackendError):
            recover(**place)
    assert not has_index(place)
    check_recovery(prepared, place)


@on_embedded
def test_a_file_that_can_not_be_made_or_named_is_told_as_ours(prepared, tmp_path, monkeypatch):
    for name in ("link", "fsync", "mkdir"):
        place = prepared.copy(tmp_path / name, lost=True)
        with monkeypatch.context() as patched:

            def fail(*_args, **_options):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patched.setattr(f"index.maintenance.recover.recover.os.{name}", fail)
            with pytest.raises((IndexUnavailableError, StorageFullError)) as refused:
                recover(**place)
        assert "no space" in str(refused.value).lower()
        if has_index(place):  # only the sync of its directory failed
            lose_index(place)
        check_recovery(prepared, place)


@on_embedded
def test_what_a_killed_recovery_left_is_removed_by_the_next(prepared, tmp_path):
    place = prepared.copy(tmp_path / "place", lost=True)
    left = place["root"] / f".cas-{'0' * 32}"
    left.mkdir()
    (left / "index.db").write_bytes(b"half")
    recover(**place)
    check_recovery(prepared, place)


@pytest.mark.parametrize("place", CORNERS, indirect=True)
def test_a_recovery_forgets_copies_that_were_let_go_since(place, tmp_path):
    """The newest backup lists older ones; the oldest of these were removed after it was made."""
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        run.put("a", b"1")
        deleted = store.session("s").run("deleted")
        deleted.put("b", b"2" * 300)
        for _ in range(3):
            store.back_up(keep=2)
        deleted.delete()
        collect(store)
    lose_index(place)
    report = recover(**place)
    assert report.lost == ()
    with ArtifactStore.open(**place, create=False) as store:
        assert store.verify(depth="bytes").is_sound
        assert store.session("s").run("r").read_bytes("a") == b"1"
        collect(store)
        assert store.verify(depth="bytes").is_sound
        assert list(store.plan_gc(grace=timedelta(0)).iter_blobs()) == []


LIMITED = """
import json, sys
from datetime import timedelta
from index import ArtifactStore, recover
from index.errors import ArtifactIndexError
from cas.errors import CasError
operation, place = sys.argv[1], json.loads(sys.argv[2])
try:
    if operation == "recover":
        recover(**place)
    else:
        with ArtifactStore.open(**place, create=False) as store:
            if operation == "collect":
                store.plan_gc(grace=timedelta(0)).execute()
            elif operation == "delete":
                store.session("s").run("r").delete()
            else:
                store.back_up()
except (ArtifactIndexError, CasError) as error:
    print(error)
    sys.exit(5)
"""


@pytest.fixture(scope="module")
def wide(stores, tmp_path_factory):
    """A run of many files, and a copy of the store in which all of them are garbage."""
    folder = tmp_path_factory.mktemp("wide")
    place = stores.make("sqlite-local", folder)
    write(folder / "work", {f"d{n % 50}/{n:05}": b"%d" % n for n in range(3000)})
    with ArtifactStore.open(**place) as store:
        store.session("s").run("r").track(folder / "work")
        store.session("s").run("kept").put("a", LARGE)
    garbage = stores.copy(place, folder / "garbage")
    with ArtifactStore.open(**garbage) as store:
        store.session("s").run("r").delete()
    return {"delete": place, "back_up": place, "recover": place, "collect": garbage}


@pytest.mark.parametrize("operation", ["collect", "delete", "back_up", "recover"])
def test_a_disk_that_is_full_is_told_in_one_sentence_and_loses_nothing(
    wide, stores, tmp_path, operation
):
    """A limit on the size of files acts like a full disk for one process."""
    place = stores.copy(wide[operation], tmp_path / "place")
    with ArtifactStore.open(**place) as store:
        before = files_of_kept(store)
    if operation == "recover":
        lose_index(place)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    def run(**options):
        command = [sys.executable, "-c", LIMITED, operation, as_json(place)]
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    outcome = run(preexec_fn=limit)
    assert (outcome.returncode, outcome.stderr) == (5, "")
    assert outcome.stdout.count("\n") == 1
    if operation == "recover":
        assert not has_index(place)
    else:
        with ArtifactStore.open(**place, create=False) as store:
            assert store.verify(depth="bytes").is_sound
            assert files_of_kept(store) == before
    assert run().returncode == 0
    with ArtifactStore.open(**place, create=False) as store:
        assert store.verify(depth="bytes").is_sound
        after = files_of_kept(store)
        assert after == (before - {"r"} if operation == "delete" else before)
        collect(store, remove_orphans=True)
        assert store.session("s").run("kept").read_bytes("a") == LARGE


def files_of_kept(store):
    """Return the existing runs; check how many files they have."""
    found = {summary.run for summary in store.runs()}
    for name in found:
        run = store.session("s").run(name)
        assert len(run.files()) == (3000 if name == "r" else 1)
    return found
