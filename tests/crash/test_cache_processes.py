"""Several processes on one cache, and processes that die while they write to it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from cached import CachedStore, kept, left_half_written, size_on_disk
from faults import FaultyCalls, PowerCut

from cas.cache.cache import PackCache
from cas.digest import Digest

MIB = 1 << 20

WORKER = """
import random, sys
sys.path.insert(0, sys.argv[4])
from cas import BlobStore, Digest
from cas.cache.cache import PackCache
from cas.catalog import Location, MemoryCatalog
from cas.backends.local import LocalBackend
from cas.store import open_settings

root, blobs, seed = sys.argv[1:4]
backend, catalog = LocalBackend(blobs), MemoryCatalog()
for line in open(f"{blobs}/places"):
    digest, pack, *place = line.split()
    catalog.placements[Digest.parse(digest)] = Location(Digest.parse(pack), *map(int, place))
cache = PackCache(root, limit=2 << 20)
store = BlobStore(backend, catalog, open_settings(backend, create=False), cache)
draw = random.Random(int(seed))
digests = list(catalog.placements)
print("ready", flush=True)
for turn in range(int(sys.argv[5])):
    for digest in draw.sample(digests, 20):
        assert Digest.of(store.read(digest)) == digest
    wanted = draw.sample(digests, 100)
    assert {d for d, data in store.read_many(wanted) if Digest.of(data) == d} == set(wanted)
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """A local store of 600 blobs, 4 MB: twice the limit of the cache in front of it."""
    from cas import BlobStore
    from cas.backends.local import LocalBackend
    from cas.catalog import MemoryCatalog
    from cas.store import open_settings

    root = tmp_path_factory.mktemp("blobs")
    backend, catalog = LocalBackend(root), MemoryCatalog()
    store = BlobStore(backend, catalog, open_settings(backend, create=True))
    draw = random.Random(1)
    for _ in range(3):
        with store.batch() as batch:
            for _ in range(200):
                batch.add(draw.randbytes(draw.randrange(14_000)))
            catalog.record(batch.finish())
    with (root / "places").open("w") as places:
        for digest, at in catalog.placements.items():
            print(digest, at.pack, *at[1:], file=places)
    return root


def start(root, blobs, seed, turns=40):
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    arguments = [root, blobs, str(seed), here, str(turns)]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(ended):
    """Check that all processes, given with their output, succeeded."""
    for worker, (out, err) in ended:
        assert (worker.returncode, out) == (0, "ready\ndone\n"), err


@pytest.mark.slow
def test_processes_that_fill_and_evict_at_once_all_read_right_bytes(tmp_path, blobs):
    root = tmp_path / "cache"
    workers = [start(root, blobs, seed) for seed in range(4)]
    check([(worker, worker.communicate(timeout=120)) for worker in workers])
    assert left_half_written(root) == []
    # A process that counts does not see what others write; the next `keep` counts again.
    assert size_on_disk(root) <= 4 * MIB
    PackCache(root, limit=2 * MIB).keep(Digest.of(b"one more"), 0, b"x")
    assert 0 < size_on_disk(root) <= 3 * MIB


@pytest.mark.slow
def test_a_process_killed_at_any_moment_leaves_a_cache_that_serves_the_others(tmp_path, blobs):
    root = tmp_path / "cache"
    survivor = start(root, blobs, 100, turns=200)
    for seed in range(6):
        victim = start(root, blobs, seed, turns=1_000)
        assert victim.stdout.readline() == "ready\n"
        time.sleep(0.02 * seed)  # where it lands depends on timing; all must hold
        victim.send_signal(signal.SIGKILL)
        victim.communicate(timeout=60)
        assert victim.returncode == -signal.SIGKILL
    check([(survivor, survivor.communicate(timeout=120))])
    last = start(root, blobs, 7, turns=5)
    check([(last, last.communicate(timeout=120))])
    assert size_on_disk(root) <= 4 * MIB


@pytest.mark.slow
def test_the_directory_is_deleted_again_and_again_under_its_users(tmp_path, blobs):
    root = tmp_path / "cache"
    workers = [start(root, blobs, seed) for seed in range(2)]
    while any(worker.poll() is None for worker in workers):
        shutil.rmtree(root, ignore_errors=True)
        time.sleep(0.02)
    check([(worker, worker.communicate(timeout=60)) for worker in workers])


def test_dying_at_any_system_call_of_the_cache(tmp_path):
    """Visible files are whole; half-written ones are only in tmp."""
    fired = 0
    for number in range(1_000):
        root = tmp_path / str(number)
        calls = FaultyCalls(fail_at=number, dead=True)
        blobs = [random.Random(n).randbytes(3_000) for n in range(6)]
        store = None
        try:
            store = CachedStore(root, calls=calls, limit=16_000)
            digests = store.write(*blobs)
            for digest in (*digests, *digests):  # one by one, so that they are evicted
                store.blobs.fetch(digest, store.catalog.placements[digest])
        except PowerCut:
            pass
        calls.end_process()
        assert all(path.stat().st_size == _told_size(path) for path in kept(root))
        if store is not None:
            store.open(limit=16_000)
            for digest in store.catalog.placements:
                assert Digest.of(store.blobs.read(digest)) == digest
            assert size_on_disk(root) <= 16_000 + 4_096
        if not calls.fired:
            break
        fired += 1
    assert fired > 100


def _told_size(path):
    start, _, stop = path.name.partition("-")
    return int(stop) - int(start)
