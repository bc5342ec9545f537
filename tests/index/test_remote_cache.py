"""A store with blobs in S3 and a cache; the tests count its requests."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cached import kept
from fault_proxy import Fault
from trees import contents, read, write

from cas.cache.cache import DEFAULT_CACHE_SIZE
from cas.errors import CacheUnavailableError
from index import ArtifactStore
from index.cli import main
from index.domain.units import parse_size
from index.errors import UnknownRunError

pytestmark = pytest.mark.usefixtures("equal_chunks")

MIB = 1 << 20


@pytest.fixture
def place(s3, proxy):
    return s3.through(proxy)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def open_store(tmp_path, place, root):
    def open_store(**arguments):
        given = {
            "index": f"sqlite:///{tmp_path}/index.db",
            "blobs": place.url,
            "storage_options": place.options(),
            "cache": root,
            **arguments,
        }
        return ArtifactStore.open(**given)

    return open_store


@pytest.fixture
def tree():
    draw = random.Random(6)
    files = {f"data/{n // 100}/{n}.bin": draw.randbytes(4_000) for n in range(2_500)}
    return files | {"logs/long.log": draw.randbytes(13 * MIB + 7), "empty": b"", "again": b"1"}


@pytest.fixture
def run(open_store, work, tree):
    write(work, tree)
    with open_store() as store:
        run = store.session("s").run("r")
        run.track(work)
        yield run


def test_a_restore_fetches_once_in_few_requests_and_then_asks_nothing(
    run, open_store, proxy, root, tmp_path, tree
):
    with proxy.counting() as first:
        run.restore(tmp_path / "first")
    assert set(first) == {"GET"}
    assert first["GET"] <= 2 + 3  # 10 MB of small files, and the large one
    assert len(kept(root)) == first["GET"]
    with open_store() as store:
        again = store.session("s").run("r")
        with proxy.counting() as second:
            again.restore(tmp_path / "second")
            assert contents(again) == tree
            with again.open("logs/long.log") as stream:
                stream.seek(7 * MIB)
                assert stream.read(5) == tree["logs/long.log"][7 * MIB : 7 * MIB + 5]
                stream.seek(0)
                assert stream.read() == tree["logs/long.log"]
    assert second == {}
    assert read(tmp_path / "first") == read(tmp_path / "second") == tree


def test_a_few_bytes_of_a_large_file_fetch_one_chunk_and_the_same_again_none(run, proxy, tree):
    for expected in ({"GET": 1}, {}):
        with proxy.counting() as requests, run.open("logs/long.log") as stream:
            stream.seek(5 * MIB + 10)
            assert stream.read(20) == tree["logs/long.log"][5 * MIB + 10 :][:20]
        assert requests == expected


def test_reading_on_in_a_large_file_takes_few_requests(run, proxy, tree):
    with proxy.counting() as requests, run.open("logs/long.log") as stream:
        assert b"".join(iter(lambda: stream.read(50_000), b"")) == tree["logs/long.log"]
    assert requests == {"GET": 5}  # 1, 1, 2 and 4 MiB, then the rest


def test_whatever_becomes_of_the_cache_the_bytes_are_right(run, proxy, root, tmp_path, tree):
    run.restore(tmp_path / "first")
    files = kept(root)
    for number, file in enumerate(files):
        data = file.read_bytes()
        if number % 3 == 0:
            file.write_bytes(bytes(len(data)))
        elif number % 3 == 1:
            file.write_bytes(data[: len(data) // 2])
        else:
            file.unlink()
    with proxy.counting() as requests:
        run.restore(tmp_path / "second")
    assert read(tmp_path / "second") == tree
    assert requests["GET"] <= len(files)
    with proxy.counting() as requests:
        run.restore(tmp_path / "third")
    assert requests == {}


def test_what_was_damaged_on_the_way_is_fetched_again_before_it_is_kept(run, proxy, tmp_path, tree):
    with proxy.fault(Fault.CORRUPTED, method="GET", times=2):
        run.restore(tmp_path / "first")
    run.restore(tmp_path / "second")
    with proxy.counting() as requests:
        run.restore(tmp_path / "third")
    assert read(tmp_path / "first") == read(tmp_path / "third") == tree
    assert requests == {}


def test_a_session_reads_nothing_of_another_however_warm_the_cache_is(run, open_store, tmp_path):
    run.restore(tmp_path / "first")
    with open_store() as store:
        other = store.session("other").run("r")
        with pytest.raises(UnknownRunError):
            other.read_bytes("again")
        with pytest.raises(LookupError):
            store.session("other").read_bytes(run.file("again").digest)


def test_stats_tell_of_the_cache(run, open_store, root):
    run.read_bytes("again")
    with open_store(cache_size=5 * MIB) as store:
        stats = store.stats()
    assert (stats.cache_at, stats.cache_limit_bytes) == (str(root), 5 * MIB)
    assert stats.cache_bytes == 4_096
    with open_store(cache=None) as store:
        assert store.stats().cache_at is None


def test_a_cache_in_the_work_directory_is_not_recorded(open_store, work):
    write(work, {"a": b"1"})
    with open_store(cache=work / "cache") as store:
        run = store.session("s").run("r")
        run.track(work)
        run.read_bytes("a")
        assert not run.track(work).added
        assert [version.path for version in run.files()] == ["a"]


def test_a_directory_that_cannot_be_used_is_refused_when_the_store_is_opened(open_store, work):
    write(work, {"a": b"1"})
    with pytest.raises(CacheUnavailableError, match="other files, such as 'a'"):
        open_store(cache=work)


def test_local_blobs_are_not_cached_and_the_cache_is_not_even_imported(tmp_path):
    code = (
        "import sys; from index import ArtifactStore\n"
        "with ArtifactStore.open(sys.argv[1], cache=sys.argv[2]) as store:\n"
        "    run = store.session('s').run('r')\n"
        "    run.put('a', b'1')\n"
        "    assert run.read_bytes('a') == b'1'\n"
        "assert not {'cas.cache.cache', 'cas.cache.size', 'cas.cache.extents'} & set(sys.modules)"
    )
    arguments = [tmp_path / "store", tmp_path / "cache"]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    assert not (tmp_path / "cache").exists()


class TestTheCommand:
    @pytest.fixture
    def cas(self, place, tmp_path, monkeypatch, capfd):
        """Run the command in-process with credentials in their usual places."""
        found = {"AWS_ACCESS_KEY_ID": place.key, "AWS_SECRET_ACCESS_KEY": place.secret}
        for name, value in (found | {"AWS_ENDPOINT_URL": place.endpoint}).items():
            if value is not None:
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        for name in ("CAS_STORE", "CAS_INDEX", "CAS_BLOBS", "CAS_CACHE", "CAS_CACHE_SIZE"):
            monkeypatch.delenv(name, raising=False)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")

        def cas(*arguments, code=0, **environment):
            with monkeypatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                with pytest.raises(SystemExit) as done:
                    main([str(argument) for argument in arguments])
            out, err = capfd.readouterr()
            assert done.value.code == code, err
            return out + err

        return cas

    def test_a_cache_is_noted_in_the_file_that_tells_where_the_store_is(
        self, cas, place, proxy, tmp_path, work, monkeypatch
    ):
        write(work, {"a": b"1"})
        given = ("--index", "sqlite:///index.db", "--blobs", place.url)
        cache = ("--cache", "~/kept", "--cache-size", "20MB")
        cas("init", *given, *cache)
        assert (tmp_path / "here" / "cas.toml").read_text() == (
            f'index = "sqlite:///index.db"\nblobs = "{place.url}"\n'
            'cache = "~/kept"\ncache_size = "20MB"\n'
        )
        cas("init", *given)
        cas("init", *given, *cache)
        assert "names another cache" in cas("init", *given, "--cache", "other", code=2)
        cas("track", work, "--run", "r")
        (tmp_path / "here" / "deep").mkdir()
        monkeypatch.chdir(tmp_path / "here" / "deep")
        cas("restore", "--to", "first")
        with proxy.counting() as requests:
            cas("restore", "--to", "second")
        assert requests == {"GET": 2}  # cas.json and index.json
        told = cas("stats")
        assert f"{tmp_path}/home/kept" in told
        assert "cache_limit_bytes\t20000000\n" in told
        assert json.loads(cas("stats", "--json"))["cache_bytes"] == 4_096
        with proxy.counting() as requests:
            assert "cache_at" not in cas("--no-cache", "stats")
            cas("--no-cache", "restore", "--to", "third")
        # Each of the two commands reads cas.json and index.json; the second one the bytes, too.
        assert requests == {"GET": 5}

    def test_options_and_environment_go_before_it(self, cas, place, tmp_path, work):
        write(work, {"a": b"1"})
        cas("init", "--index", "sqlite:///index.db", "--blobs", place.url, "--cache", "noted")
        cas("track", work, "--run", "r")
        cas("cat", "a", CAS_CACHE="told", CAS_CACHE_SIZE="1GiB")
        cas("--cache", "given", "cat", "a", CAS_CACHE="told2")
        here = tmp_path / "here"
        assert {path.name for path in here.iterdir()} >= {"told", "given"}
        assert not (here / "told2").exists()
        assert kept(here / "told")
        assert kept(here / "given")
        assert kept(here / "noted") == []
        found = json.loads(cas("stats", "--json", CAS_CACHE="told", CAS_CACHE_SIZE="1GiB"))
        assert found["cache_limit_bytes"] == 1 << 30
        found = json.loads(cas("--cache-size", "7K", "stats", "--json"))
        assert (Path(found["cache_at"]).name, found["cache_limit_bytes"]) == ("noted", 7 * 1024)

    def test_a_store_on_disk_is_as_it_was_whatever_is_said_of_caches(self, cas, tmp_path, work):
        write(work, {"a": b"1"})
        cas("track", work, "--run", "r", CAS_CACHE=str(tmp_path / "kept"))
        assert "cache_at" not in cas("stats", CAS_CACHE=str(tmp_path / "kept"))
        assert not (tmp_path / "kept").exists()

    def test_what_is_wrong_with_it_is_one_sentence(self, cas, place, tmp_path, work):
        write(work, {"a": b"1"})
        given = ("--index", "sqlite:///index.db", "--blobs", place.url)
        told = cas(*given, "--cache", work, "init", code=5)
        assert told.count("\n") == 1
        assert f"the cache in {work} can't be used: it holds other files" in told
        assert "is not a size" in cas(*given, "--cache-size", "much", "init", code=2)
        assert "is not a size" in cas("init", *given, "--cache-size", "much", code=2)
        assert "goes with --index" in cas("init", "--cache", "kept", code=2)
        config = tmp_path / "here" / "cas.toml"
        config.write_text(
            f'index = "sqlite:///x.db"\nblobs = "{place.url}"\ncache = "c"\ncache_size = "1 0"\n'
        )
        assert "'1 0' is not a size" in cas("ls", code=2)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("10GiB", DEFAULT_CACHE_SIZE),
        ("10G", DEFAULT_CACHE_SIZE),
        ("500MB", 500_000_000),
        ("1.5 kib", 1536),
        ("1e", None),
        ("", None),
        ("0", None),
        ("-1", None),
        ("10 GiB more", None),
        ("\u0661G", None),
        ("12iB", None),
        ("7B", 7),
        ("0.1B", None),
        ("9" * 400, None),
    ],
)
def test_sizes_are_read_as_people_write_them(text, size):
    if size is None:
        with pytest.raises(ValueError, match="write it as 10GiB"):
            parse_size(text)
    else:
        assert parse_size(text) == size
