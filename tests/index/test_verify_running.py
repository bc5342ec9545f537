"""Verification within a budget, beside other work, and while storage fails."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from damage import HARMFUL, SECOND, fill, held, marked, mutate
from events import on_statement
from fault_proxy import Fault
from places import on, packs_of, through
from trees import write

from cas.backends.retrying import Retrying
from cas.errors import BackendError
from cas.packs.pack import pack_object_name
from index import ArtifactStore
from index.db.queries import verification
from index.db.queries.blobs import locate, locate_large
from index.maintenance.gc.plan import plan_gc
from index.maintenance.gc.settings import GcOptions, GcSettings
from index.maintenance.verify.large_blobs import verify_large

pytestmark = pytest.mark.usefixtures("equal_chunks")

MIB = 1 << 20


@pytest.fixture
def clock():
    """A clock that advances by a minute at each call."""
    moments = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(10**9))
    return lambda: next(moments)


@pytest.fixture
def many(place, tmp_path, clock):
    """A store of ten packs of 200 KB, and one large blob of 3 MiB in a pack of its own."""
    with ArtifactStore.open(**place, clock=clock) as store:
        run = store.session("s").run("r")
        for number in range(10):
            run.put(f"f{number}", random.Random(number).randbytes(200_000))
        run.put("large", random.Random(77).randbytes(3 * MIB))
        yield store


def test_a_budget_is_kept_and_the_next_call_goes_on(many):
    calls, left = 0, None
    while left != 0:
        report = many.verify(max_bytes=700_000)
        assert report.is_sound
        # It ends with the pack or large blob that it had begun.
        assert report.bytes_read < 700_000 + 4 * MIB
        assert left is None or report.packs_left <= 11
        assert (report.oldest_verified is None) == (calls < 3)
        calls += 1
        left = 0 if report.oldest_verified else 1
    assert calls == 4
    oldest = report.oldest_verified
    many.verify(max_bytes=500_000)  # the large blob, which had not been assembled before
    again = many.verify(max_bytes=900_000)
    assert again.oldest_verified > oldest
    assert again.bytes_left > 0
    assert many.verify(depth="bytes").bytes_left == 0


@on(index="sqlite", blobs="local", because="what is interrupted is Python")
def test_what_was_verified_before_an_interruption_is_not_read_again(many, monkeypatch):
    seen = []

    def interrupt(progress):
        seen.append(progress)
        if len(seen) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("index.maintenance.verify.packs._GROUP_PACKS", 3)
    with pytest.raises(KeyboardInterrupt):
        many.verify(depth="bytes", progress=interrupt)
    assert seen[-1].bytes_total >= seen[-1].bytes > 0
    with many.context.database.reading() as connection:
        packs = verification.list_packs(connection)
    assert sum(pack.verified_at is not None for pack in packs) == 3
    first = {pack.name for pack in packs if pack.verified_at is None}
    before = many.verify(max_bytes=sum(p.size for p in packs if p.name in first) - 100)
    assert before.oldest_verified is not None or before.packs_left <= 3


@on(index="postgresql", blobs="s3", because="a local directory has no network to it")
@pytest.mark.parametrize("depth", ["index", "packs", "bytes"])
@pytest.mark.parametrize(
    "fault", [Fault.INTERNAL_ERROR, Fault.RESET, Fault.EXPIRED_TOKEN, Fault.TRUNCATED]
)
def test_storage_that_fails_ends_it_and_marks_nothing(
    place, proxy, tmp_path, monkeypatch, depth, fault
):
    fill(place, tmp_path)

    def quick(**_settings):
        return Retrying(deadline=0.2, first_wait=0.001, longest_wait=0.01)

    monkeypatch.setattr("cas.backends.retrying.Retrying", quick)
    with ArtifactStore.open(**through(place, proxy)) as store:
        with proxy.fault(fault, times=None, skip=1), pytest.raises(BackendError):
            store.verify(depth=depth)
        assert marked(store) == 0
        with store.context.database.writing() as connection:
            connection.exec_driver_sql("UPDATE cas_blobs SET damaged_at = '2026-01-01 00:00:00'")
        before = marked(store)
        with proxy.fault(fault, times=None, skip=1), pytest.raises(BackendError):
            store.repair(tmp_path / "now")
        assert marked(store) == before
        assert store.verify(depth="bytes").recovered > 0
        assert store.verify(depth="bytes").is_sound


@on(index="sqlite", blobs="s3", because="a local directory has no network to it")
@pytest.mark.parametrize("fault", [Fault.CORRUPTED, Fault.SHORT, Fault.INTERNAL_ERROR])
def test_an_answer_that_was_spoilt_on_its_way_is_no_damage(place, proxy, tmp_path, fault):
    fill(place, tmp_path)
    with ArtifactStore.open(**through(place, proxy)) as store:
        with proxy.fault(fault, method="GET", path="/packs/"):
            assert store.verify(depth="bytes").is_sound
        assert marked(store) == 0


@pytest.mark.parametrize("is_lost", [False, True])
def test_damage_that_comes_between_a_pack_and_its_large_file_is_found(
    many, objects, monkeypatch, is_lost
):
    def damaged_first(*arguments):
        (pack, offset), *_ = damaged
        name = pack_object_name(pack)
        data = bytearray(objects.read(name))
        data[offset + 9] ^= 1
        if is_lost:
            objects.remove(name)
        else:
            objects.write(name, bytes(data))
        return verify_large(*arguments)

    with many.context.database.reading() as connection:
        (large,) = verification.list_large(connection)
        blob = locate_large(connection, {large.digest: large.size})[large.digest]
        damaged = [place[:2] for place in locate(connection, blob.chunks[1:2]).values()]
    monkeypatch.setattr("index.maintenance.verify.verify.verify_large", damaged_first)
    report = many.verify(depth="bytes")
    assert not report.is_sound
    assert marked(many) > 0


class Workers:
    """Threads that repeat some work. When they stop, the first error is raised."""

    def __init__(self, works):
        self._stop = threading.Event()
        self._failures = []
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in works]

    def __enter__(self):
        for thread in self._threads:
            thread.start()

    def __exit__(self, *error):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _run(self, work):
        try:
            for turn in count():
                if self._stop.is_set():
                    return
                work(turn)
        except Exception as error:  # noqa: BLE001 - raised by `__exit__`
            self._failures.append(error)


def tracker(store, folder, number):
    """Return a function that tracks five files, changed every other time, and deletes the run."""

    def work(turn):
        write(folder, {f"f{n}": b"%d %d %d" % (number, n, turn // 2) * 50 for n in range(5)})
        run = store.session("s").run(f"r{number}")
        run.track(folder)
        if turn % 3 == 2:
            run.delete()

    return work


@pytest.mark.slow
def test_writers_and_collectors_at_work_raise_no_alarm(place, tmp_path):
    settings = GcSettings(grace=timedelta(0), small_packs=2, rest=0.0)
    options = GcOptions(settings, compact=True, max_bytes=None, remove_orphans=False)
    collected = []

    def collect(_turn):
        collected.append(plan_gc(store.context, options).execute())

    with ArtifactStore.open(**place) as store:
        works = [tracker(store, tmp_path / f"w{number}", number) for number in range(8)]
        with Workers([*works, collect]):
            for depth in ("index", "packs", "bytes") * 2:
                report = store.verify(depth=depth)
                assert report.is_sound, report.faults
        assert marked(store) == 0
        assert store.verify(depth="bytes").is_sound
    assert collected


def test_a_pack_that_is_collected_while_it_is_read_is_no_fault(place, objects, tmp_path):
    fill(place, tmp_path)
    filled = set(packs_of(objects))
    with ArtifactStore.open(**place) as store, ArtifactStore.open(**place) as other:

        def collect():
            other.session("s").run("r").delete()
            for _ in range(3):
                other.plan_gc(grace=timedelta(0)).execute()
            assert not filled & set(packs_of(objects))

        acted = on_statement(store, "SELECT cas_chunk_lists.list", collect)
        report = store.verify(depth="bytes")
        assert acted
        assert report.is_sound
        assert marked(store) == 0


@on(index="sqlite", blobs="local", because="whose rows are written meanwhile is the same anywhere")
def test_a_blob_that_is_repaired_while_it_is_verified_is_not_marked(place, objects, tmp_path):
    fill(place, tmp_path)
    mutate(objects, HARMFUL["zstd"])
    with ArtifactStore.open(**place) as store, ArtifactStore.open(**place) as other:
        other.verify(depth="bytes")
        assert marked(store) == 1

        def mend():
            assert other.repair(tmp_path / "now").is_complete

        acted = on_statement(store, "SELECT cas_chunk_lists.list", mend)
        assert store.verify(depth="bytes").is_sound
        assert acted
        assert marked(store) == 0
        assert held(store)[1] == SECOND | {"link": b"raw"}


@on(index="sqlite", blobs="local", because="what a disk answers is asked of the disk")
def test_a_read_error_of_the_disk_is_no_damage(place, objects, tmp_path, monkeypatch):
    fill(place, tmp_path)
    with ArtifactStore.open(**place) as store:
        backend = store.context.blobs.backend

        def fail(*_):
            raise BackendError("packs/x", "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(backend, "read", fail)
            with pytest.raises(BackendError):
                store.verify(depth="bytes")
        assert marked(store) == 0
