"""Many files at once through URLs: what they cost, and that each is treated as one alone is."""

from __future__ import annotations

import pytest
from damage import inside, mutate
from events import statements
from places import objects_of

from cas.packs.pack import EntryKind
from index.db.queries import restorable
from index.errors import DamagedFileError
from index.filesystem import around

FEW, MORE = 20, 40


def put_tree(fs, tmp_path, number):
    local = tmp_path / f"local-{number}"
    for each in range(number):
        path = local / f"d{each % 3}" / f"{each}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d of %d" % (each, number))
    fs.put(f"{local}/", f"s/r/put-{number}/", recursive=True)


WORK = {
    "put": put_tree,
    "get": lambda fs, tmp_path, number: fs.get(
        f"s/r/in-{number}/", f"{tmp_path}/out-{number}", recursive=True
    ),
    "pipe": lambda fs, tmp_path, number: fs.pipe(
        {f"s/r/pipe-{number}/{each}": b"%d in %d" % (each, number) for each in range(number)}
    ),
    "cat": lambda fs, tmp_path, number: fs.cat(
        [f"s/r/in-{number}/d{each % 3}/{each}" for each in range(number)]
    ),
    "cat of a directory": lambda fs, tmp_path, number: fs.cat(f"s/r/in-{number}", recursive=True),
    "rm": lambda fs, tmp_path, number: fs.rm(f"s/r/in-{number}", recursive=True),
}


@pytest.fixture
def trees(run):
    for number in (FEW, MORE):
        names = [f"in-{number}/d{each % 3}/{each}" for each in range(number)]
        run.put_many([(name, name.encode()) for name in names])
    return run


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_a_tree_costs_the_same_statements_however_many_files_it_has(fs, trees, tmp_path, work):
    counts = []
    for number in (FEW, MORE):
        with statements(fs.store) as seen:
            work(fs, tmp_path, number)
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_a_copied_tree_costs_a_lookup_for_each_file(fs, trees):
    counts = []
    for number in (FEW, MORE):
        with statements(fs.store) as seen:
            fs.copy(f"s/r/in-{number}/", f"s/r/copy-{number}/", recursive=True)
        counts.append(len(seen) - number)
    assert counts[0] == counts[1]


def test_a_directory_is_read_as_all_files_in_it(fs, trees):
    found = fs.cat("s/r/in-20", recursive=True)
    assert len(found) == FEW
    assert all(name.removeprefix("s/r/").encode() == data for name, data in found.items())
    assert fs.cat("s/r/in-20/d0/0", recursive=True) == b"in-20/d0/0"
    assert fs.cat(["s/r/in-20/d0/0"], recursive=True) == {"s/r/in-20/d0/0": b"in-20/d0/0"}
    trees.put("one/file", b"1")
    assert fs.cat("s/r/one", recursive=True) == {"s/r/one/file": b"1"}


def test_few_files_of_a_large_run_are_read_without_listing_it(trees, monkeypatch):
    listed = []
    kind = restorable.RestorableFile
    monkeypatch.setattr(restorable, "RestorableFile", lambda *row: listed.append(row) or kind(*row))
    assert dict(trees.read_many(["in-20/d0/0"])) == {"in-20/d0/0": b"in-20/d0/0"}
    assert len(listed) == 1
    assert len(dict(trees.read_many(["in-20/d0", "in-20/d1/1"]))) == 8


@pytest.fixture(params=[20, 0], ids=["listed", "asked for one by one"])
def listing(request, monkeypatch):
    monkeypatch.setattr(around, "_LISTED", request.param)


IN_THE_WAY = {
    "a directory": ("new/d", IsADirectoryError),
    "a file above": ("new/file/below", NotADirectoryError),
    "a file above, by a name that is not normal": ("new//file/./below", NotADirectoryError),
}


@pytest.mark.parametrize(("path", "kind"), IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_one_of_many_that_has_no_place_keeps_all_from_being_recorded(fs, run, listing, path, kind):
    run.put_many([("new/d/a", b""), ("new/file", b"")])
    many = {f"s/r/new/{number}": b"" for number in range(FEW)}
    with pytest.raises(kind):
        fs.pipe({**many, f"s/r/{path}": b""})
    assert len(run) == 2
    assert fs.find("s/r/new") == ["s/r/new/d/a", "s/r/new/file"]


def test_many_are_not_written_below_a_file(fs, run, listing):
    run.put("file", b"")
    with pytest.raises(NotADirectoryError, match="'file' is a file"):
        fs.pipe({f"s/r/file/deep/{number}": b"" for number in range(FEW)})
    assert list(run) == ["file"]


def test_many_that_are_to_be_new_replace_none(fs, run, listing):
    run.put("new/7", b"theirs")
    with pytest.raises(FileExistsError):
        fs.pipe({f"s/r/new/{number}": b"" for number in range(FEW)}, mode="create")
    assert list(run) == ["new/7"]
    fs.pipe({f"s/r/other/{number}": b"" for number in range(FEW)}, mode="create")
    assert len(run) == 1 + FEW


def test_many_are_given_in_a_transaction(fs, run):
    run.put("a", b"")
    with fs.transaction:
        fs.pipe({f"s/r/new/{number}": b"" for number in range(FEW)})
        assert len(run) == 1
    assert len(run) == 1 + FEW
    assert len(run.snapshots()) == 2


def test_a_damaged_file_of_a_tree_is_not_written_to_disk(fs, run, place, tmp_path):
    run.put_many([(f"d/{number}", b"%d" % number * 900) for number in range(FEW)])
    mutate(objects_of(place), inside(EntryKind.BLOB))
    with pytest.raises(DamagedFileError):
        fs.get("s/r/d", str(tmp_path / "out"), recursive=True)
    for path in (tmp_path / "out").glob("*"):
        assert path.read_bytes() == path.name.encode() * 900


def test_large_files_are_written_to_disk_in_pieces(fs, run, tmp_path):
    large = bytes(range(256)) * 8192
    run.put_many([("d/large", large), ("d/small", b"s")])
    fs.get("s/r@1/d", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out" / "large").read_bytes() == large
    assert (tmp_path / "out" / "small").read_bytes() == b"s"


def test_an_absolute_path_among_many_is_refused_as_one_alone_is(fs, run):
    for few in ({"s/r//x": b"1"}, {"s/r//x": b"1", **{f"s/r/{n}": b"2" for n in range(MORE)}}):
        with pytest.raises(ValueError, match="'/x'"):
            fs.pipe(few)
    assert not fs.exists("s/r/0")
