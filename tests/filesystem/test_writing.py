"""Writing through URLs: a version on close, or nothing."""

from __future__ import annotations

import gzip
import io
from threading import Thread

import fsspec
import pytest

from index import ArtifactStore, provenance
from index.errors import PastIsReadOnlyError
from index.filesystem import CasFileSystem


class BrokenError(Exception):
    pass


def fail():
    raise BrokenError


def write_and_raise(opened, data):
    with opened as file:
        file.write(data)
        raise BrokenError


def test_closing_a_file_records_a_version_with_the_provenance_of_its_scope(fs, run):
    with provenance(agent="engineer", phase="control", node_id="n"), fs.open("s/r/a", "wb") as file:
        file.write(b"one")
    version = run["a"]
    assert (version.agent, version.phase, version.node_id) == ("engineer", "control", "n")
    assert run.read_bytes("a") == b"one"


def test_a_file_has_the_provenance_of_the_scope_in_which_it_was_opened(fs, run):
    with provenance(agent="opener"):
        file = fs.open("s/r/a", "wb")
    file.write(b"1")
    with provenance(agent="closer"):
        file.close()
    assert run["a"].agent == "opener"


OPENINGS = {
    "bytes": lambda fs, options: fs.open("s/r/a", "wb"),
    "exclusively": lambda fs, options: fs.open("s/r/a", "xb"),
    "appending": lambda fs, options: fs.open("s/r/a", "ab"),
    "compressed": lambda fs, options: fs.open("s/r/a", "wb", compression="gzip"),
    "by fsspec": lambda fs, options: fsspec.open("cas://s/r/a", "wb", **options),
    "by fsspec, compressed": lambda fs, options: fsspec.open(
        "cas://s/r/a", "wb", compression="gzip", **options
    ),
}
TEXTS = {
    "text": lambda fs, options: fs.open("s/r/a", "w"),
    "compressed text": lambda fs, options: fs.open("s/r/a", "wt", compression="bz2"),
    "text by fsspec": lambda fs, options: fsspec.open("cas://s/r/a", "w", **options),
}


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
def test_nothing_is_recorded_when_the_block_raises(fs, options, store, opening):
    with pytest.raises(BrokenError):
        write_and_raise(opening(fs, options), b"half of")
    assert store.runs() == []


@pytest.mark.parametrize("opening", TEXTS.values(), ids=TEXTS)
def test_no_text_is_recorded_when_the_block_raises(fs, options, store, opening):
    with pytest.raises(BrokenError):
        write_and_raise(opening(fs, options), "half of")
    assert store.runs() == []


@pytest.mark.parametrize("opening", [*OPENINGS.values(), *TEXTS.values()], ids=[*OPENINGS, *TEXTS])
def test_a_block_that_ends_well_is_recorded(fs, options, run, opening):
    data = "whole" if opening in TEXTS.values() else b"whole"
    with opening(fs, options) as file:
        file.write(data)
    assert run.read_bytes("a")


def test_a_finally_that_closes_after_an_error_records_nothing(fs, store, caplog):
    file = fs.open("s/r/a", "wb")
    with pytest.raises(BrokenError):
        try:
            file.write(b"half")
            raise BrokenError
        finally:
            file.close()
    assert store.runs() == []
    assert "cas://s/r/a was not recorded: BrokenError()" in caplog.text


def test_a_file_that_is_written_while_an_earlier_error_is_handled_is_recorded(fs, run):
    try:
        fail()
    except BrokenError:
        with fs.open("s/r/log", "w") as file:
            file.write("what went wrong")
    assert run.read_bytes("log") == b"what went wrong"


def test_commit_records_in_an_except_block(fs, run):
    file = fs.open("s/r/a", "wb")
    file.write(b"kept all the same")
    try:
        fail()
    except BrokenError:
        file.commit()
    assert run.read_bytes("a") == b"kept all the same"


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_file_that_is_dropped_is_not_recorded(fs, store, mode):
    file = fs.open("s/r/a", mode)
    file.write("text" if mode == "w" else b"bytes")
    opened = [file]
    del file
    with pytest.warns(ResourceWarning, match="was not closed"):
        opened.clear()
    assert store.runs() == []


def test_a_file_in_which_a_write_failed_is_not_recorded(fs, store):
    file = fs.open("s/r/a", "wb")
    file.write(b"first")
    with pytest.raises(TypeError):
        file.write("text")
    file.close()
    assert store.runs() == []


def test_a_failed_commit_raises_and_records_nothing(fs, store, run):
    run.put("d/a", b"")
    file = fs.open("s/r/x", "xb")
    run.put("x", b"theirs")
    with pytest.raises(FileExistsError, match="where no file was expected"):
        file.close()
    assert file.closed
    assert run.read_bytes("x") == b"theirs"


def test_appending_goes_on_from_the_present_bytes(fs, run):
    run.put("a", b"one")
    with fs.open("s/r/a", "ab") as file:
        assert file.tell() == 3
        file.write(b" two")
    assert run.read_bytes("a") == b"one two"


def test_appending_loses_no_edit_that_comes_between(fs, run):
    run.put("a", b"one")
    file = fs.open("s/r/a", "ab")
    file.write(b" two")
    run.put("a", b"three")
    with pytest.raises(OSError, match="version 2 of it is current"):
        file.close()
    assert run.read_bytes("a") == b"three"


def test_a_file_can_be_read_and_changed_while_it_is_written(fs, run):
    with fs.open("s/r/a", "wb") as file:
        file.write(b"0123456789")
        file.seek(4)
        assert file.read(2) == b"45"
        file.seek(0)
        file.write(b"X")
        file.truncate(8)
    assert run.read_bytes("a") == b"X1234567"


def test_a_mode_of_a_put_or_pipe_that_makes_no_sense_is_refused(fs, run, tmp_path):
    (tmp_path / "a").write_bytes(b"")
    for write in (
        lambda: fs.pipe_file("s/r/a", b"", mode="w"),
        lambda: fs.put_file(str(tmp_path / "a"), "s/r/a", mode="w"),
    ):
        with pytest.raises(ValueError, match="'overwrite' or 'create'"):
            write()


def test_compression_by_the_name_of_the_file(fs, run):
    with fs.open("s/r/a.txt.gz", "w", compression="infer") as file:
        file.write("text")
    assert gzip.decompress(run.read_bytes("a.txt.gz")) == b"text"
    with fs.open("s/r/a.txt.gz", "r", compression="infer") as file:
        assert file.read() == "text"


def test_a_transaction_is_one_snapshot(fs, run):
    with provenance(agent="a"), fs.transaction:
        for name in ("one", "two"):
            with fs.open(f"s/r/{name}", "wb") as file:
                file.write(name.encode())
        fs.pipe_file("s/r/three", b"3")
        assert not fs.exists("s/r/one")
    assert [snapshot.number for snapshot in run.snapshots()] == [1]
    assert [(version.path, version.agent) for version in run.files()] == [
        ("one", "a"),
        ("three", "a"),
        ("two", "a"),
    ]


def test_a_transaction_that_raises_records_nothing(fs, store):
    def write():
        with fs.transaction:
            fs.pipe_file("s/r/a", b"1")
            with fs.open("s/r/b", "wb") as file:
                file.write(b"2")
            raise BrokenError

    with pytest.raises(BrokenError):
        write()
    assert store.runs() == []
    fs.pipe_file("s/r/after", b"")
    assert [run.run for run in store.runs()] == ["r"]


def test_a_transaction_that_can_not_be_recorded_leaves_nothing_behind(fs, run):
    run.put("x", b"theirs")

    def clash():
        with fs.transaction:
            fs.pipe_file("s/r/a", b"1")
            fs.pipe_file("s/r/a/b", b"2")

    with pytest.raises(ValueError, match="is to be a file as well"):
        clash()
    assert not fs._intrans
    assert list(run) == ["x"]
    fs.pipe_file("s/r/after", b"")
    assert list(run) == ["after", "x"]


def test_a_transaction_with_an_open_file_is_not_recorded(fs, store):
    def leave_open():
        with fs.transaction:
            fs.open("s/r/a", "wb").write(b"1")

    with pytest.raises(ValueError, match="still open"):
        leave_open()
    assert store.runs() == []


def test_a_transaction_of_two_runs_is_refused(fs, store):
    def write_both():
        with fs.transaction:
            fs.pipe_file("s/r1/a", b"1")
            fs.pipe_file("s/r2/a", b"1")

    with pytest.raises(ValueError, match="one run"):
        write_both()
    assert store.runs() == []


def test_the_last_file_of_a_path_counts_in_a_transaction(fs, run):
    with fs.transaction:
        fs.pipe_file("s/r/a", b"1")
        fs.pipe_file("s/r/a", b"2")
    assert [version.version for version in run.history("a")] == [1]
    assert run.read_bytes("a") == b"2"


def test_a_copy_moves_no_bytes(fs, run, store):
    run.put("a", b"x" * 100_000)
    before = store.stats()
    fs.copy("s/r/a", "s/r2/b")
    copy = store.session("s").run("r2")["b"]
    assert copy.digest == run["a"].digest
    after = store.stats()
    assert (after.blobs, after.packs) == (before.blobs, after.packs)
    assert store.session("s").run("r2").snapshots()[0].bytes_stored == 0


def test_a_copy_can_be_of_the_past(fs, run):
    run.put("a", b"first")
    run.put("a", b"second")
    fs.cp("s/r@v1/a", "s/r/old")
    fs.cp("s/r@1/a", "s/r/older")
    assert run.read_bytes("old") == run.read_bytes("older") == b"first"


def test_a_directory_is_copied_in_one_snapshot(fs, run):
    run.put_many([(f"d/{number}", b"%d" % number) for number in range(20)])
    fs.copy("s/r/d", "s/r/e", recursive=True)
    assert [snapshot.number for snapshot in run.snapshots()] == [1, 2]
    assert len(run) == 40


def test_moving_and_removing_keep_the_history(fs, run):
    run.put("a", b"1")
    fs.mv("s/r/a", "s/r/b")
    assert list(run) == ["b"]
    assert fs.cat("s/r@1/a") == b"1"
    fs.rm("s/r/b")
    assert len(run) == 0
    assert len(run.history("b")) == 1


def test_a_directory_is_removed_in_one_snapshot(fs, run):
    run.put_many([(f"d/{number}", b"") for number in range(5)])
    with pytest.raises(IsADirectoryError):
        fs.rm("s/r/d")
    fs.rm("s/r/d", recursive=True)
    assert len(run) == 0
    assert len(run.snapshots()) == 2


def test_directories_come_and_go_with_their_files(fs, run):
    fs.mkdir("s/r/d")
    fs.makedirs("s/r/d/e", exist_ok=True)
    assert not fs.exists("s/r/d")
    fs.rmdir("s/r/d")
    fs.pipe_file("s/r/d/a", b"")
    with pytest.raises(FileExistsError):
        fs.mkdir("s/r/d")
    fs.makedirs("s/r/d", exist_ok=True)
    with pytest.raises(FileExistsError):
        fs.makedirs("s/r/d/a", exist_ok=True)
    with pytest.raises(OSError, match="there are files in it"):
        fs.rmdir("s/r/d")


WRITES = {
    "open": lambda fs, url: fs.open(url, "wb"),
    "pipe": lambda fs, url: fs.pipe_file(url, b""),
    "remove": lambda fs, url: fs.rm(url),
    "copy": lambda fs, url: fs.cp_file("s/r/a", url),
    "make a directory": lambda fs, url: fs.mkdir(url),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("url", ["s/r@1/a", "s/r@v1/a"])
def test_the_past_is_read_only(fs, run, write, url):
    run.put("a", b"1")
    with pytest.raises(PermissionError, match="which never changes") as raised:
        write(fs, url)
    assert isinstance(raised.value, PastIsReadOnlyError)
    assert len(run.snapshots()) == 1


def test_local_files_keep_mode_and_time(fs, run, tmp_path):
    script = tmp_path / "go.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    fs.put(str(script), "s/r/go.sh")
    assert run["go.sh"].mode & 0o777 == 0o755
    assert run["go.sh"].mtime_ns == script.stat().st_mtime_ns


def test_a_directory_of_local_files_is_one_snapshot(fs, run, tmp_path):
    local = tmp_path / "local"
    local.mkdir()
    for number in range(30):
        (local / f"{number}").write_bytes(b"%d" % number)
    fs.put(str(local), "s/r/d", recursive=True)
    assert len(run.snapshots()) == 1
    assert len(run) == 30


def test_another_thread_records_while_one_puts_a_directory(fs, run, tmp_path, monkeypatch):
    local = tmp_path / "local"
    local.mkdir()
    for number in range(3):
        (local / f"{number}").write_bytes(b"")
    begun = fs.put_file

    def put_file(*args, **options):
        other = Thread(target=fs.pipe_file, args=("s/r/other", b"mine"))
        other.start()
        other.join()
        assert fs.cat("s/r/other") == b"mine"
        begun(*args, **options)

    monkeypatch.setattr(fs, "put_file", put_file)
    fs.put(f"{local}/", "s/r/d", recursive=True)
    assert len(run) == 4


def test_a_directory_is_no_file(fs, run):
    run.put("d/a", b"")
    for url in ("s/r/d", "s/r"):
        for mode in ("rb", "wb"):
            with pytest.raises(IsADirectoryError):
                fs.open(url, mode)
        with pytest.raises(IsADirectoryError):
            fs.cat_file(url)


def test_a_url_without_a_run_can_not_be_written(fs):
    for url in ("", "s"):
        with pytest.raises(ValueError, match="names no run"):
            fs.open(url, "wb")


def test_a_large_file_is_written_by_way_of_the_disk(fs, run):
    piece = bytes(range(256)) * 4096
    with fs.open("s/r/big", "wb") as file:
        for _ in range(20):
            file.write(piece)
    assert run["big"].size == 20 * len(piece)
    with fs.open("s/r/big") as file:
        assert file.size == 20 * len(piece)
        file.seek(5 * len(piece) + 7)
        assert file.read(3) == bytes([7, 8, 9])


def test_text_wrappers_and_mappings(fs, run):
    fs.write_text("s/r/t", "é\n", encoding="latin-1")
    assert run.read_bytes("t") == b"\xe9\n"
    assert fs.read_text("s/r/t", encoding="latin-1") == "é\n"
    mapping = fs.get_mapper("s/r/zarr")
    mapping["a/b"] = b"1"
    assert dict(mapping) == {"a/b": b"1"}
    assert isinstance(fs.open("s/r/t", "r"), io.TextIOWrapper)
    del mapping["a/b"]
    assert list(run) == ["t"]


def test_a_handled_error_that_is_raised_again_records_nothing(fs, options, store):
    for opened in (
        lambda: fs.open("s/r/a", "w"),
        lambda: fsspec.open("cas://s/r/a", "w", **options),
    ):
        with pytest.raises(BrokenError):
            try:
                fail()
            except BrokenError:
                with opened() as file:
                    file.write("half")
                    raise
    assert store.runs() == []


def test_a_file_opened_while_an_inner_error_is_handled_is_recorded(fs, run):
    try:
        fail()
    except BrokenError:
        try:
            {}["none"]
        except KeyError:
            file = fs.open("s/r/a", "wb")
        file.write(b"instead")
        file.close()
    assert run.read_bytes("a") == b"instead"


def test_the_end_of_a_block_in_a_generator_is_recorded_whatever_its_consumer_handles(fs, run):
    def written():
        with fs.open("s/r/a", "w") as file:
            file.write("whole")
            yield

    steps = written()
    next(steps)
    try:
        fail()
    except BrokenError:
        next(steps, None)
    assert run.read_bytes("a") == b"whole"


def test_what_a_finalizer_closes_is_not_recorded(fs, store):
    class Writer:
        def __init__(self):
            self.file = fs.open("s/r/a", "wb")
            self.file.write(b"half")

        def __del__(self):
            self.file.close()

    Writer()
    assert store.runs() == []


def test_appending_to_a_compressed_file_adds_to_its_text(fs):
    for codec in ("gzip", "bz2", "xz"):
        for word in ("one ", "two"):
            with fs.open(f"s/r/{codec}", "at", compression=codec) as file:
                file.write(word)
        assert fs.read_text(f"s/r/{codec}", compression=codec) == "one two"


def test_a_transaction_in_a_transaction_is_refused_and_nothing_is_lost(fs, run):
    with fs.transaction:
        fs.pipe_file("s/r/a", b"1")
        with pytest.raises(ValueError, match="open already"):
            fs.start_transaction()
        with pytest.raises(ValueError, match="open already"):
            fs.transaction.__enter__()
        fs.pipe_file("s/r/b", b"2")
    assert list(run) == ["a", "b"]


def test_a_transaction_takes_contents_as_they_are_when_they_are_given(fs, run, tmp_path):
    local = tmp_path / "local.txt"
    local.write_text("now")
    value = bytearray(b"now")
    with fs.transaction:
        fs.put_file(str(local), "s/r/file")
        fs.pipe_file("s/r/value", value)
        local.unlink()
        value[:] = b"later"
    assert run.read_bytes("file") == run.read_bytes("value") == b"now"


def test_a_move_is_no_part_of_a_transaction(fs, run):
    run.put("a", b"1")

    def move():
        with fs.transaction:
            fs.mv("s/r/a", "s/r/b")

    with pytest.raises(ValueError, match="can't wait"):
        move()
    assert list(run) == ["a"]


def test_a_move_onto_itself_or_into_itself_removes_nothing(fs, run):
    run.put_many([("a", b"1"), ("d/x", b"2")])
    fs.mv("cas://s/r/a", "s/r/a")
    with pytest.raises(ValueError, match="into itself"):
        fs.mv("s/r/d", "s/r/d/e", recursive=True)
    assert list(run) == ["a", "d/x"]


def test_trees_keep_their_names_on_the_way_in_and_out(fs, run, tmp_path):
    names = ["pct%41.txt", "pctA.txt", "[x].txt", "a?b*", "d%20e/f%2.txt"]
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    fs.put(f"{tmp_path}/in/", "s/r/tree", recursive=True)
    assert sorted(run) == sorted(f"tree/{name}" for name in names)
    fs.get("s/r/tree/", f"{tmp_path}/out", recursive=True)
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_text()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == {name: name for name in names}


def test_nothing_is_written_below_a_file(fs, run):
    run.put("seed.txt", b"1")
    with pytest.raises(NotADirectoryError, match=r"seed\.txt"):
        fs.pipe_file("s/r/seed.txt/below", b"2")
    assert list(run) == ["seed.txt"]


def test_a_file_is_recorded_in_the_store_that_it_was_opened_in(tmp_path, monkeypatch):
    for name in ("CAS_STORE", "CAS_INDEX", "CAS_BLOBS"):
        monkeypatch.delenv(name, raising=False)
    stores = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        stores.append(ArtifactStore.open(tmp_path / name / ".cas"))
    monkeypatch.chdir(tmp_path / "a")
    file = CasFileSystem(skip_instance_cache=True).open("s/r/x", "wb")
    monkeypatch.chdir(tmp_path / "b")
    file.close()
    assert [len(store.runs()) for store in stores] == [1, 0]
    for store in stores:
        store.close()


def test_a_file_for_reading_is_not_written(fs, run):
    run.put("a", b"1")
    with fs.open("s/r/a") as file, pytest.raises(io.UnsupportedOperation):
        file.write(b"x")


def test_a_missing_local_file_is_not_found(fs):
    with pytest.raises(FileNotFoundError):
        fs.put_file("/none/such", "s/r/a")
