"""Reading through URLs: any version, verified, with what is known of it."""

from __future__ import annotations

import asyncio
import errno
import io
import pickle
import subprocess
import sys
from datetime import UTC, datetime

import fsspec
import pytest
from damage import inside, mutate
from events import statements
from fsspec.core import url_to_fs
from places import environment_of, objects_of, packs_of

from cas.packs.pack import EntryKind
from index import ArtifactStore, provenance
from index.errors import DamagedFileError, DanglingFileError
from index.filesystem import CasFileSystem


@pytest.fixture
def history(run):
    """A run with three snapshots: two versions of a table, and a plot."""
    with provenance(agent="planner", phase="planning", node_id="n1"):
        run.put("data/table.csv", b"a,b\n1,2\n", meta={"rows": 1})
    with provenance(agent="engineer", phase="control", node_id="n2"):
        run.put("data/table.csv", b"a,b\n3,4\n")
        run.put("plots/one.png", b"\x89PNG")
    return run


def test_any_version_can_be_read(fs, history):
    assert fs.cat("cas://s/r/data/table.csv") == b"a,b\n3,4\n"
    assert fs.cat("cas://s/r@1/data/table.csv") == b"a,b\n1,2\n"
    assert fs.cat("cas://s/r@v1/data/table.csv") == b"a,b\n1,2\n"
    assert fs.cat(f"cas://sha/{history.file('data/table.csv', version=1).digest}") == b"a,b\n1,2\n"


def test_fsspec_finds_the_filesystem_by_the_url(options, history):
    with fsspec.open("cas://s/r/data/table.csv", "rt", **options) as file:
        assert file.read() == "a,b\n3,4\n"
    found, path = url_to_fs("cas://s/r/data/table.csv", **options)
    assert isinstance(found, CasFileSystem)
    assert path == "s/r/data/table.csv"


def test_info_tells_who_made_the_bytes_and_when(fs, history):
    version = history["data/table.csv"]
    found = fs.info("s/r/data/table.csv")
    assert found["type"] == "file"
    assert found["size"] == 8
    assert found["digest"] == str(version.digest)
    assert (found["agent"], found["phase"], found["node_id"]) == ("engineer", "control", "n2")
    assert found["version"] == 2
    assert found["meta"] == {"rows": 1}
    assert found["created"] == version.created_at == fs.created("s/r/data/table.csv")
    assert found["mtime"] == datetime.fromtimestamp(version.mtime_ns / 1e9, UTC)
    assert fs.modified("s/r/data/table.csv") == found["mtime"]
    assert fs.checksum("s/r/data/table.csv") == fs.ukey("s/r/data/table.csv") == found["digest"]


def test_sessions_runs_and_directories_are_listed(fs, history, store):
    store.session("other").run("x@1").put("a[1]*.txt", b"")
    assert fs.ls("", detail=False) == ["other", "s"]
    assert fs.ls("cas://s", detail=False) == ["s/r"]
    assert fs.ls("other", detail=False) == ["other/x%401"]
    assert fs.ls("other/x%401", detail=False) == ["other/x%401/a%5B1%5D%2A.txt"]
    assert fs.ls("s/r", detail=False) == ["s/r/data", "s/r/plots"]
    assert fs.ls("s/r@1", detail=False) == ["s/r@1/data"]
    assert [entry["type"] for entry in fs.ls("s/r")] == ["directory", "directory"]
    assert fs.ls("s/r/data/table.csv", detail=False) == ["s/r/data/table.csv"]


def test_what_a_listing_returns_can_be_read(fs, options, store):
    run = store.session("s%").run("x@1?")
    names = ["a[1].txt", "b*?", "c%41", "d::e", "caf\udce9", "f#g", "h@2", "é"]
    run.put_many([(f"d/{name}", name.encode(errors="surrogateescape")) for name in names])
    (session,) = fs.ls("", detail=False)
    found = fs.find(session)
    assert len(found) == len(names)
    assert sorted(fs.cat(found).values()) == sorted(
        name.encode(errors="surrogateescape") for name in names
    )
    assert fs.glob(f"{session}/*/d/*") == found
    for url in found:
        with fsspec.open(f"cas://{url}", **options) as file:
            assert file.read() == fs.cat_file(url)


def test_glob_find_walk_and_du_see_the_files_of_a_snapshot(fs, history):
    assert fs.glob("s/r/*/*.csv") == ["s/r/data/table.csv"]
    assert fs.glob("s/r@1/**") == ["s/r@1/data", "s/r@1/data/table.csv"]
    assert fs.find("s/r@1") == ["s/r@1/data/table.csv"]
    assert fs.find("s/r") == ["s/r/data/table.csv", "s/r/plots/one.png"]
    assert fs.find("s/r", withdirs=True) == [
        "s/r/data",
        "s/r/data/table.csv",
        "s/r/plots",
        "s/r/plots/one.png",
    ]
    assert fs.find("s") == fs.find("s/r")
    assert list(fs.walk("s/r")) == [
        ("s/r", ["data", "plots"], []),
        ("s/r/data", [], ["table.csv"]),
        ("s/r/plots", [], ["one.png"]),
    ]
    assert fs.du("s/r") == 12
    assert fs.find("s/r/none") == []
    assert fs.find("s/r/data/table.csv") == ["s/r/data/table.csv"]


def test_parts_of_files_are_read(fs, run):
    data = bytes(range(256)) * 3000
    run.put("a", data)
    assert fs.cat_file("s/r/a", 10, 20) == data[10:20]
    assert fs.cat_file("s/r/a", -5) == data[-5:]
    assert fs.cat_file("s/r/a", None, 7) == data[:7]
    assert fs.head("s/r/a", 3) == data[:3]
    assert fs.tail("s/r/a", 3) == data[-3:]
    run.put("b", b"small")
    assert fs.cat_ranges(
        ["s/r/a", "s/r/b", "s/r/a", "s/r/none"], [700_000, 1, 3, 0], [700_004, 3, 5, 1]
    )[:3] == [data[700_000:700_004], b"ma", data[3:5]]
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["s/r/none"], 0, 1, on_error="raise")


def test_a_file_seeks_and_has_what_fsspec_users_look_for(fs, run):
    data = bytes(range(256)) * 8000
    run.put("large", data)
    run.put("small", data[:99])
    for name, content in (("large", data), ("small", data[:99])):
        with fs.open(f"s/r/{name}") as file:
            assert file.size == len(content)
            assert file.details["digest"] == str(run[name].digest)
            assert file.path == f"s/r/{name}"
            assert not file.writable()
            file.seek(-10, io.SEEK_END)
            assert file.read() == content[-10:]
            file.seek(50)
            into = bytearray(20)
            assert file.readinto(into) == 20
            assert into == content[50:70]


def test_files_are_copied_out(fs, history, tmp_path):
    fs.get("s/r@1", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out" / "data" / "table.csv").read_bytes() == b"a,b\n1,2\n"


def test_links_are_told_from_files(fs, run, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "link").symlink_to("target")
    run.track(work)
    assert fs.info("s/r/link")["type"] == "link"
    assert fs.cat("s/r/link") == b"target"


UNKNOWN = {
    "none": r"no session 'none' in this store; `fs\.ls\('cas://'\)` lists",
    "analysys": "no session 'analysys' in this store; the closest is 'analysis'",
    "analysys/run-7/a": "no session 'analysys' in this store; the closest is 'analysis'",
    "s/none": r"no run 'none' in session 's'; `fs\.ls\('cas://s'\)` lists",
    "s/none/a": "no run 'none' in session 's'; `fs",
    "s/run-8": "no run 'run-8' in session 's'; the closest is 'run-7'",
    "s/run-8/a": "no run 'run-8' in session 's'; the closest is 'run-7'",
    "s/r/data/tabel.csv": "run 'r' has no 'data/tabel.csv'; the closest is 'data/table.csv'",
    "s/r/dta/table.csv": "the closest is 'data/table.csv'",
    "s/r/data/table.csv/below": "the closest is 'data/table.csv'",
    "s/r/zzz": r"run 'r' has no 'zzz'; `fs\.find\('cas://s/r'\)` lists",
    "s/r@9/data/table.csv": "run 'r' has no snapshot 9; its snapshots are 1 to 3",
    "s/r@1/plots/one.png": r"run 'r' has no 'plots/one\.png'; `fs\.find\('cas://s/r@1'\)` lists",
    "s/r@v9/data/table.csv": "no version 9 of 'data/table.csv'; version 2 is the newest",
    "s/r@v9/zzz": r"run 'r' has no 'zzz'; `fs\.find\('cas://s/r'\)` lists",
    f"sha/{'0' * 64}": "no file has these bytes",
}


@pytest.mark.parametrize(("url", "sentence"), UNKNOWN.items(), ids=str)
def test_what_does_not_exist_is_not_found_and_the_closest_is_named(
    fs, history, store, url, sentence
):
    store.session("s").run("run-7").put("a", b"")
    store.session("analysis").run("r").put("a", b"")
    for look in (fs.info, fs.ls, fs.cat_file, fs.open, fs.checksum, fs.head):
        with pytest.raises(FileNotFoundError, match=sentence) as raised:
            look(url)
        assert raised.value.filename == f"cas://{url}"
    if "@" not in url and url.count("/") > 1:
        with pytest.raises(FileNotFoundError, match=sentence):
            fs.rm(url)
    assert not fs.exists(url)
    assert not fs.isfile(url)
    assert not fs.isdir(url)


def test_whether_something_is_there_is_answered_without_looking_for_the_closest(
    fs, history, monkeypatch
):
    monkeypatch.setattr("index.filesystem.errors._sentence", None)
    for url in UNKNOWN:
        assert not fs.exists(url)
        assert not fs.isfile(url)
        assert not fs.isdir(url)


DIRECTORIES = ("", "s", "s/r", "s/r/data", "s/r@1", "s/r@1/data")


@pytest.mark.parametrize("url", DIRECTORIES)
def test_a_directory_is_no_file_to_read(fs, history, url):
    for look in (fs.cat_file, fs.open, fs.checksum, fs.modified):
        with pytest.raises(IsADirectoryError, match="give the path of a file in it"):
            look(url)


@pytest.mark.parametrize("mode", ["q", "", "b", "r+b", "rw", "br", "a+"])
def test_a_mode_that_makes_no_sense_is_refused(fs, history, mode):
    with pytest.raises(ValueError, match="mode is r, w, x or a"):
        fs.open("s/r/data/table.csv", mode)


def test_a_url_that_is_no_address_is_refused(fs, history):
    for url in ("s/r@é/a", "sha/12", "s/r/../a"):
        with pytest.raises(ValueError, match=r"snapshot|digest|\.\."):
            fs.info(url)


def test_a_store_that_does_not_exist_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="no store"):
        CasFileSystem(store=tmp_path / "none").ls("")


def test_other_sessions_do_not_exist_for_a_filesystem_of_one(options, store):
    theirs = store.session("theirs").run("r")
    digest = theirs.put("a", b"secret").digest
    store.session("mine").run("r").put("b", b"mine")
    mine = CasFileSystem(**options, session="mine")
    assert mine.ls("", detail=False) == ["mine"]
    assert mine.find("") == ["mine/r/b"]
    for url in ("theirs", "theirs/r", "theirs/r/a", f"sha/{digest}", f"mine/{digest}/a"):
        with pytest.raises(FileNotFoundError) as raised:
            mine.info(url)
        assert "secret" not in str(raised.value)
        assert not mine.exists(url)
    for write in (mine.pipe_file, lambda url, _: mine.cp_file(url, "mine/r/c")):
        with pytest.raises(FileNotFoundError):
            write("theirs/r/a", b"")
    with pytest.raises(FileNotFoundError):
        mine.rm("theirs/r/a")


READS = {
    "cat_file": lambda fs, name: fs.cat_file(name),
    "cat of many": lambda fs, name: fs.cat([name] * 2 + [f"s/r/{each}" for each in range(20)]),
    "open": lambda fs, name: fs.open(name).read(),
    "a part": lambda fs, name: fs.cat_file(name, 10, 20),
    "append": lambda fs, name: fs.open(name, "ab"),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("size", [5120, 3 << 20])
def test_damage_is_found_and_not_served(fs, run, place, size, read):
    content = bytes(range(256)) * (size // 256)
    run.put_many([("a", content), *((f"{number}", b"%d" % number * 200) for number in range(20))])
    run.put("a", content)
    mutate(objects_of(place), inside(EntryKind.BLOB))
    with pytest.raises(DamagedFileError, match="'a' can't be read") as raised:
        read(fs, "s/r/a")
    assert isinstance(raised.value, OSError)
    assert raised.value.errno == errno.EIO
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.errno) == (str(raised.value), errno.EIO)


def test_missing_bytes_are_an_error_that_no_library_takes_for_a_missing_file(fs, run, place):
    run.put("a", bytes(range(256)) * 20)
    objects = objects_of(place)
    for name in packs_of(objects):
        objects.remove(name)
    with pytest.raises(DanglingFileError) as raised:
        fs.cat_file("s/r/a")
    assert isinstance(raised.value, OSError)
    assert not isinstance(raised.value, FileNotFoundError)


def test_a_listing_of_a_directory_costs_the_same_statements_however_large_it_is(fs, run):
    run.put_many([(f"few/{number}", b"") for number in range(3)])
    run.put_many([(f"many/{number}", b"") for number in range(300)])
    counts = []
    for directory in ("few", "many"):
        with statements(fs.store) as seen:
            fs.ls(f"s/r/{directory}")
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_it_works_off_the_event_loop(fs, history):
    async def read():
        return await asyncio.to_thread(fs.cat_file, "s/r@1/data/table.csv")

    assert asyncio.run(read()) == b"a,b\n1,2\n"


def test_simplecache_reads_through_it(options, history, tmp_path):
    with fsspec.open(
        "simplecache::cas://s/r@1/data/table.csv",
        cas=options,
        simplecache={"cache_storage": str(tmp_path / "cache")},
    ) as file:
        assert file.read() == b"a,b\n1,2\n"


def test_the_store_is_found_as_the_command_finds_it(history, place, tmp_path, monkeypatch):
    for name in ("CAS_STORE", "CAS_INDEX", "CAS_BLOBS"):
        monkeypatch.delenv(name, raising=False)
    ArtifactStore.open(tmp_path / "project" / ".cas").session("s").run("r").put("a", b"found")
    (tmp_path / "project" / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "project" / "deep")
    assert CasFileSystem().cat("s/r/a") == b"found"
    named = {"CAS_STORE": str(place["root"])} if "root" in place else environment_of(place)
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert CasFileSystem(skip_instance_cache=True).cat("s/r/plots/one.png") == b"\x89PNG"


def test_the_command_does_not_import_the_filesystem(tmp_path):
    code = (
        "import sys; from index.cli.commands import cas; import index.api.store;"
        " sys.exit(any(name.startswith('index.filesystem') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
