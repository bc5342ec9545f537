from __future__ import annotations

import errno
import fcntl
import os
import stat

import pytest
from faults import FaultyCalls

from cas.backends.local import LocalBackend
from cas.backends.posix import PosixCalls
from cas.errors import BackendError, StorageFullError
from cas.testing import BackendConformance


class _Files(BackendConformance):
    def stored_names(self, backend):
        return {
            str(path.relative_to(backend.root))
            for path in backend.root.rglob("*")
            if path.is_file() and "tmp" not in path.relative_to(backend.root).parts
        }

    def stored_bytes(self, backend, name):
        return (backend.root / name).read_bytes()


class TestLocalBackend(_Files):
    @pytest.fixture
    def backend(self, tmp_path):
        return LocalBackend(tmp_path / "root")

    def test_opening_touches_nothing(self, tmp_path):
        LocalBackend(tmp_path / "root")
        assert list(tmp_path.iterdir()) == []

    def test_nothing_is_left_in_tmp(self, backend):
        self.publish(backend, "packs/one", b"1")
        with backend.stage() as staged:
            staged.write(b"2")
        backend.create("cas.json", b"3")
        backend.create("cas.json", b"4")
        assert list((backend.root / "tmp").iterdir()) == []

    def test_what_a_dead_writer_left_in_tmp_is_removed_by_the_next_process(self, tmp_path):
        tmp = tmp_path / "root" / "tmp"
        tmp.mkdir(parents=True)
        (tmp / "abandoned").write_bytes(b"x")
        with (tmp / "alive").open("wb") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX)
            self.publish(LocalBackend(tmp_path / "root"), "packs/one", b"1")
            assert [path.name for path in tmp.iterdir()] == ["alive"]

    def test_a_staged_file_is_not_removed_by_another_process_that_starts(self, tmp_path):
        first = LocalBackend(tmp_path / "root")
        with first.stage() as staged:
            staged.write(b"mine")
            self.publish(LocalBackend(tmp_path / "root"), "packs/two", b"2")
            staged.publish("packs/one")
        assert first.read("packs/one") == b"mine"

    def test_modes_are_no_wider_than_the_umask(self, tmp_path):
        before = os.umask(0o077)
        try:
            backend = LocalBackend(tmp_path / "root")
            self.publish(backend, "packs/ab/one", b"1")
        finally:
            os.umask(before)
        for path in (backend.root, *backend.root.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0

    def test_publishing_syncs_the_file_then_renames_then_syncs_the_directory(self, tmp_path):
        calls = FaultyCalls()
        backend = LocalBackend(tmp_path / "root", calls=calls)
        backend.make_directory(str(tmp_path / "root" / "packs" / "ab"))
        with backend.stage() as staged:
            staged.write(b"one")
            calls.calls.clear()
            staged.publish("packs/ab/one")
        names = [name for name, _ in calls.calls]
        assert names[:4] == ["write", "fsync", "rename", "fsync_directory"]
        (_, written), (_, synced), (_, (source, target)), (_, directory) = calls.calls[:4]
        assert written == synced
        assert synced == source
        assert target == str(tmp_path / "root" / "packs" / "ab" / "one")
        assert directory == str(tmp_path / "root" / "packs" / "ab")

    def test_creating_syncs_the_file_then_links_then_syncs_the_directory(self, tmp_path):
        calls = FaultyCalls()
        backend = LocalBackend(tmp_path / "root", calls=calls)
        backend.create("cas.json", b"{}")
        names = [name for name, _ in calls.calls if name in ("fsync", "link", "fsync_directory")]
        assert names[-3:] == ["fsync", "link", "fsync_directory"]

    def test_a_new_directory_is_durable_before_anything_is_in_it(self, tmp_path):
        calls = FaultyCalls()
        backend = LocalBackend(tmp_path / "root", calls=calls)
        self.publish(backend, "packs/ab/one", b"1")
        made = [(n, d) for n, d in calls.calls if n in ("mkdir", "fsync_directory", "rename")]
        root = str(tmp_path / "root")
        assert made[-6:] == [
            ("mkdir", f"{root}/packs"),
            ("fsync_directory", root),
            ("mkdir", f"{root}/packs/ab"),
            ("fsync_directory", f"{root}/packs"),
            made[-2],
            ("fsync_directory", f"{root}/packs/ab"),
        ]
        assert made[-2][0] == "rename"

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_is_its_own_error(self, tmp_path, number):
        calls = FaultyCalls(fail_at=0, error=OSError(number, os.strerror(number)), dead=True)
        calls._only = ("write",)
        backend = LocalBackend(tmp_path / "root", calls=calls)
        with pytest.raises(StorageFullError, match="free some and repeat the call"):
            self.publish(backend, "packs/one", b"1")
        assert self.stored_names(backend) == set()
        assert list((backend.root / "tmp").iterdir()) == []

    def test_short_writes_are_completed(self, tmp_path):
        class ShortWrites(FaultyCalls):
            def write(self, fd, data):
                return super().write(fd, bytes(data[:3]))

        backend = LocalBackend(tmp_path / "root", calls=ShortWrites())
        self.publish(backend, "packs/one", b"0123456789")
        assert self.stored_bytes(backend, "packs/one") == b"0123456789"

    def test_short_reads_are_completed(self, tmp_path):
        class ShortReads(FaultyCalls):
            def pread(self, fd, size, offset):
                return super().pread(fd, min(size, 3), offset)

        backend = LocalBackend(tmp_path / "root", calls=ShortReads())
        self.publish(backend, "packs/one", b"0123456789")
        assert backend.read("packs/one", 1) == b"123456789"

    def test_a_root_that_is_a_file_is_refused_in_one_sentence(self, tmp_path):
        (tmp_path / "root").write_bytes(b"")
        with pytest.raises(BackendError, match="root"):
            self.publish(LocalBackend(tmp_path / "root"), "packs/one", b"1")

    def test_a_failed_sync_is_reported_and_nothing_becomes_visible(self, tmp_path):
        calls = FaultyCalls(fail_at=0, error=OSError(errno.EIO, "I/O error"), dead=True)
        calls._only = ("fsync",)
        backend = LocalBackend(tmp_path / "root", calls=calls)
        with pytest.raises(BackendError, match="I/O error"):
            self.publish(backend, "packs/one", b"1")
        assert self.stored_names(backend) == set()


class Lacking(PosixCalls):
    """A filesystem that lacks some calls."""

    def __init__(self, calls, number):
        for name in calls:
            setattr(self, name, self._refuse)
        self._error = OSError(number, os.strerror(number))

    def _refuse(self, *_args, **_kwargs):
        raise self._error


@pytest.mark.parametrize(
    "lacking",
    [
        (["link"], errno.EPERM),
        (["link"], errno.EXDEV),
        (["lock_exclusive"], errno.ENOSYS),
        (["lock_exclusive", "link"], errno.EOPNOTSUPP),
    ],
    indirect=True,
    ids=["links", "links between directories", "locks", "both"],
)
class TestOnAFilesystemWithout(_Files):
    @pytest.fixture
    def lacking(self, request):
        return Lacking(*request.param)

    @pytest.fixture
    def backend(self, tmp_path, lacking):
        return LocalBackend(tmp_path / "root", calls=lacking)

    def test_what_is_created_is_not_replaced(self, backend):
        assert backend.create("cas.json", b"first")
        assert not backend.create("cas.json", b"second")
        assert backend.read("cas.json") == b"first"
        assert list((backend.root / "tmp").iterdir()) == []


def test_without_links_the_root_is_locked_between_the_look_and_the_name(tmp_path):
    order = []

    class Recorded(Lacking):
        def lock_exclusive(self, fd, *, wait):
            order.append(("lock", os.fstat(fd).st_ino))
            super().lock_exclusive(fd, wait=wait)

        def modified(self, path):
            order.append("look")
            return super().modified(path)

        def rename(self, source, target):
            order.append("name")
            super().rename(source, target)

        def close(self, fd):
            order.append(("close", os.fstat(fd).st_ino))
            super().close(fd)

    backend = LocalBackend(tmp_path / "root", calls=Recorded(["link"], errno.EPERM))
    backend.create("cas.json", b"{}")
    root = backend.root.stat().st_ino
    assert order[-5:-1] == [("lock", root), "look", "name", ("close", root)]


def test_a_directory_that_can_not_be_synced_is_written_all_the_same(tmp_path, monkeypatch):
    original = os.fsync
    synced = []

    def fsync(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        synced.append(fd)
        original(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    backend = LocalBackend(tmp_path / "root")
    assert backend.create("cas.json", b"{}")
    assert synced
    assert backend.read("cas.json") == b"{}"
