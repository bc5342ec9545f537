"""Syncing with a store whose blobs are in S3; the tests count its requests."""

from __future__ import annotations

import random

import pytest
from fault_proxy import Fault
from histories import histories
from trees import write

from cas.errors import StorageAccessError
from index import ArtifactStore

MIB = 1 << 20


@pytest.fixture
def remote(tmp_path, s3, proxy):
    place = s3.through(proxy)
    with ArtifactStore.open(
        index=f"sqlite:///{tmp_path}/remote.db", blobs=place.url, storage_options=place.options()
    ) as opened:
        yield opened


@pytest.fixture
def local(store_root):
    with ArtifactStore.open(store_root) as opened:
        yield opened


@pytest.fixture
def tree():
    draw = random.Random(5)
    files = {f"data/{n // 50}/{n}.bin": draw.randbytes(draw.randrange(5_000)) for n in range(500)}
    return files | {"logs/long.log": draw.randbytes(3 * MIB + 7), "empty": b""}


def test_to_s3_and_back(local, remote, proxy, work, tree, tmp_path):
    write(work, tree)
    run = local.session("s").run("r")
    run.track(work)
    with proxy.counting() as sending:
        local.sync_to(remote)
    assert sending == {"PUT": 2}  # the bytes, and the journal record
    with proxy.counting() as again:
        local.sync_to(remote)
    assert again == {}

    tree["logs/long.log"] += b"one more line"
    write(work, tree)
    run.track(work)
    with proxy.counting() as sending:
        report = local.sync_to(remote)
    assert sending == {"PUT": 2}  # known chunks are hashed from the local disk
    assert report.blobs == 1
    assert report.bytes_stored < 100_000

    with ArtifactStore.open(tmp_path / "other") as other:
        with proxy.counting() as fetching:
            remote.sync_to(other)
        assert set(fetching) == {"GET"}
        assert fetching["GET"] <= 4
        assert histories(other) == histories(local)
        tree["logs/long.log"] += b" and another"
        write(work, tree)
        run.track(work)
        local.sync_to(remote)
        with proxy.counting() as fetching:
            report = remote.sync_to(other)
        assert (fetching, report.blobs) == ({"GET": 1}, 1)
        assert report.bytes_read < 1 << 20


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.LOST_ANSWER, Fault.BAD_GATEWAY])
def test_a_service_that_fails_now_and_then_changes_nothing(local, remote, proxy, work, tree, fault):
    write(work, tree)
    local.session("s").run("r").track(work)
    with proxy.fault(fault, method="PUT"):
        local.sync_to(remote)
    assert histories(remote) == histories(local)


def test_credentials_that_expire_leave_the_destination_as_it_was(
    local, remote, proxy, work, tree, inspector
):
    write(work, tree)
    local.session("s").run("r").track(work)
    with (
        proxy.fault(Fault.EXPIRED_TOKEN, method="PUT", times=None),
        pytest.raises(StorageAccessError, match="renew them and repeat the call"),
    ):
        local.sync_to(remote)
    assert remote.runs() == []
    assert inspector.names() == {"cas.json", "index.json"}
    local.sync_to(remote)
    assert histories(remote) == histories(local)
