"""A collection dies at every statement, commit, system call and request, and loses nothing."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from aftermath import Template
from chunkers import chunks_of
from events import failing_at, telling_points
from fault_proxy import Fault
from faults import FaultyCalls, PowerCut
from garbage import check_sound, collect, content_packs, contents, rows
from places import CORNERS, objects_of, on, packs_of, through
from trees import write

from cas.backends.local import LocalBackend
from cas.digest import Digest
from cas.errors import CasError
from cas.packs.pack import pack_object_name
from index import ArtifactStore
from index.context import utc_now
from index.db.database import Database, sqlite_url
from index.errors import ArtifactIndexError

MIB = 1 << 20
LIVE = {"live": os.urandom(9000), "big": os.urandom(MIB + 99)}


@pytest.fixture(scope="module", params=CORNERS)
def prepared(request, stores, tmp_path_factory):
    """A store in which a collection sweeps, deletes a pack and rewrites one."""
    folder = tmp_path_factory.mktemp("prepared")
    place = stores.make(request.param, folder)
    work = folder / "work"
    write(work, LIVE | {"dead": os.urandom(2 * MIB), "small": b"s"})
    with ArtifactStore.open(**place) as store:
        deleted = store.session("s").run("deleted")
        deleted.track(work)
        deleted.put("alone", os.urandom(3000))
        for path, content in LIVE.items():
            store.session("s").run("kept").put(path, content)
        deleted.delete()
        with store.context.blobs.batch() as batch:  # a writer that died
            batch.add(os.urandom(700))
            batch.finish()
    yield Template(place, stores)
    stores.drop(place)


on_embedded = on(
    index="sqlite",
    blobs="local",
    because="system calls are those of local blobs",
    fixture="prepared",
)


def opened(place, calls):
    backend = LocalBackend(place["root"], calls=calls)
    database = Database(sqlite_url(Path(place["root"]) / "index.db"))
    return ArtifactStore(database, backend, create=True, clock=utc_now)


def check(place):
    """Everything referenced is whole at once; the next collection finishes the work."""
    with ArtifactStore.open(**place) as store:
        kept = store.session("s").run("kept")
        assert {path: kept.read_bytes(path) for path in LIVE} == LIVE
        report = collect(store, remove_orphans=True)
        assert report.damaged == ()
        assert {path: kept.read_bytes(path) for path in LIVE} == LIVE
        assert len(content_packs(objects_of(place))) == 1
        live = rows(store, "SELECT name FROM cas_packs WHERE state = 'live'")
        there = [pack_object_name(Digest(bytes(name))) for (name,) in live]
        assert sorted(there) == packs_of(objects_of(place))
        assert len(contents(store)) == 3 + len(chunks_of(LIVE["big"]))
        check_sound(store, place)


@pytest.mark.slow
def test_dying_at_any_statement_or_commit(prepared, tmp_path):
    place = prepared.copy(tmp_path / "whole")
    with ArtifactStore.open(**place) as store, failing_at(store) as points:
        collect(store)
    prepared.stores.drop(place)
    assert len(points) >= 40
    # On services the statements are the same.
    for number in telling_points(points)[:: 1 if "root" in prepared.place else 3]:
        place = prepared.copy(tmp_path / str(number))
        store = ArtifactStore.open(**place)
        with suppress(PowerCut), failing_at(store, number, PowerCut()):
            collect(store)
        store.close()
        check(place)
        prepared.stores.drop(place)


@pytest.mark.slow
@on_embedded
def test_dying_at_any_system_call(prepared, tmp_path):
    fired = 0
    for number in range(1000):
        place = prepared.copy(tmp_path / str(number))
        calls = FaultyCalls(fail_at=number, dead=True)
        with suppress(PowerCut), opened(place, calls) as store:
            collect(store)
        calls.end_process()
        if calls.leaves_more(number):
            check(place)
        if not calls.fired:
            break
        fired += 1
    assert fired >= 40
    # A new pack needs a new directory, and its sync, unless another pack has the same one.
    assert len(calls.calls) >= fired - 2


@on_embedded
def test_any_system_call_failing_once(prepared, tmp_path):
    """Every second call; the test above dies at each."""
    fired = refused = 0
    for number in range(0, 1000, 2):
        place = prepared.copy(tmp_path / str(number))
        calls = FaultyCalls(fail_at=number, error=OSError(errno.EIO, os.strerror(errno.EIO)))
        try:
            with opened(place, calls) as store:
                collect(store)
        except (CasError, ArtifactIndexError):
            refused += 1
        if calls.leaves_more(number):
            check(place)
        if not calls.fired:
            break
        fired += 1
    assert fired >= 20
    assert refused >= 10


on_s3 = on(
    index="postgresql", blobs="s3", because="local blobs get no requests", fixture="prepared"
)


@on_s3
@pytest.mark.parametrize("fault", [Fault.EXPIRED_TOKEN, Fault.LOST_ANSWER])
def test_any_request_refused_or_its_answer_lost(prepared, proxy, tmp_path, fault):
    """A refusal lasts from every second request on. A lost answer happens once and is retried."""
    fired = 0
    for number in range(0, 1000, 2):
        place = prepared.copy(tmp_path / str(number))
        times = None if fault is Fault.EXPIRED_TOKEN else 1
        with (
            suppress(CasError),
            ArtifactStore.open(**through(place, proxy)) as store,
            proxy.fault(fault, times=times, skip=number, must_fire=False) as planned,
        ):
            collect(store)
        check(place)
        prepared.stores.drop(place)
        if not planned.fired:
            break
        fired += 1
    assert fired >= 5
