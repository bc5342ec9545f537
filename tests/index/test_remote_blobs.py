"""A store whose index is a file and whose blobs are in S3, request by request."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from fault_proxy import Fault
from trees import read, write

from cas.errors import StorageAccessError
from index import ArtifactStore
from index.errors import StoreMismatchError, StoreNotFoundError, UnknownRunError

MIB = 1 << 20


@pytest.fixture
def place(s3, proxy):
    return s3.through(proxy)


@pytest.fixture
def open_store(tmp_path, place):
    def open_store(**arguments):
        given = {
            "index": f"sqlite:///{tmp_path}/index.db",
            "blobs": place.url,
            "storage_options": place.options(),
            **arguments,
        }
        return ArtifactStore.open(**given)

    return open_store


@pytest.fixture
def tree():
    draw = random.Random(5)
    files = {f"data/{n // 50}/{n}.bin": draw.randbytes(draw.randrange(5_000)) for n in range(500)}
    return files | {"logs/long.log": draw.randbytes(3 * MIB + 7), "empty": b""}


def test_a_tree_is_tracked_rescanned_and_restored_with_few_requests(
    open_store, proxy, inspector, work, tree, tmp_path
):
    write(work, tree)
    with open_store() as store:
        run = store.session("s").run("r")
        with proxy.counting() as tracking:
            snapshot = run.track(work)
        assert len(snapshot.added) == len(tree)
        with proxy.counting() as rescanning:
            assert not run.track(work).added
    assert tracking == {"PUT": 1}
    assert rescanning == {}
    assert len(inspector.names() - {"cas.json", "index.json"}) == 1

    with proxy.counting() as opening, open_store(create=False) as store:
        run = store.session("s").run("r")
        with proxy.counting() as rescanning:
            assert not run.track(work).added
        with proxy.counting() as restoring:
            run.restore(tmp_path / "restored")
        assert read(tmp_path / "restored") == tree
        assert run.read_bytes("data/3/170.bin") == tree["data/3/170.bin"]
    assert rescanning == {}
    assert set(restoring) == {"GET"}
    assert restoring["GET"] <= 1 + 4  # neighbours together, and the chunks of the large one
    assert opening == {"GET": 2 + restoring["GET"] + 1}  # settings, claim, the file that was read


def test_opening_a_new_store_writes_its_settings_once(open_store, proxy, inspector):
    with proxy.counting() as requests:
        open_store().close()
    assert inspector.names() == {"cas.json", "index.json"}
    assert requests == {"GET": 1, "PUT": 2, "LIST": 1}  # listed lest an index was lost
    with proxy.counting() as requests:
        open_store().close()
    assert requests == {"GET": 2}


def test_what_could_not_be_stored_is_not_recorded(open_store, proxy, inspector, work, tree):
    write(work, tree)
    with open_store() as store:
        run = store.session("s").run("r")
        with (
            proxy.fault(Fault.EXPIRED_TOKEN, method="PUT", times=None),
            pytest.raises(StorageAccessError, match="renew them and repeat the call"),
        ):
            run.track(work)
        with pytest.raises(UnknownRunError):
            run.files()
        assert inspector.names() == {"cas.json", "index.json"}
        run.track(work)  # the credentials were renewed
        assert len(run.files()) == len(tree)


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.LOST_ANSWER, Fault.BAD_GATEWAY])
def test_a_service_that_fails_now_and_then_changes_nothing(
    open_store, proxy, work, tree, tmp_path, fault
):
    write(work, tree)
    with open_store() as store:
        run = store.session("s").run("r")
        with proxy.fault(fault, method="PUT"):
            run.track(work)
        with proxy.fault(fault, method="GET", times=2):
            run.restore(tmp_path / "restored")
    assert read(tmp_path / "restored") == tree


def test_nothing_is_kept_of_the_credentials(open_store, place, tmp_path, work):
    write(work, {"a": b"1"})
    with open_store() as store:
        store.session("s").run("r").track(work)
        assert place.url in repr(store.stats())
        assert str(place.key) not in repr(store.stats())
    if place.secret is not None:
        kept = b"".join(path.read_bytes() for path in tmp_path.glob("index.db*"))
        assert place.secret.encode() not in kept
        assert place.key.encode() not in kept


def test_a_store_that_is_not_there_is_not_made_by_reading(open_store, place, inspector):
    with pytest.raises(StoreNotFoundError, match=place.url):
        open_store(create=False)
    assert inspector.names() == set()


def test_blobs_of_another_store_are_refused(open_store, place):
    open_store().close()
    with pytest.raises(StoreMismatchError):
        open_store(blobs=place.elsewhere().url)


@pytest.fixture
def cas(place, tmp_path):
    """Run the command with credentials and endpoint in their usual places."""
    found = {"AWS_ACCESS_KEY_ID": place.key, "AWS_SECRET_ACCESS_KEY": place.secret}
    environment = os.environ | {name: value for name, value in found.items() if value is not None}
    environment["AWS_ENDPOINT_URL"] = place.endpoint

    def cas(*arguments, blobs=place.url):
        index = f"sqlite:///{tmp_path}/index.db"
        return subprocess.run(
            [
                sys.executable,
                "-c",
                "from index.cli import main; main()",
                "--index",
                index,
                "--blobs",
                blobs,
                *arguments,
            ],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )

    return cas


def test_the_command_finds_credentials_in_their_usual_places(cas, work, tree, tmp_path):
    write(work, tree)
    tracked = cas("track", str(work), "--run", "r")
    assert tracked.returncode == 0, tracked.stderr
    restored = cas("restore", "--to", str(tmp_path / "restored"), "--run", "r")
    assert restored.returncode == 0, restored.stderr
    assert read(tmp_path / "restored") == tree


def test_the_command_says_in_one_sentence_what_is_wrong_with_the_storage(cas, work):
    write(work, {"a": b"1"})
    outcome = cas("track", str(work), blobs="s3://runcas-nowhere/x")
    assert outcome.returncode == 5
    assert outcome.stderr.count("\n") == 1
    assert "there is no bucket s3://runcas-nowhere; create it" in outcome.stderr
