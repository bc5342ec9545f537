"""The directory of the cache: what is kept, what is evicted, and what can happen to it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
from cached import kept, left_half_written, size_on_disk
from faults import FaultyCalls

from cas.backends.posix import PosixCalls
from cas.cache.cache import DEFAULT_CACHE_SIZE, PackCache
from cas.digest import Digest
from cas.errors import CacheUnavailableError

KIB = 1 << 10
PACK = Digest.of(b"pack")
OTHER = Digest.of(b"another")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cache(root):
    return PackCache(root)


def read(cache, pack, start, size):
    extent = cache.extents(pack).find(start, size)
    return None if extent is None else cache.read(extent, start, start + size)


def used_at(path, second):
    os.utime(path, (second, second))


class TestKeeping:
    def test_what_is_kept_is_read_back_whole_or_in_part(self, cache):
        cache.keep(PACK, 100, b"0123456789")
        assert read(cache, PACK, 100, 10) == b"0123456789"
        assert read(cache, PACK, 103, 4) == b"3456"
        assert read(cache, PACK, 99, 2) is None
        assert read(cache, PACK, 105, 6) is None
        assert read(cache, OTHER, 100, 10) is None

    def test_another_process_finds_it(self, cache, root):
        cache.extents(PACK)
        other = PackCache(root)
        other.keep(PACK, 0, b"theirs")
        assert read(cache, PACK, 0, 6) == b"theirs"
        assert read(PackCache(root), PACK, 0, 6) == b"theirs"

    def test_nothing_is_synced_and_nothing_is_left_half_written(self, root):
        calls = FaultyCalls()
        cache = PackCache(root, calls=calls)
        cache.keep(PACK, 0, b"x" * 100_000)
        assert not [name for name, _ in calls.calls if name.startswith("fsync")]
        assert left_half_written(root) == []

    def test_only_the_owner_can_look_into_a_directory_that_was_made_for_it(self, root, cache):
        assert stat.S_IMODE(root.stat().st_mode) & 0o077 == 0

    def test_backup_programs_are_told_to_pass_it_by(self, root, cache):
        tag = (root / "CACHEDIR.TAG").read_bytes()
        assert tag.startswith(b"Signature: 8a477f597d28d172789f06886806bc55")

    def test_short_writes_are_completed(self, root):
        class ShortWrites(PosixCalls):
            def write(self, fd, data):
                return super().write(fd, data[:3])

        cache = PackCache(root, calls=ShortWrites())
        cache.keep(PACK, 0, b"0123456789")
        assert read(PackCache(root), PACK, 0, 10) == b"0123456789"

    def test_an_empty_part_is_not_kept(self, root, cache):
        cache.keep(PACK, 7, b"")
        assert kept(root) == []

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_limit_that_allows_nothing_is_refused(self, root, limit):
        with pytest.raises(ValueError, match="give a larger size"):
            PackCache(root, limit=limit)


class TestTheLimit:
    def test_what_was_used_least_recently_goes(self, root):
        cache = PackCache(root, limit=100 * KIB)
        for number in range(5):
            cache.keep(PACK, number * 20_000, bytes(20_000))
        for number, path in enumerate(sorted(kept(root))):
            used_at(path, 1_000 + number)
        first = cache.extents(PACK).find(0, 1)
        assert cache.read(first, 0, 1) == b"\0"  # so the oldest becomes the newest
        cache.keep(OTHER, 0, bytes(20_000))
        names = {path.name for path in kept(root)}
        assert "0-20000" in names  # both the one that was read and that of OTHER
        assert len(kept(root)) == 4
        assert "20000-40000" not in names
        assert "40000-60000" not in names
        assert size_on_disk(root) <= 90 * KIB

    def test_one_process_never_exceeds_it(self, root):
        cache = PackCache(root, limit=256 * KIB)
        for number in range(100):
            cache.keep(PACK, number * 10_000, bytes(10_000))
            assert size_on_disk(root) <= 256 * KIB
        assert size_on_disk(root) > 128 * KIB

    def test_small_files_count_for_the_blocks_that_they_take(self, root):
        cache = PackCache(root, limit=40 * KIB)
        for number in range(50):
            cache.keep(PACK, number, b"x")
        assert len(kept(root)) <= 10

    def test_what_is_larger_than_the_limit_is_not_kept(self, root):
        cache = PackCache(root, limit=100 * KIB)
        cache.keep(OTHER, 0, b"small")
        cache.keep(PACK, 0, bytes(101 * KIB))
        assert [path.name for path in kept(root)] == ["0-5"]

    def test_files_that_were_there_before_count(self, root):
        PackCache(root).keep(PACK, 0, bytes(90 * KIB))
        used_at(kept(root)[0], 1_000)
        PackCache(root, limit=100 * KIB).keep(OTHER, 0, bytes(20 * KIB))
        assert [path.parent.name for path in kept(root)] == [str(OTHER)]

    def test_what_could_not_be_written_is_not_counted(self, root):
        calls = FaultyCalls(error=OSError(errno.EIO, "I/O error"), dead=True, only=("rename",))
        cache = PackCache(root, calls=calls)
        calls._fail_at = 0
        for _ in range(5):
            cache.keep(PACK, 0, bytes(50 * KIB))
        assert cache.used == 0

    def test_where_nothing_can_be_removed_nothing_more_is_kept(self, root):
        calls = FaultyCalls(error=OSError(errno.EPERM, "no"), dead=True, only=("unlink",))
        cache = PackCache(root, limit=100 * KIB, calls=calls)
        calls._fail_at = 0
        for number in range(20):
            cache.keep(PACK, number * 10_000, bytes(10_000))
        assert len(kept(root)) == 8
        assert cache.used == size_on_disk(root) == 96 * KIB

    def test_a_link_in_place_of_the_number_is_not_written_through(self, root, cache, tmp_path):
        (tmp_path / "precious").write_text("precious")
        (root / "runcas-v1" / "size").symlink_to(tmp_path / "precious")
        cache.keep(PACK, 0, b"x")
        assert (tmp_path / "precious").read_text() == "precious"
        assert kept(root) == []

    @pytest.mark.parametrize("noted", [b"", b"nonsense", b"-0000000000000000001\n", b"9" * 19])
    def test_a_size_that_cannot_be_read_is_counted_anew(self, root, cache, noted):
        cache.keep(PACK, 0, bytes(50 * KIB))
        (root / "runcas-v1" / "size").write_bytes(noted)
        PackCache(root).keep(OTHER, 0, b"x")
        assert PackCache(root).used == 52 * KIB + 4 * KIB

    def test_a_wrong_size_evicts_nothing_that_there_is_room_for(self, root, cache):
        cache.keep(PACK, 0, b"x")
        (root / "runcas-v1" / "size").write_bytes(b"%020d\n" % (DEFAULT_CACHE_SIZE + 1))
        PackCache(root).keep(OTHER, 0, b"x")
        assert len(kept(root)) == 2
        assert PackCache(root).used == 8 * KIB

    def test_nobody_waits_for_another_process_that_evicts(self, root, cache):
        cache.keep(PACK, 0, b"x")
        with (root / "runcas-v1" / "size").open("rb") as size:
            fcntl.flock(size, fcntl.LOCK_EX)
            cache.keep(OTHER, 0, b"y")
            assert read(cache, OTHER, 0, 1) == b"y"
            assert cache.used == 4 * KIB
        cache.keep(OTHER, 10, b"z")
        assert cache.used == 12 * KIB

    def test_what_dead_writers_left_is_evicted_like_everything_else(self, root):
        cache = PackCache(root, limit=100 * KIB)
        (root / "runcas-v1" / "tmp" / "left").write_bytes(bytes(95 * KIB))
        used_at(root / "runcas-v1" / "tmp" / "left", 1_000)
        cache.keep(PACK, 0, bytes(20 * KIB))
        assert left_half_written(root) == []
        assert len(kept(root)) == 1

    def test_what_lies_behind_a_link_is_neither_counted_nor_removed(self, root, tmp_path):
        cache = PackCache(root, limit=100 * KIB)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "0-90000").write_bytes(bytes(90_000))
        used_at(elsewhere / "0-90000", 1_000)
        (root / "runcas-v1" / "packs" / "ab").symlink_to(elsewhere)
        (root / "runcas-v1" / "packs" / "cd").mkdir()
        (root / "runcas-v1" / "packs" / "cd" / "0-9").symlink_to(elsewhere / "0-90000")
        for number in range(10):
            cache.keep(PACK, number * 20_000, bytes(20_000))
        assert (elsewhere / "0-90000").exists()
        assert size_on_disk(root) <= 100 * KIB + 90_000

    def test_an_eviction_removes_no_more_at_once_than_fits_into_memory(self, root, monkeypatch):
        monkeypatch.setattr("cas.cache.size._EVICTED_AT_ONCE", 3)
        cache = PackCache(root, limit=80 * KIB)
        for number in range(20):
            cache.keep(PACK, number, b"x")
            used_at(next(p for p in kept(root) if p.name.startswith(f"{number}-")), 1_000 + number)
        cache.keep(PACK, 100, b"x")
        assert len(kept(root)) == 18
        assert {"0-1", "1-2", "2-3"}.isdisjoint(path.name for path in kept(root))

    def test_an_evicted_file_stays_readable_for_who_reads_it(self, root):
        class EvictedMeanwhile(PosixCalls):
            def size(self, fd):
                found = super().size(fd)
                for path in kept(root):
                    path.unlink()
                return found

        PackCache(root).keep(PACK, 0, b"0123456789")
        cache = PackCache(root, calls=EvictedMeanwhile())
        assert read(cache, PACK, 0, 10) == b"0123456789"
        assert read(cache, PACK, 0, 10) is None


class TestADiskThatFillsUp:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
    @pytest.mark.parametrize(
        "name", ["write", "rename", "create_exclusive", "open_shared", "mkdir"]
    )
    def test_nothing_is_kept_and_nothing_is_raised(self, root, number, name, caplog):
        PackCache(root)
        calls = FaultyCalls(error=OSError(number, os.strerror(number)), dead=True, only=(name,))
        cache = PackCache(root, calls=calls)
        calls._fail_at = 0
        with caplog.at_level(logging.WARNING, logger="cas.cache"):
            cache.keep(PACK, 0, b"0123456789")
            cache.keep(OTHER, 0, b"0123456789")
        assert calls.fired
        assert [record.getMessage().split(": ")[0] for record in caplog.records] == [
            f"the cache in {root} keeps no more for now"
        ]
        assert left_half_written(root) == []
        assert kept(root) == []
        assert PackCache(root).used <= 8 * KIB

    def test_a_full_disk_is_no_reason_not_to_open(self, root):
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        calls = FaultyCalls(fail_at=0, error=error, dead=True, only=("mkdir", "create_exclusive"))
        PackCache(root, calls=calls).keep(PACK, 0, b"x")
        assert not root.exists()

    def test_the_cache_is_not_what_fills_it(self, root):
        class AlmostFull(PosixCalls):
            free = 0

            def space(self, fd):
                return self.free, 100 << 30

        calls = AlmostFull()
        cache = PackCache(root, calls=calls)
        calls.free = (1 << 30) + 5
        cache.keep(PACK, 0, b"0123456789")
        assert kept(root) == []
        calls.free = (1 << 30) + 10
        cache.keep(PACK, 0, b"0123456789")
        assert len(kept(root)) == 1


class TestDamage:
    @pytest.fixture
    def file(self, root, cache):
        cache.keep(PACK, 0, b"0123456789")
        (found,) = kept(root)
        return found

    @pytest.mark.parametrize("data", [b"", b"01234", b"0123456789x"])
    def test_a_file_of_another_size_than_its_name_says_is_removed(self, cache, file, data):
        file.write_bytes(data)
        assert read(cache, PACK, 0, 10) is None
        assert not file.exists()
        cache.keep(PACK, 0, b"0123456789")
        assert read(cache, PACK, 0, 10) == b"0123456789"

    def test_a_file_that_cannot_be_read_is_as_good_as_gone(self, root, file):
        calls = FaultyCalls(error=OSError(errno.EIO, "I/O error"), dead=True, only=("pread",))
        cache = PackCache(root, calls=calls)
        calls._fail_at = 0
        assert read(cache, PACK, 0, 10) is None
        assert not file.exists()

    def test_whatever_else_lies_there_is_passed_over(self, root, cache, file):
        folder = file.parent
        os.mkfifo(folder / "0-20")
        (folder / "0-30").mkdir()
        (folder / "0-40").symlink_to("/etc/passwd")
        (folder / "0-50x").write_bytes(b"")
        (folder / "0-\u0661\u0662").write_bytes(bytes(12))
        (folder / "9-3").write_bytes(b"")
        assert read(cache, PACK, 0, 10) == b"0123456789"
        assert read(cache, PACK, 0, 12) is None

    def test_the_directory_may_be_deleted_at_any_time(self, root, cache):
        cache.keep(PACK, 0, b"0123456789")
        extent = cache.extents(PACK).find(0, 10)
        shutil.rmtree(root)
        assert cache.read(extent, 0, 10) is None
        assert cache.extents(PACK).find(0, 10) is None
        assert cache.used == 0
        cache.keep(PACK, 0, b"0123456789")
        assert read(cache, PACK, 0, 10) == b"0123456789"
        assert cache.used == 4 * KIB
        shutil.rmtree(root / "runcas-v1" / "packs" / str(PACK)[:2])
        cache.keep(PACK, 0, b"0123456789")
        assert read(cache, PACK, 0, 10) == b"0123456789"


class TestADirectoryThatCannotBeUsed:
    def test_a_file_in_its_place_is_refused(self, root):
        root.write_bytes(b"")
        with pytest.raises(CacheUnavailableError, match="Not a directory") as caught:
            PackCache(root)
        assert str(root) in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
    def test_one_that_cannot_be_written_to_is_refused_when_it_is_opened(self, root, number):
        PackCache(root)
        error = OSError(number, os.strerror(number))
        calls = FaultyCalls(fail_at=0, error=error, dead=True, only=("create_exclusive",))
        with pytest.raises(CacheUnavailableError, match="do without a cache"):
            PackCache(root, calls=calls)

    def test_one_that_holds_other_files_is_refused_and_left_alone(self, root):
        root.mkdir()
        (root / "thesis.tex").write_text("precious")
        with pytest.raises(CacheUnavailableError, match=r"other files, such as 'thesis\.tex'"):
            PackCache(root)
        assert [path.name for path in root.iterdir()] == ["thesis.tex"]

    def test_one_that_was_deleted_by_half_is_made_again(self, root, cache):
        (root / "CACHEDIR.TAG").unlink()
        (root / "runcas-v1" / "tmp").rmdir()
        PackCache(root).keep(PACK, 0, b"x")
        assert len(kept(root)) == 1
        assert (root / "CACHEDIR.TAG").exists()

    def test_a_link_that_leads_nowhere_is_refused(self, root):
        root.symlink_to("nowhere/at/all")
        with pytest.raises(CacheUnavailableError, match="No such file"):
            PackCache(root)

    def test_one_of_an_earlier_or_later_release_or_a_volume_of_its_own_is_fine(self, root):
        (root / "lost+found").mkdir(parents=True)
        PackCache(root)
        (root / "runcas-v2").mkdir()
        PackCache(root).keep(PACK, 0, b"x")
        assert len(kept(root)) == 1


def test_threads_keep_read_and_evict_at_once(root):
    cache = PackCache(root, limit=64 * KIB)
    failures = []

    def work(seed):
        try:
            for turn in range(200):
                pack = Digest.of(b"%d" % (turn % 7))
                start = turn * 31 % 50_000
                data = b"%d-%d" % (turn % 7, start) * 100
                cache.keep(pack, start, data)
                found = read(cache, pack, start, len(data))
                assert found in (None, data)
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert size_on_disk(root) <= 64 * KIB + 4 * 4 * KIB


def test_listings_in_memory_are_bounded(root, monkeypatch):
    monkeypatch.setattr("cas.cache.cache._LISTED_PACKS", 3)
    cache = PackCache(root)
    packs = [Digest.of(b"%d" % number) for number in range(10)]
    for pack in packs:
        cache.keep(pack, 0, b"x")
        assert read(cache, pack, 0, 1) == b"x"
    assert len(cache._listed) == 3
    assert all(read(cache, pack, 0, 1) == b"x" for pack in packs)


def test_a_relative_directory_is_taken_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = PackCache("here")
    monkeypatch.chdir("/")
    cache.keep(PACK, 0, b"x")
    assert len(kept(tmp_path / "here")) == 1
    assert Path(cache.root) == tmp_path / "here"
