"""Local files with names: `Run.local_path`."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import signal
import subprocess
import sys

import pytest
from places import objects_of, on_one, packs_of

from cas import BlobStore
from cas.backends.posix import PosixCalls
from cas.cache.size import occupied
from cas.errors import CacheUnavailableError
from index import ArtifactStore
from index.errors import UnknownFileError

DATA = bytes(range(256)) * 40

pytestmark = on_one(because="files are lent from verified bytes, wherever these come from")


@pytest.fixture
def cached(place, tmp_path):
    """The place of a store with a cache."""
    return {**place, "cache": tmp_path / "cache"}


@pytest.fixture
def store(cached):
    with ArtifactStore.open(**cached) as opened:
        yield opened


@pytest.fixture
def run(store):
    made = store.session("s").run("r")
    made.put("data/a.h5", b"first")
    made.put("data/a.h5", DATA)
    made.put("data/deep/b.txt", b"b")
    return made


def kept(cached):
    return [path for path in (cached["cache"] / "runcas-v1/files").rglob("*") if path.is_file()]


def test_a_file_has_its_name_and_its_bytes_at_any_version(run):
    path = run.local_path("data/a.h5")
    assert path.name == "a.h5"
    assert path.read_bytes() == DATA
    assert run.local_path("data/a.h5", version=1).read_bytes() == b"first"
    assert run.local_path("data/a.h5", at=1).read_bytes() == b"first"
    assert path.read_bytes() == DATA


def test_a_directory_has_all_its_files(run):
    folder = run.local_path("data")
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {"a.h5", "deep/b.txt"}
    assert {path.name for path in run.local_path("data", at=1).iterdir()} == {"a.h5"}


def test_the_file_is_read_only_and_can_be_mapped(run):
    path = run.local_path("data/a.h5")
    assert path.stat().st_mode & 0o222 == 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[1000:1010] == DATA[1000:1010]


def test_the_next_time_no_blob_is_read(run, place, cached):
    run.local_path("data/a.h5")
    for name in packs_of(objects_of(place)):
        objects_of(place).remove(name)
    assert run.local_path("data/a.h5").read_bytes() == DATA
    assert len(kept(cached)) == 1


def test_kept_bytes_that_were_changed_are_not_lent(run, cached):
    run.local_path("data/a.h5")
    (path,) = kept(cached)
    path.chmod(0o644)
    path.write_bytes(b"changed")
    assert run.local_path("data/a.h5").read_bytes() == DATA


def test_files_in_use_are_not_evicted(place, tmp_path):
    with ArtifactStore.open(**place, cache=tmp_path / "cache", cache_size=100_000) as store:
        run = store.session("s").run("r")
        run.put_many([(f"{number}", os.urandom(30_000)) for number in range(6)])
        with ArtifactStore.open(**place, cache=tmp_path / "cache", cache_size=100_000) as before:
            before.session("s").run("r").local_path("5")
        used = [run.local_path(f"{number}") for number in range(2)]
        run.local_path("2")  # "5" makes way
        assert [path.read_bytes() for path in used] == [
            run.read_bytes(f"{number}") for number in range(2)
        ]
        with pytest.raises(CacheUnavailableError):
            run.local_path("3")


def test_a_file_is_counted_before_it_is_lent_though_another_process_is_counting(
    run, cached, monkeypatch
):
    run.local_path("data/deep/b.txt")
    number = cached["cache"] / "runcas-v1/size"
    before = int(number.read_text())
    lock_exclusive = PosixCalls.lock_exclusive
    with number.open() as counting:
        fcntl.flock(counting, fcntl.LOCK_EX)

        def lock(calls, fd, *, wait):
            if wait:
                fcntl.flock(counting, fcntl.LOCK_UN)  # which ends the wait
            lock_exclusive(calls, fd, wait=wait)

        monkeypatch.setattr(PosixCalls, "lock_exclusive", lock)
        run.local_path("data/a.h5")
    assert int(number.read_text()) == before + occupied(len(DATA))


def test_a_file_counts_as_a_whole_while_it_is_written(run, cached, monkeypatch):
    seen = []
    iter_pieces = BlobStore.iter_pieces

    def pieces(blobs, digest):
        written = (cached["cache"] / "runcas-v1/tmp").iterdir()
        seen.extend(path.stat().st_size for path in written)
        yield from iter_pieces(blobs, digest)

    monkeypatch.setattr(BlobStore, "iter_pieces", pieces)
    assert run.local_path("data/a.h5").read_bytes() == DATA
    assert seen == [len(DATA)]


def test_closing_the_store_takes_the_files_back(cached, run, store):
    path = run.local_path("data/a.h5")
    store.close()
    assert not path.exists()
    assert len(kept(cached)) == 1
    assert not list((cached["cache"] / "runcas-v1/lent").iterdir())


def test_files_of_a_killed_process_are_taken_back(cached, run):
    code = (
        "import sys; from index import ArtifactStore;"
        "run = ArtifactStore.open(sys.argv[1], cache=sys.argv[2]).run('r', session='s');"
        "print(run.local_path('data/a.h5'), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(cached["root"]), str(cached["cache"])]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        path = process.stdout.readline().strip()
        mine = run.local_path("data/a.h5")  # while the other lives, its files stay
        assert os.path.exists(path)
        process.send_signal(signal.SIGKILL)
    with ArtifactStore.open(**cached) as other:
        other.session("s").run("r").local_path("data/a.h5")
    assert not os.path.exists(path)
    assert mine.read_bytes() == DATA


def test_a_filesystem_without_hard_links_gets_copies(run, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    for _ in range(2):
        assert run.local_path("data/a.h5").read_bytes() == DATA


def test_an_unknown_path_is_refused_with_the_closest(run):
    with pytest.raises(UnknownFileError, match=r"data/a\.h5"):
        run.local_path("data/a.h6")


def test_a_cache_that_can_not_be_written_says_so(place, tmp_path):
    (tmp_path / "file").write_text("")
    with ArtifactStore.open(**place, cache=tmp_path / "file") as store:
        run = store.session("s").run("r")
        run.put("a", b"a")
        with pytest.raises(CacheUnavailableError):
            run.local_path("a")


def test_links_are_left_out(run, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "file").write_text("text")
    (work / "link").symlink_to("/etc/passwd")
    run.track(work, prefix="tree")
    assert [path.name for path in run.local_path("tree").iterdir()] == ["file"]
    with pytest.raises(ValueError, match="is a link"):
        run.local_path("tree/link")


def test_a_cache_that_was_deleted_is_made_again(run, cached):
    run.local_path("data/a.h5")
    shutil.rmtree(cached["cache"])
    assert run.local_path("data/a.h5").read_bytes() == DATA
