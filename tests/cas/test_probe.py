"""What a filesystem can do is tried out, and nothing of the trial stays."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime

import pytest
from fault_proxy import Fault

import cas.probe
from cas.backends.fsspec import ObjectStoreBackend
from cas.backends.local import LocalBackend
from cas.backends.memory import MemoryBackend
from cas.backends.posix import PosixCalls
from cas.errors import BackendError
from cas.probe import (
    filesystem_of,
    is_network,
    is_writable,
    probe_directory,
    storage_time,
)


class Calls(PosixCalls):
    """A filesystem on which some calls fail, or which folds case."""

    def __init__(self, failing=(), number=errno.EOPNOTSUPP, *, folds=False, hours_ahead=0):
        self._failing, self._number = failing, number
        self._folds, self._hours = folds, hours_ahead

    def _check(self, name):
        if name in self._failing:
            raise OSError(self._number, os.strerror(self._number))

    def lock_exclusive(self, fd, *, wait):
        self._check("lock")
        super().lock_exclusive(fd, wait=wait)

    def link(self, source, target):
        self._check("link")
        super().link(source, target)

    def fsync(self, fd):
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            self._check("sync")
        super().fsync(fd)

    def modified(self, path):
        folder, name = os.path.split(path)
        found = super().modified(f"{folder}/{name.lower()}" if self._folds else path)
        return found + int(self._hours * 3600e9)


def test_a_usual_filesystem_has_all(tmp_path):
    found = probe_directory(tmp_path)
    assert (found.has_links, found.has_locks, found.syncs_directories) == (True, True, True)
    assert not found.folds_case
    assert abs(found.clock_ahead_s) < 2


@pytest.mark.parametrize(
    ("call", "lacks"),
    [("link", "has_links"), ("lock", "has_locks"), ("sync", "syncs_directories")],
)
def test_a_call_that_a_filesystem_lacks_is_noticed(tmp_path, call, lacks):
    found = probe_directory(tmp_path, calls=Calls([call]))
    for name in ("has_links", "has_locks", "syncs_directories"):
        assert getattr(found, name) == (name != lacks)
    assert os.listdir(tmp_path) == []


def test_a_filesystem_that_folds_case_is_noticed(tmp_path):
    assert probe_directory(tmp_path, calls=Calls(folds=True)).folds_case


def test_the_clock_of_a_file_server_is_compared(tmp_path):
    assert 3590 < probe_directory(tmp_path, calls=Calls(hours_ahead=1)).clock_ahead_s < 3610


@pytest.mark.parametrize("call", ["link", "lock", "sync"])
def test_another_error_is_raised_and_nothing_stays(tmp_path, call):
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BackendError, match="Input/output error"):
        probe_directory(tmp_path, calls=Calls([call], errno.EIO))
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_missing_directory_is_an_error(tmp_path):
    with pytest.raises(BackendError, match="No such file"):
        probe_directory(tmp_path / "missing")


MOUNTS = r"""
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:44 / /data rw shared:1 - ext4 /dev/sdb1 rw
24 23 0:45 / /data/team\040share rw master:2 - nfs4 server:/share rw
25 24 0:46 / /data/team\040share rw - tmpfs none rw
26 22 0:47 / /database rw - btrfs /dev/sdc rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/a", "ext4"), ("/data/x", "ext4"), ("/data/team share/x", "tmpfs"), ("/database", "btrfs")],
)
def test_the_filesystem_of_a_path_is_that_of_the_nearest_newest_mount(
    tmp_path, monkeypatch, path, kind
):
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(cas.probe, "_MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setattr("os.path.realpath", str)
    assert filesystem_of(path) == kind


def test_a_system_without_a_list_of_mounts_tells_none(tmp_path, monkeypatch):
    monkeypatch.setattr(cas.probe, "_MOUNTS", tmp_path / "missing")
    assert filesystem_of("/") is None


def test_network_filesystems_are_known():
    assert is_network("nfs4")
    assert is_network("fuse.sshfs")
    assert not is_network("ext4")
    assert not is_network(None)


def test_a_backend_without_a_service_tells_neither_time_nor_rights(tmp_path):
    for backend in (MemoryBackend(), ObjectStoreBackend(f"local://{tmp_path}")):
        backend.create("cas.json", b"{}")
        assert storage_time(backend) is None
        assert is_writable(backend, "cas.json") is None


def test_asking_a_service_whether_it_can_be_written_writes_nothing(s3, inspector, proxy):
    through = s3.through(proxy)
    backend = ObjectStoreBackend(through.url, through.options())
    backend.create("cas.json", b"{}")
    before = proxy.bodies["PUT"]
    assert is_writable(backend, "cas.json")
    assert inspector.names() == {"cas.json"}
    assert proxy.bodies["PUT"] - before == len(b"{}")
    with proxy.fault(Fault.NO_CONDITIONS, method="PUT", times=None):
        assert is_writable(backend, "cas.json") is None
    with proxy.fault(Fault.EXPIRED_TOKEN, method="PUT", times=None):
        assert is_writable(backend, "cas.json") is False
    assert abs((storage_time(backend) - datetime.now(UTC)).total_seconds()) < 60
    backend.close()


def test_what_a_killed_probe_leaves_goes_with_the_next_writer(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(cas.probe, "_remove", lambda *_: None)
    probe_directory(tmp_path / "tmp")
    assert len(os.listdir(tmp_path / "tmp")) == 2
    with LocalBackend(tmp_path).stage():
        assert len(os.listdir(tmp_path / "tmp")) == 1  # its own
    assert os.listdir(tmp_path / "tmp") == []
