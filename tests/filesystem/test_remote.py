"""Arrays and large files over S3, request by request."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from index import ArtifactStore
from index.filesystem import CasFileSystem


@pytest.fixture
def options(s3, proxy, tmp_path):
    place = s3.through(proxy)
    return {
        "index": f"sqlite:///{tmp_path}/index.db",
        "blobs": place.url,
        "storage_options": place.options(),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "chunk"), [((2000, 512), (1, 512)), ((1280, 1600), (32, 32))])
@pytest.mark.parametrize("cached", [False, True])
def test_a_zarr_array_of_2000_chunks_is_read_in_few_requests(
    options, proxy, tmp_path, shape, chunk, cached
):
    import numpy as np
    import zarr

    values = np.random.default_rng(1).random(shape)
    array = zarr.create_array(tmp_path / "cube.zarr", shape=shape, chunks=chunk, dtype="f8")
    array[:] = values
    with ArtifactStore.open(**options) as store:
        snapshot = store.session("s").run("r").track(tmp_path / "cube.zarr", prefix="cube.zarr")
        assert len(snapshot.added) == 2001
    given = {**options, "cache": tmp_path / "cache"} if cached else options
    with proxy.counting() as requests:
        array = zarr.open_array("cas://s/r/cube.zarr", mode="r", storage_options=given)
        assert (array[:] == values).all()
    assert requests.total() < 40
    assert requests["GET"] > 3
    if cached:
        with proxy.counting() as again:
            assert (array[:] == values).all()
        assert not again


def test_a_large_file_is_read_with_several_requests_at_once(options, proxy):
    data = random.Random(1).randbytes(48 << 20)
    with ArtifactStore.open(**options) as store:
        run = store.session("s").run("r")
        run.put("large.bin", data)
        with ThreadPoolExecutor(1) as thread, proxy.gate("GET") as gate:
            reading = thread.submit(run.read_bytes, "large.bin")
            gate.wait_for(4)
            gate.open()
            assert reading.result() == data
        assert gate.most == 4


def test_a_closed_file_leaves_no_threads(options):
    fs = CasFileSystem(**options, create=True)
    run = fs.store.session("s").run("r")
    run.put("big", random.Random(6).randbytes(40 << 20))
    for opened in (run.open("big"), fs.open("s/r/big")):
        for _ in range(30):
            opened.read(1 << 20)
        opened.close()
        left = [thread for thread in threading.enumerate() if thread.name == "cas-read"]
        for thread in left:
            thread.join(5)
        assert not [thread for thread in left if thread.is_alive()]
