"""A disk that refuses to read a block: only its contents are lost, and nothing else stops."""

from __future__ import annotations

import errno
import json
import os
import random
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from damage import assert_pristine, held, marked
from faults import BadSectors
from trees import write

from cas.errors import BackendError, UnreadableObjectError
from cas.packs.pack import HEADER_SIZE
from index import ArtifactStore, recover
from index.errors import DamagedFileError

FILES = {f"d/f{n:02d}": random.Random(n).randbytes(1500) for n in range(40)}
OTHERS = {f"e/g{n:02d}": random.Random(n).randbytes(900) for n in range(100, 140)}


@pytest.fixture
def disk(monkeypatch):
    calls = BadSectors()
    monkeypatch.setattr("cas.backends.local.PosixCalls", lambda: calls)
    return calls


@pytest.fixture
def place(store_root):
    return {"root": store_root}


@pytest.fixture
def filled(place, work):
    """A store of two packs, each with forty files; return its contents."""
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        write(work, FILES)
        run.track(work, agent="planner")
        write(work, {**FILES, **OTHERS})
        run.track(work, agent="engineer")
        return held(store)


def pack_of(place, path):
    """Return the pack that has a file, with offset and stored size."""
    with closing(sqlite3.connect(place["root"] / "index.db")) as index:
        name, offset, size = index.execute(
            "SELECT hex(p.name), b.pack_offset, b.stored_size FROM cas_files f"
            " JOIN cas_blobs b ON b.digest = f.digest JOIN cas_packs p ON p.id = b.pack_id"
            " WHERE f.path = ?",
            (path,),
        ).fetchone()
    name = name.lower()
    return place["root"] / "packs" / name[:2] / f"{name}.pack", offset, size


def hit_by(place, hole, files):
    """Return the files with bytes in an unreadable range."""
    return {
        path
        for path in files
        for _, offset, size in [pack_of(place, path)]
        if offset < hole.stop and hole.start < offset + size
    }


@pytest.fixture
def hole(place, filled, disk):
    """An unreadable block in the middle of the first pack."""
    pack, offset, _ = pack_of(place, "d/f20")
    return disk.damage(pack, offset + 10)


@pytest.fixture
def hit(place, hole):
    found = hit_by(place, hole, FILES)
    assert 1 < len(found) < 6
    return found


def test_a_verification_goes_on_and_tells_just_what_is_hit(place, hit):
    with ArtifactStore.open(**place) as store:
        report = store.verify(depth="bytes")
        assert report.packs_read == report.packs == 2
        assert report.counts == {"unreadable-object": 1, "damaged-bytes": len(hit)}
        told = {holder.path for fault in report.faults for holder in fault.touches}
        assert told == hit
        (broken,) = [fault for fault in report.faults if fault.digest is None]
        assert broken.detail == "the medium refuses 4096 of its bytes"
        assert marked(store) == len(hit)


def test_readers_get_all_but_what_is_hit(place, hit, tmp_path):
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        for path, data in {**FILES, **OTHERS}.items():
            if path in hit:
                with pytest.raises(DamagedFileError, match=r"cannot be read.*store.repair"):
                    run.read_bytes(path)
            else:
                assert run.read_bytes(path) == data
        run.restore(tmp_path / "out", paths=sorted(FILES.keys() - hit))
        assert len(list((tmp_path / "out/d").iterdir())) == len(FILES) - len(hit)
        with pytest.raises(DamagedFileError):
            run.restore(tmp_path / "all")


def test_it_is_repaired_from_the_work_directory(place, filled, hit, work):
    with ArtifactStore.open(**place) as store:
        store.verify(depth="bytes")
        report = store.repair(work)
        assert (report.is_complete, report.repaired) == (True, len(hit))
        (aside,) = report.set_aside
    assert_pristine(place, filled)
    name = aside.rpartition("/")[2]
    copies = [path for path in (place["root"] / "damaged").iterdir() if path.name == name]
    assert len(copies) == 1


def test_tracking_the_same_bytes_again_mends_it(place, filled, hit, work):
    with ArtifactStore.open(**place) as store:
        store.verify(depth="bytes")
        assert store.session("s").run("again").track(work).bytes_stored > 0
        assert marked(store) == 0
        assert held(store) == filled


def test_without_a_source_just_what_is_hit_is_lost(place, hit):
    with ArtifactStore.open(**place) as store:
        store.verify(depth="bytes")
        report = store.repair()
        assert {holder.path for blob in report.lost for holder in blob.touches} == hit
        run = store.session("s").run("r")
        rest = {**FILES, **OTHERS}
        assert {p: run.read_bytes(p) for p in rest if p not in hit} == {
            p: data for p, data in rest.items() if p not in hit
        }


@pytest.mark.parametrize("where", ["header", "footer"])
def test_an_unreadable_structure_harms_no_blob_that_lies_elsewhere(
    place, filled, disk, work, where
):
    pack, _, _ = pack_of(place, "d/f20")
    hole = disk.damage(pack, 0 if where == "header" else os.path.getsize(pack) - 1, HEADER_SIZE)
    hit = hit_by(place, hole, FILES)
    with ArtifactStore.open(**place) as store:
        shallow = store.verify(depth="packs")
        assert not shallow.is_sound
        assert shallow.counts["broken-pack"] == 1
        # The last entry is the journal record.
        assert marked(store) >= len(hit)
        told = {holder.path for fault in shallow.faults for holder in fault.touches}
        assert hit <= told <= hit | {None}
        assert store.repair(work).is_complete
    assert_pristine(place, filled)


def test_a_fault_that_passes_is_none(place, filled, monkeypatch):
    calls = BadSectors(times=1)
    monkeypatch.setattr("cas.backends.local.PosixCalls", lambda: calls)
    pack, offset, _ = pack_of(place, "d/f20")
    calls.damage(pack, offset)
    with ArtifactStore.open(**place) as store:
        assert store.verify(depth="bytes").is_sound
        assert calls.refused == 1
        assert held(store) == filled


def test_a_disk_that_opens_no_file_ends_the_verification(place, filled, monkeypatch):
    class Gone(BadSectors):
        def open_read(self, path):
            if path.endswith(".pack"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().open_read(path)

    monkeypatch.setattr("cas.backends.local.PosixCalls", Gone)
    with ArtifactStore.open(**place) as store:
        with pytest.raises(BackendError) as told:
            store.verify(depth="bytes")
        assert not isinstance(told.value, UnreadableObjectError)
        assert marked(store) == 0


def test_compaction_leaves_what_is_hit_and_goes_on(place, hit, tmp_path):
    with ArtifactStore.open(**place) as store:
        kept = {f"d/f{n:02d}" for n in range(8)} | hit
        write(tmp_path / "few", {path: FILES[path] for path in kept})
        other = store.session("s").run("other")
        other.track(tmp_path / "few", agent="planner")
        store.session("s").run("r").delete()
        report = store.plan_gc(grace=timedelta(0)).execute()
        assert {found.digest for found in report.damaged} == {
            version.digest for version in other.files() if version.path in hit
        }
        assert {p: other.read_bytes(p) for p in kept - hit} == {p: FILES[p] for p in kept - hit}
        assert store.repair(tmp_path / "few").is_complete
        assert {p: other.read_bytes(p) for p in kept} == {p: FILES[p] for p in kept}


def test_a_lost_index_is_recovered_around_it(place, hit):
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (place["root"] / name).unlink(missing_ok=True)
    recover(**place)
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        assert {version.path for version in run.files()} == {*FILES, *OTHERS}
        assert run.read_bytes("e/g100") == OTHERS["e/g100"]
        store.verify(depth="bytes")
        assert marked(store) == len(hit)


def test_the_command_tells_of_it(cas, place, hit, tmp_path):
    code, out, _ = cas("--store", place["root"], "verify", "--depth", "bytes", "--json")
    assert (code, json.loads(out)["counts"]["unreadable-object"]) == (3, 1)
    code, _, err = cas("--store", place["root"], "cat", min(hit), "--session", "s")
    assert code == 3
    assert "cas repair" in err
    code, out, _ = cas(
        "--store", place["root"], "restore", "--to", tmp_path / "out", "--session", "s"
    )
    assert code == 3
