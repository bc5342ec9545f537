"""A real S3 service behind a proxy, which causes every fault."""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import threading
import traceback
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fault_proxy import Fault

from cas import BlobStore, Digest
from cas.backends.fsspec import _OPEN_FILES, ObjectStoreBackend
from cas.backends.retrying import Retrying
from cas.catalog import MemoryCatalog
from cas.errors import (
    BackendError,
    BucketNotFoundError,
    DigestMismatchError,
    ObjectNotFoundError,
    StorageAccessError,
    StoreClosedError,
    TransientBackendError,
)
from cas.packs.pack import pack_object_name
from cas.store import open_settings

MIB = 1 << 20
NAME = "packs/ab/one.pack"
DATA = bytes(range(256)) * 40
QUICK = Retrying(deadline=30, first_wait=0.001, longest_wait=0.01)
IMPATIENT = Retrying(deadline=0.2, first_wait=0.001, longest_wait=0.01)
SHORT_TIMEOUT = {"config_kwargs": {"read_timeout": 0.5, "retries": {"max_attempts": 0}}}

FAILED_ANSWERS = [
    Fault.INTERNAL_ERROR,
    Fault.BAD_GATEWAY,
    Fault.SLOW_DOWN,
    Fault.TOO_MANY_REQUESTS,
    Fault.RESET,
    Fault.LOST_ANSWER,
]


@pytest.fixture
def open_store(s3):
    """Open the backend of this test; a parameter may replace its place or settings."""
    opened = []

    def open_store(place=s3, retrying=QUICK, **options):
        opened.append(ObjectStoreBackend(place.url, place.options(**options), retrying=retrying))
        return opened[-1]

    yield open_store
    for backend in opened:
        backend.close()


@pytest.fixture
def backend(open_store, s3, proxy):
    return open_store(s3.through(proxy))


def publish(backend, name, *pieces):
    with backend.stage() as staged:
        for piece in pieces:
            staged.write(piece)
        staged.publish(name)


class TestTransientFaults:
    @pytest.mark.parametrize("fault", [*FAILED_ANSWERS, Fault.CORRUPTED], ids=lambda f: f.name)
    def test_a_failed_upload_is_repeated_until_it_arrives_whole(
        self, backend, proxy, inspector, fault
    ):
        with proxy.fault(fault, method="PUT", times=2) as planned:
            publish(backend, NAME, DATA)
        assert planned.fired == 2
        assert inspector.names() == {NAME}
        assert inspector.read(NAME) == DATA

    @pytest.mark.parametrize(
        "fault", [*FAILED_ANSWERS, Fault.TRUNCATED, Fault.SHORT], ids=lambda f: f.name
    )
    def test_a_failed_read_is_repeated_until_every_byte_is_there(
        self, backend, proxy, inspector, fault
    ):
        inspector.write(NAME, DATA)
        with proxy.fault(fault, method="GET", times=2) as planned:
            assert backend.read(NAME, 100, 5_000) == DATA[100:5_100]
        assert planned.fired == 2

    @pytest.mark.parametrize("method", ["PUT", "GET"])
    def test_a_service_that_hangs_is_asked_again_after_the_time_out(
        self, open_store, s3, proxy, inspector, method
    ):
        backend = open_store(s3.through(proxy), **SHORT_TIMEOUT)
        inspector.write("packs/other", DATA)
        with proxy.fault(Fault.HANG, method=method):
            publish(backend, NAME, DATA)
            assert backend.read("packs/other", 0, len(DATA)) == DATA
        assert inspector.read(NAME) == DATA

    def test_a_service_that_stops_reading_is_given_up(
        self, open_store, s3, proxy, inspector, monkeypatch
    ):
        # None of the client's time-outs runs while it sends a request.
        monkeypatch.setattr("cas.backends.remote._PATIENCE_S", 0.5)
        backend = open_store(s3.through(proxy))
        with proxy.fault(Fault.HANG, method="PUT"):
            publish(backend, NAME, DATA)
        assert inspector.read(NAME) == DATA

    @pytest.mark.parametrize("fault", FAILED_ANSWERS, ids=lambda f: f.name)
    def test_listing_size_and_deletion_are_repeated_too(self, backend, proxy, inspector, fault):
        inspector.write(NAME, DATA)
        with proxy.fault(fault, method="LIST"):
            assert [info.name for info in backend.iter_objects("packs/")] == [NAME]
        with proxy.fault(fault, method="HEAD"):
            assert backend.size(NAME) == len(DATA)
        with proxy.fault(fault, method="DELETE"):
            backend.delete(NAME)
        assert inspector.names() == set()

    @pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.RESET], ids=lambda f: f.name)
    def test_what_does_not_end_is_reported_and_leaves_nothing(
        self, open_store, s3, proxy, inspector, fault
    ):
        backend = open_store(s3.through(proxy), IMPATIENT)
        with (
            proxy.fault(fault, method="PUT", times=None) as planned,
            pytest.raises(TransientBackendError, match=r"tried \d+ times") as caught,
        ):
            publish(backend, NAME, DATA)
        assert f"{s3.url}/{NAME}" in str(caught.value)
        assert "repeat the call" in str(caught.value)
        # aiohttp sends a PUT once more if a kept connection turns out to be closed.
        assert int(re.search(r"tried (\d+)", str(caught.value))[1]) >= planned.fired / 2
        assert inspector.names() == set()
        publish(backend, NAME, DATA)
        assert inspector.read(NAME) == DATA

    def test_attempts_are_not_multiplied_by_the_clients_own(self, open_store, s3, proxy):
        backend = open_store(s3.through(proxy), Retrying(deadline=0))
        with (
            proxy.fault(Fault.INTERNAL_ERROR, times=None) as planned,
            pytest.raises(TransientBackendError, match="answered 500 InternalError"),
        ):
            publish(backend, NAME, DATA)
        assert planned.fired == 1

    def test_a_read_past_the_end_is_no_failure(self, backend, proxy, inspector):
        inspector.write(NAME, b"0123456789")
        with proxy.counting() as requests:
            assert backend.read(NAME, 8, 100) == b"89"
            assert backend.read(NAME, 10, 100) == b""
        assert requests["GET"] == 2


class TestCreating:
    def test_a_lost_answer_does_not_hide_that_it_was_our_own(self, backend, proxy, inspector):
        with proxy.fault(Fault.LOST_ANSWER, method="PUT"):
            assert backend.create("cas.json", b"mine") is True
        assert inspector.read("cas.json") == b"mine"

    @pytest.mark.parametrize("fault", [Fault.RESET, Fault.SLOW_DOWN], ids=lambda f: f.name)
    def test_a_name_that_another_took_is_not_ours(self, backend, proxy, inspector, fault):
        inspector.write("cas.json", b"theirs")
        with proxy.fault(fault, method="PUT"):
            assert backend.create("cas.json", b"mine") is False
        assert inspector.read("cas.json") == b"theirs"

    def test_it_costs_one_request(self, backend, proxy):
        with proxy.counting() as requests:
            assert backend.create("cas.json", b"mine")
        assert requests == {"PUT": 1}

    def test_a_service_without_conditional_writes_is_asked_what_is_there(
        self, backend, proxy, inspector
    ):
        with proxy.fault(Fault.NO_CONDITIONS, method="PUT"):
            assert backend.create("cas.json", b"mine") is True
        with proxy.fault(Fault.NO_CONDITIONS, method="PUT"):
            assert backend.create("cas.json", b"other") is False
        assert inspector.read("cas.json") == b"mine"


CALLS = {
    "publish": lambda backend: publish(backend, NAME, DATA),
    "create": lambda backend: backend.create("cas.json", b"{}"),
    "read": lambda backend: backend.read(NAME, 0, 10),
    "size": lambda backend: backend.size(NAME),
    "list": lambda backend: list(backend.iter_objects("packs/")),
    "delete": lambda backend: backend.delete(NAME),
}


class TestPermanentFaults:
    @pytest.mark.parametrize("call", ["publish", "create", "read", "list", "delete"])
    def test_expired_credentials_are_reported_at_once(self, backend, proxy, inspector, call):
        with (
            proxy.fault(Fault.EXPIRED_TOKEN, times=None) as planned,
            pytest.raises(
                StorageAccessError, match="have expired; renew them and repeat"
            ) as caught,
        ):
            CALLS[call](backend)
        assert planned.fired == 1
        assert "\n" not in str(caught.value)
        assert inspector.names() == set()

    @pytest.mark.parametrize("call", ["read", "size", "list"])
    def test_a_bucket_that_is_not_there_is_named(self, open_store, s3, call):
        backend = open_store(replace(s3, bucket="runcas-nowhere"))
        with pytest.raises(BucketNotFoundError, match="no bucket s3://runcas-nowhere; create it"):
            CALLS[call](backend)

    @pytest.mark.parametrize("call", ["publish", "create"])
    def test_a_bucket_that_is_not_there_is_not_written_to(self, open_store, s3, call):
        # Some services report a missing bucket only to clients that may list it.
        backend = open_store(replace(s3, bucket="runcas-nowhere"))
        with pytest.raises(BackendError, match=r"create it|check the name") as caught:
            CALLS[call](backend)
        assert isinstance(caught.value, BucketNotFoundError | StorageAccessError)

    @pytest.mark.parametrize("call", list(CALLS))
    def test_unknown_credentials_are_reported_at_once(self, open_store, s3, proxy, call):
        backend = open_store(s3.through(proxy), key="AKIAUNKNOWN", secret="x" * 20)
        with (
            proxy.counting() as requests,
            pytest.raises(StorageAccessError, match=r"s3://.*(credentials)"),
        ):
            CALLS[call](backend)
        assert requests.total() == 1

    def test_no_credentials_at_all_say_where_to_put_them(self, open_store, s3, monkeypatch):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        backend = open_store(s3, key=None, secret=None)
        with pytest.raises(StorageAccessError, match=r"no credentials were found.*~/\.aws"):
            backend.read(NAME)

    def test_an_endpoint_where_nobody_listens_is_transient_and_named(self, open_store, s3):
        backend = open_store(s3, IMPATIENT, endpoint_url="http://127.0.0.1:9")
        with pytest.raises(TransientBackendError, match=f"{s3.url}/{NAME}.*connection failed"):
            backend.read(NAME)

    def test_options_that_the_filesystem_does_not_know_are_reported(self, open_store):
        backend = open_store(config_kwargs={"no_such_option": 1})
        with pytest.raises(BackendError, match="no_such_option"):
            backend.read(NAME)

    def test_a_closed_backend_says_so(self, open_store):
        backend = open_store()
        backend.close()
        with pytest.raises(StoreClosedError, match="was closed"):
            backend.read(NAME)

    def test_a_missing_object_is_not_a_missing_bucket(self, backend):
        with pytest.raises(ObjectNotFoundError, match=f"{NAME} is missing"):
            backend.read(NAME)


class TestBlobs:
    @pytest.fixture
    def blobs(self, backend):
        return BlobStore(backend, MemoryCatalog(), open_settings(backend, create=True))

    def write(self, blobs, contents):
        with blobs.batch() as batch:
            digests = [batch.add(content) for content in contents]
            written = batch.finish()
        blobs._catalog.record(written)
        return digests, written

    def test_twenty_thousand_blobs_cost_a_put_for_each_pack_and_few_reads(self, blobs, proxy):
        draw = random.Random(4)
        contents = [draw.randbytes(4_000) for _ in range(20_000)]
        with proxy.counting() as requests:
            digests, written = self.write(blobs, contents)
        assert len(written.packs) == 2
        assert requests == {"PUT": len(written.packs)}
        with proxy.counting() as requests:
            found = {digest: Digest.of(data) for digest, data in blobs.read_many(digests)}
        assert all(digest == actual for digest, actual in found.items())
        assert len(found) == 20_000
        assert set(requests) == {"GET"}
        assert requests["GET"] <= 12  # 80 MB, at most 8 MiB a request

    def test_bytes_damaged_once_on_the_way_are_fetched_again(self, blobs, proxy):
        digests, _ = self.write(blobs, [DATA, DATA[::-1]])
        with proxy.fault(Fault.CORRUPTED, method="GET"):
            found = dict(blobs.read_many(digests))
        assert [bytes(found[digest]) for digest in digests] == [DATA, DATA[::-1]]

    def test_bytes_that_do_not_match_are_never_returned(self, blobs, proxy):
        (digest,), _ = self.write(blobs, [random.Random(1).randbytes(50_000)])
        with proxy.fault(Fault.CORRUPTED, method="GET", times=None):
            with pytest.raises(DigestMismatchError, match=str(digest)):
                blobs.read(digest)
            with pytest.raises(DigestMismatchError, match=str(digest)):
                list(blobs.read_many([digest]))

    def test_a_batch_that_fails_makes_nothing_readable(self, s3, open_store, proxy, inspector):
        backend = open_store(s3.through(proxy), IMPATIENT)
        blobs = BlobStore(backend, MemoryCatalog(), open_settings(backend, create=True))
        with (
            proxy.fault(Fault.SLOW_DOWN, method="PUT", times=None),
            pytest.raises(TransientBackendError),
            blobs.batch() as batch,
        ):
            batch.add(DATA)
            batch.finish()
        assert inspector.names() == {"cas.json"}
        assert blobs._catalog.placements == {}


class TestUploadsOfOneBatch:
    """Several packs are uploaded at once, within a bound."""

    AT_ONCE = 4

    @pytest.fixture
    def blobs(self, backend):
        return BlobStore(backend, MemoryCatalog(), open_settings(backend, create=True))

    @pytest.fixture
    def small_packs(self, monkeypatch):
        monkeypatch.setattr("cas.packs.packer.PACK_SIZE", MIB)

    def batch_of(self, blobs, size):
        """Write `size` MiB as chunks that do not compress; return the written batch."""
        draw = random.Random(6)
        with blobs.batch() as batch:
            for _ in range(size):
                batch.add(draw.randbytes(MIB))
            return batch.finish()

    def test_they_overlap_up_to_a_bound(self, blobs, proxy, inspector, small_packs):
        with ThreadPoolExecutor(1) as executor, proxy.gate("PUT") as gate:
            writing = executor.submit(self.batch_of, blobs, 10)
            gate.wait_for(self.AT_ONCE)
            gate.open()
            written = writing.result()
        assert gate.most == self.AT_ONCE
        assert len(written.packs) == 10
        assert inspector.names() == {"cas.json", *(pack_object_name(p.name) for p in written.packs)}

    def test_they_are_as_many_as_the_backend_says(self, blobs, proxy, small_packs, monkeypatch):
        monkeypatch.setattr(ObjectStoreBackend, "publishes_at_once", 1)
        with proxy.gate("PUT") as gate:
            gate.open()
            self.batch_of(blobs, 4)
        assert gate.most == 1

    @pytest.mark.parametrize("failing", [0, 2, 4])
    def test_an_error_of_any_is_the_error_of_the_batch(
        self, blobs, proxy, inspector, small_packs, failing
    ):
        with (
            proxy.fault(Fault.EXPIRED_TOKEN, method="PUT", skip=failing),
            pytest.raises(StorageAccessError, match="have expired"),
        ):
            self.batch_of(blobs, 5)
        assert blobs._catalog.placements == {}
        assert len(self.batch_of(blobs, 5).packs) == 5

    def test_no_further_one_begins_after_an_error(self, blobs, proxy, small_packs):
        with (
            proxy.counting() as requests,
            proxy.fault(Fault.EXPIRED_TOKEN, method="PUT", times=None),
            pytest.raises(StorageAccessError),
        ):
            self.batch_of(blobs, 40)
        assert requests["PUT"] <= 2 * self.AT_ONCE  # those begun, and as many until the error

    def test_no_pack_is_in_memory_while_it_waits(self, s3, proxy):
        place = s3.through(proxy)
        told = [place.url, json.dumps(place.options())]
        with proxy.gate("PUT") as gate:
            writer = subprocess.Popen(
                [sys.executable, "-c", WRITE_PACKS, *told], stdout=subprocess.PIPE, text=True
            )
            gate.wait_for(self.AT_ONCE)  # four of 16 MiB, while one more is written
            gate.open()
            grown, _ = writer.communicate(timeout=120)
        assert int(grown) < 80 * MIB  # not 160 MiB


WRITE_PACKS = """
import json, random, sys
import cas.packs.packer
from cas import BlobStore
from cas.catalog import MemoryCatalog
from cas.backends.fsspec import ObjectStoreBackend
from cas.store import StoreSettings

def peak():  # in bytes; what getrusage tells includes the parent's
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

url, options = sys.argv[1:]
backend = ObjectStoreBackend(url, json.loads(options))
list(backend.iter_objects("packs/"))  # what the client itself needs
settings = StoreSettings(1, "blake3-256", "fixed", 1 << 20, "", "")
blobs = BlobStore(backend, MemoryCatalog(), settings)
cas.packs.packer.PACK_SIZE = 16 << 20
draw = random.Random(7)
before = peak()
with blobs.batch() as batch:
    for _ in range(160):
        batch.add(draw.randbytes(1 << 20))
    batch.finish()
print(peak() - before)
"""


class TestLargeObjects:
    def test_uploads_at_once_do_not_fill_memory(self, open_store, inspector):
        backend = open_store()
        publish(backend, "packs/warm", b"1")  # what the client itself needs
        piece = random.Random(2).randbytes(MIB)
        names = [f"packs/{number}" for number in range(4)]
        threads = [
            threading.Thread(target=publish, args=(backend, name, *[piece] * 40)) for name in names
        ]
        tracemalloc.start()
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert {(info.name, info.size) for info in backend.iter_objects("packs/")} == {
            ("packs/warm", 1),
            *((name, 40 * MIB) for name in names),
        }
        assert peak < 20 * MIB  # not 160 MiB

    def test_what_is_too_large_for_one_put_goes_in_parts(self, backend, proxy, inspector):
        backend._remote.multipart_size = 8 * MIB
        data = random.Random(3).randbytes(11 * MIB + 1)
        with proxy.counting() as requests:
            publish(backend, NAME, data)
        assert requests == {"POST": 2, "PUT": 3}  # begin and end; two halves and a byte
        assert inspector.read(NAME) == data

    def test_a_part_that_fails_leaves_no_upload_behind(self, backend, proxy, inspector):
        backend._remote.multipart_size = 8 * MIB
        data = random.Random(3).randbytes(10 * MIB)
        with proxy.fault(Fault.INTERNAL_ERROR, method="PUT"):
            publish(backend, NAME, data)
        assert inspector.read(NAME) == data
        assert inspector.unfinished_uploads() == []

    def test_listings_go_page_by_page(self, backend, proxy, inspector):
        backend._remote.page_size = 2
        for number in range(5):
            inspector.write(f"packs/{number}", b"x")
        with proxy.counting() as requests:
            next(iter(backend.iter_objects("packs/")))
        assert requests == {"LIST": 1}
        with proxy.counting() as requests:
            assert len(list(backend.iter_objects("packs/"))) == 5
        assert requests == {"LIST": 3}


class TestSecrets:
    SECRETS = ("AKIA-HIDE-ME", "open-sesame-secret", "session-token-to-hide")

    @pytest.mark.parametrize(
        "break_it",
        [
            {},
            {"endpoint_url": "http://someone:open-sesame-secret@127.0.0.1:9"},
            {"config_kwargs": {"signature_version": "open-sesame-secret"}},
            {"client_kwargs": {"open-sesame-secret": "open-sesame-secret"}},
            {"key": "AKIA-HIDE-ME", "username": "open-sesame-secret"},
        ],
        ids=["refused", "url", "option", "name", "both"],
    )
    def test_credentials_are_in_no_error_and_no_log(self, s3, caplog, break_it):
        key, secret, token = self.SECRETS
        given = {"key": key, "secret": secret, "token": token, **break_it}
        backend = ObjectStoreBackend(s3.url, s3.options(**given), retrying=IMPATIENT)
        with caplog.at_level(logging.DEBUG, logger="cas"):
            with pytest.raises(BackendError) as caught:
                publish(backend, NAME, DATA)
            with pytest.raises(BackendError):
                backend.read(NAME)
        backend.close()
        error = caught.value
        told = [
            str(error),
            repr(error),
            str(pickle.loads(pickle.dumps(error))),
            "".join(traceback.format_exception(error)),
            caplog.text,
            backend.url,
            repr(backend),
            repr(backend._remote),
            repr(backend._remote._secrets),
        ]
        for text in told:
            for secret in self.SECRETS:
                assert secret not in text


def test_what_the_caller_is_dealing_with_is_not_taken_for_our_failure(open_store):
    backend = open_store(retrying=Retrying(deadline=0))
    theirs = OSError("of the caller")
    theirs.response = {"Error": {"Code": "SlowDown"}}
    try:
        raise theirs
    except OSError:
        with pytest.raises(ObjectNotFoundError):
            backend.read(NAME)


class TestOtherUsersOfTheFilesystem:
    def test_our_settings_do_not_reach_an_instance_of_the_application(self, s3, open_store):
        import s3fs

        theirs = s3fs.S3FileSystem(**s3.options())
        backend = open_store()
        publish(backend, NAME, DATA)
        assert theirs.retries == s3fs.S3FileSystem.retries > 1
        assert backend._remote._filesystem() is not theirs
        assert backend._remote._filesystem() not in s3fs.S3FileSystem._cache.values()

    def test_what_another_process_wrote_is_seen_at_once(self, backend, inspector):
        assert list(backend.iter_objects("packs/")) == []
        with pytest.raises(ObjectNotFoundError):
            backend.size(NAME)
        inspector.write(NAME, DATA)
        assert [info.name for info in backend.iter_objects("packs/")] == [NAME]
        assert backend.size(NAME) == len(DATA)


_DIES_WHILE_WRITING = """
import os, signal, sys
from cas.backends.fsspec import ObjectStoreBackend
staged = ObjectStoreBackend("memory://died").stage()
staged.write(bytes(3 << 20))
sys.stdout.write("written")
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_no_temporary_file_where_it_can_do_without_a_name(tmp_path):
    died = subprocess.run(
        [sys.executable, "-c", _DIES_WHILE_WRITING],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (died.stdout, died.returncode) == ("written", -signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == (0 if _OPEN_FILES.is_dir() else 1)


def test_a_temporary_file_with_a_name_does_as_well(open_store, monkeypatch, tmp_path):
    monkeypatch.setattr("cas.backends.fsspec._OPEN_FILES", tmp_path / "nowhere")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    backend = open_store()
    with backend.stage() as staged:
        staged.write(DATA)
        (spool,) = tmp_path.iterdir()
        staged.publish(NAME)
    assert not spool.exists()
    assert backend.read(NAME) == DATA
