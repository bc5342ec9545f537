"""A sync dies at every statement and every system call; the next one continues.

After each death the destination has each run whole, in its old or its new state. Bytes that were
recorded are not read again.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from contextlib import suppress

import pytest
from events import failing_at, telling_points
from faults import FaultyCalls, PowerCut
from forks import Forked
from histories import histories, productions
from trees import write

import index.transfer.blobs
from cas.backends.local import LocalBackend
from index import ArtifactStore
from index.context import utc_now
from index.db.database import Database, sqlite_url


@pytest.fixture(scope="module")
def prepared(empty_store, tmp_path_factory):
    """A source, a destination that has a part of it, and their reports."""
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copytree(empty_store, folder / "source")
    shutil.copytree(empty_store, folder / "destination")
    draw = random.Random(9)
    log = draw.randbytes(3 << 20)
    with (
        ArtifactStore.open(folder / "source") as source,
        ArtifactStore.open(folder / "destination") as destination,
    ):
        run = source.session("s").run("r")
        write(folder / "work", {"a": b"first", "log": log[: 2 << 20], "gone": b"gone"})
        run.track(folder / "work", agent="one", node_id="n")
        source.sync_to(destination)
        before = histories(destination)
        (folder / "work" / "gone").unlink()
        write(folder / "work", {"a": b"second", "log": log, "b": draw.randbytes(3000)})
        run.track(folder / "work", agent="two", node_id="n")
        run.fork("f").put("c", b"fork")
        run.rewind(1)
        return folder, before, histories(source), productions(source)


def opened(root, calls=None):
    return ArtifactStore(
        Database(sqlite_url(root / "index.db")),
        LocalBackend(root, calls=calls),
        create=True,
        clock=utc_now,
    )


@pytest.fixture
def source(prepared):
    with ArtifactStore.open(prepared[0] / "source") as opened_source:
        yield opened_source


@pytest.fixture
def small_batches(monkeypatch):
    """Record arrived bytes after every megabyte, so that there is much to interrupt."""
    monkeypatch.setattr(index.transfer.blobs, "_BATCH_SIZE", 1 << 20)


def check_after_death(source, root, prepared):
    """Check that each run is old or new; then sync, and check that everything is there."""
    _, before, after, made = prepared
    with ArtifactStore.open(root) as destination:
        found = histories(destination)
        for key, history in found.items():
            was = before.get(key)
            assert history[1] in (was and was[1], after[key][1])
        source.sync_to(destination)
        assert histories(destination) == after
        assert productions(destination) == made
        assert source.sync_to(destination).blobs == 0
        # If all arrived before the death, the next write cleans up.
        destination.session("next").run("write").put("x", b"x")
    assert list((root / "tmp").iterdir()) == []
    return found != before


@pytest.mark.slow
def test_dying_at_any_statement(prepared, source, tmp_path, small_batches):
    root = tmp_path / "whole"
    shutil.copytree(prepared[0] / "destination", root)
    with opened(root) as store, failing_at(store) as points:
        source.sync_to(store)
    assert len(points) > 50
    outcomes = []
    for number in telling_points(points):
        root = tmp_path / str(number)
        shutil.copytree(prepared[0] / "destination", root)
        store = opened(root)
        with suppress(PowerCut), failing_at(store, number, PowerCut()):
            source.sync_to(store)
        store.close()
        outcomes.append(check_after_death(source, root, prepared))
        shutil.rmtree(root)
    assert (outcomes[0], outcomes[-1]) == (False, True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_dying_at_any_system_call_of_storage(prepared, source, tmp_path, small_batches):
    fired = 0
    for number in range(0, 1000, 2):  # each kind of call comes several times
        root = tmp_path / str(number)
        shutil.copytree(prepared[0] / "destination", root)
        calls = FaultyCalls(fail_at=number, dead=True)
        try:
            store = opened(root, calls)
            source.sync_to(store)
        except PowerCut:
            calls.end_process()
        else:
            store.close()
        if calls.leaves_more(number):
            check_after_death(source, root, prepared)
        shutil.rmtree(root)
        if not calls.fired:
            break
        fired += 1
    assert fired >= 10


def test_what_has_arrived_is_not_sent_again(source, empty_store, tmp_path, small_batches):
    """Interrupt when all bytes have arrived, before the rows of the run are recorded."""
    root = tmp_path / "destination"
    shutil.copytree(empty_store, root)
    with ArtifactStore.open(root) as destination:
        wanted = source.plan_sync(destination).report.bytes_read

        class Interrupted(KeyboardInterrupt):
            pass

        def stop(progress):
            if progress.bytes > 2 << 20:
                raise Interrupted

        with pytest.raises(Interrupted):
            source.sync_to(destination, progress=stop)
        assert destination.runs() == []
        arrived = destination.stats().distinct_bytes
        assert arrived >= 1 << 20
        assert source.sync_to(destination).bytes_read == wanted - arrived
        assert histories(destination) == histories(source)


def test_killed_again_and_again_it_comes_to_an_end(prepared, source, empty_store, tmp_path):
    root = tmp_path / "destination"
    shutil.copytree(empty_store, root)
    code = (
        "import sys\nimport index.transfer.blobs\nfrom index import ArtifactStore\n"
        "index.transfer.blobs._BATCH_SIZE = 1 << 19\n"
        "with ArtifactStore.open(sys.argv[1]) as a, ArtifactStore.open(sys.argv[2]) as b:\n"
        "    print('ready', flush=True)\n    a.sync_to(b)\n"
    )
    delays = random.Random(1)
    killed = 0
    for _ in range(12):
        child = Forked(code, prepared[0] / "source", root)
        child.stdout.readline()
        time.sleep(delays.uniform(0, 0.08))
        child.kill()
        child.communicate()
        killed += child.returncode == -signal.SIGKILL
        with ArtifactStore.open(root) as destination:
            for key, history in histories(destination).items():
                assert history[1] == prepared[2][key][1]
    assert killed >= 3
    with ArtifactStore.open(root) as destination:
        source.sync_to(destination)
        assert histories(destination) == prepared[2]
        assert productions(destination) == prepared[3]
