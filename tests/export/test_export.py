"""Exports: what the judges of each format say, and what is left of one that fails."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import bagit
import pytest
from judges import judged_by_ocfl
from lived import LARGE, live
from places import on_one, packs_of, places
from trees import contents, packs_in, read, write

from cas.digest import Digest
from index import ArtifactStore, __version__
from index.errors import DanglingFileError, ExportFailedError, UnknownRunError
from index.export import (
    FORMATS,
    export_bagit,
    export_bundle,
    export_ocfl,
    export_tar,
    export_zip,
)
from index.imports import read_bagit, read_bundle, read_ocfl

place = places(("sqlite-local",))

READ = {"ocfl": read_ocfl, "bagit": read_bagit, "bundle": read_bundle}

LONG = ("e" * 300, "/".join(["d" * 250] * 16)[:4015], "é" * 200)
"""Legal paths that a directory below another can't hold."""

each_format = pytest.mark.parametrize("name", [*FORMATS])
each_with_bytes = pytest.mark.parametrize(
    "name", [name for name in FORMATS if name not in ("prov", "openlineage")]
)
each_file = pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].is_file])


@pytest.fixture
def lived(run, work):
    live(run, work)
    return run


def export(name, run, target, **options):
    return FORMATS[name].exporter(name)(run, target, **options)


class TestJudges:
    def test_ocfl_py_finds_no_error(self, lived, tmp_path):
        report = export_ocfl(lived, tmp_path / "o")
        passed, remarks = judged_by_ocfl(tmp_path / "o")
        assert passed
        # No agent is known of some versions, agents have no address, and the extension with the
        # history is not registered.
        assert remarks <= {"W007", "W008", "W013"}
        assert (report.snapshots, report.format, report.left_out) == (5, "ocfl", ())

    def test_each_snapshot_is_a_version_of_the_object(self, lived, tmp_path):
        export_ocfl(lived, tmp_path / "o")
        inventory = json.loads((tmp_path / "o" / "inventory.json").read_text())
        for snapshot in lived.snapshots():
            version = inventory["versions"][f"v{snapshot.number}"]
            files = {
                path: inventory["manifest"][digest][0]
                for digest, paths in version["state"].items()
                for path in paths
            }
            held = {each.path: each for each in lived.files(at=snapshot)}
            held["bad%FF"] = held.pop("bad\udcff")
            # Each content is named by its digest here.
            assert {path: str(each.digest) for path, each in held.items()} == {
                path: name.rpartition("/")[2] for path, name in files.items()
            }
            assert version["created"] == snapshot.created_at.isoformat()
            assert version.get("user", {}).get("name") == snapshot.provenance.agent
        assert "phase planning" in inventory["versions"]["v1"]["message"]
        assert inventory["id"] == "cas://session-1/run-1"

    def test_bagit_finds_a_bag_valid(self, lived, tmp_path):
        export_bagit(lived, tmp_path / "b")
        bag = bagit.Bag(str(tmp_path / "b"))
        bag.validate()
        assert bag.info["Bag-Software-Agent"] == f"runcas {__version__}"
        assert bag.info["External-Identifier"] == "cas://session-1/run-1"
        files = read(tmp_path / "b" / "data" / "files")
        assert files["big"] == LARGE * 2
        assert files["a.txt"] == b"one"
        assert "sub dir/link" not in files

    def test_bagit_finds_the_bag_of_a_snapshot_valid(self, run, work, tmp_path):
        write(work, {"a": b"1", "d/ä b": b"2"})
        (work / "link").symlink_to("a")
        run.track(work)
        run.put("a", b"later")
        report = export_bagit(run, tmp_path / "b", at=1)
        bagit.Bag(str(tmp_path / "b")).validate()
        assert read(tmp_path / "b" / "data") == {"a": b"1", "d/ä b": b"2"}
        assert report.left_out == (("link", "it is a link, which a bag can't hold"),)
        listed = json.loads((tmp_path / "b" / "runcas" / "manifest.json").read_text())
        assert str(run.file("a", at=1).digest) in str(listed)

    def test_a_percent_sign_is_encoded_as_the_standard_says(self, run, tmp_path):
        """The program bagit.py of today does not decode it, so it is not asked."""
        run.put("100%", b"x")
        export_bagit(run, tmp_path / "b", at=1)
        assert (tmp_path / "b" / "data" / "100%").read_bytes() == b"x"
        assert "data/100%25\n" in (tmp_path / "b" / "manifest-sha512.txt").read_text()

    @pytest.mark.parametrize(
        ("name", "judge"), [("zip", ["unzip", "-tq"]), ("tar", ["tar", "-tf"])]
    )
    def test_programs_read_the_archives(self, lived, tmp_path, name, judge):
        report = export(name, lived, tmp_path / "a", at=2)
        subprocess.run([*judge, tmp_path / "a"], check=True, stdout=subprocess.DEVNULL)
        assert report.left_out == (("out", "it is a link that leads out of this directory"),)
        assert report.files == len(lived.files(at=2)) - 1

    def test_programs_extract_a_tar_file_as_it_was(self, lived, tmp_path):
        export_tar(lived, tmp_path / "a.tar", at=2)
        (tmp_path / "out").mkdir()
        subprocess.run(["tar", "-xf", tmp_path / "a.tar", "-C", tmp_path / "out"], check=True)
        found = {os.fsencode(path): data for path, data in read(tmp_path / "out").items()}
        assert found.pop(b"LEFT-OUT.txt").startswith(b"out: ")
        links = {each.path for each in lived.files(at=2) if each.is_link}
        held = {path: data for path, data in contents(lived, at=2).items() if path not in links}
        assert found == {os.fsencode(path): data for path, data in held.items()}
        assert (tmp_path / "out" / "run.sh").stat().st_mode & 0o777 == 0o755
        assert os.readlink(tmp_path / "out" / "sub dir" / "link") == "../a.txt"

    def test_the_script_of_the_docs_reads_a_bundle(self, run, tmp_path):
        run.put("a", b"some bytes")
        export_bundle(run, tmp_path / "b")
        with tarfile.open(tmp_path / "b") as bundle:
            bundle.extractall(tmp_path / "out", filter="data")
        script = Path(__file__).parents[2] / "docs" / "unpack.py"
        listed = [
            subprocess.run(
                [sys.executable, script, pack], check=True, capture_output=True, text=True
            ).stdout
            for pack in packs_in(tmp_path / "out")
        ]
        assert str(run.file("a").digest) in "".join(listed)


@on_one(because="the tests of `Run.archive` in tests/web run on all")
class TestNames:
    def test_no_two_names_of_a_zip_file_are_equal(self, run, tmp_path):
        names = ["a\\b", "a%5Cb", "a%5cb", "a%255Cb", "\udcff", "%FF", "100%"]
        run.put_many([(name, name.encode("utf-8", "surrogateescape")) for name in names])
        export_zip(run, tmp_path / "z")
        with zipfile.ZipFile(tmp_path / "z") as archive:
            assert len({*archive.namelist()}) == len(names)
            assert archive.read("100%") == b"100%"
            assert archive.read("%FF") == b"\xff"

    @pytest.mark.parametrize("name", ["zip", "rocrate"])
    def test_a_zip_file_spends_no_time_on_what_does_not_compress(self, run, tmp_path, name):
        noise, text = os.urandom(1 << 20), b"".join(b"%d,0.1\n" % n for n in range(100_000))
        run.put("headed", b"head " * 2000 + noise)
        run.put("noise", noise)
        run.put("small", b"a" * 100)
        run.put("text", text)
        export(name, run, tmp_path / "z.zip")
        with zipfile.ZipFile(tmp_path / "z.zip") as made:
            assert made.testzip() is None
            sizes = {
                Path(each.filename).name: (each.file_size, each.compress_size)
                for each in made.filelist
            }
        for name in ("headed", "noise"):  # in blocks that are not compressed
            size, taken = sizes[name]
            assert 0 < taken - size < size // 5000
        assert sizes["small"][1] < 20
        assert sizes["text"][1] == pytest.approx(len(zlib.compress(text, 1)), abs=100)

    def test_two_paths_that_are_one_in_an_inventory_are_refused(self, run, tmp_path):
        run.put_many([("a\udcff%", b"1"), ("a%FF%25", b"2")])
        with pytest.raises(ExportFailedError, match=r"two paths of run.* as a bag or a bundle"):
            export_ocfl(run, tmp_path / "o")
        assert not (tmp_path / "o").exists()
        for name in ("bagit", "bundle"):
            export(name, run, tmp_path / name)

    @each_format
    @pytest.mark.parametrize("path", LONG, ids=("name", "path", "both"))
    def test_a_name_that_is_too_long_for_a_file_is_no_trouble(self, run, tmp_path, name, path):
        run.put_many([(path, b"long"), ("short", b"s")])
        report = export(name, run, tmp_path / "t")
        assert report.left_out == ()
        if name in READ:
            with ArtifactStore.open(tmp_path / "again") as there:
                READ[name](there.session("s"), tmp_path / "t")
                assert contents(there.session("s").run("run-1")) == contents(run)
        elif name == "rocrate":
            assert {Path(each).name for each in read(tmp_path / "t")} >= {
                f"blake3-{Digest.of(path.encode())}", "short"
            }  # fmt: skip

    @pytest.mark.parametrize("path", LONG, ids=("name", "path", "both"))
    def test_a_bag_of_a_state_leaves_out_a_name_that_is_too_long(self, run, tmp_path, path):
        run.put_many([(path, b"long"), ("short", b"s")])
        report = export_bagit(run, tmp_path / "b", at=1)
        assert report.left_out == ((path, "its name is too long for a file"),)
        assert read(tmp_path / "b" / "data") == {"short": b"s"}

    def test_what_programs_read_differently_goes_by_digest_into_a_bag(self, run, tmp_path):
        names = ["a%0Ab", "x\ny", "z\u2028", " s", "\udcff"]
        run.put_many([(name, name.encode("utf-8", "surrogateescape")) for name in names])
        export_bagit(run, tmp_path / "b")
        bagit.Bag(str(tmp_path / "b")).validate()
        assert not (tmp_path / "b" / "data" / "files").exists()
        assert len([*(tmp_path / "b" / "data" / "versions").iterdir()]) == len(names)


class TestTargets:
    @each_format
    def test_nothing_is_replaced(self, run, tmp_path, name):
        run.put("a", b"a")
        (tmp_path / "there").mkdir()
        write(tmp_path / "there", {"x": b"mine"})
        (tmp_path / "file").write_bytes(b"mine")
        (tmp_path / "dangling").symlink_to("nowhere")
        for taken in ("there", "file", "dangling"):
            with pytest.raises(ExportFailedError, match="it exists already"):
                export(name, run, tmp_path / taken)
        assert read(tmp_path / "there") == {"x": b"mine"}
        assert (tmp_path / "file").read_bytes() == b"mine"
        assert not (tmp_path / "nowhere").exists()

    @each_format
    def test_a_target_that_appears_meanwhile_is_not_replaced(self, run, tmp_path, name):
        run.put("a", b"a")

        def intrude(_progress):
            (tmp_path / "t").mkdir(exist_ok=True)
            (tmp_path / "t" / "x").touch()

        with pytest.raises(ExportFailedError):
            export(name, run, tmp_path / "t", progress=intrude)
        assert os.listdir(tmp_path / "t") == ["x"]
        assert not list(tmp_path.glob(".cas-export-*"))

    @pytest.mark.parametrize("name", ["ocfl", "bagit"])
    def test_an_empty_directory_is_filled(self, run, tmp_path, name):
        run.put("a", b"a")
        (tmp_path / "t").mkdir()
        export(name, run, tmp_path / "t")
        assert any((tmp_path / "t").iterdir())

    @each_format
    def test_an_interrupted_export_leaves_nothing(self, lived, tmp_path, name):
        def interrupt(progress):
            if progress.bytes > 1 << 20:
                raise KeyboardInterrupt

        before = sorted(tmp_path.iterdir())
        with pytest.raises(KeyboardInterrupt):
            export(name, lived, tmp_path / "t", progress=interrupt)
        assert sorted(tmp_path.iterdir()) == before

    @each_with_bytes
    def test_missing_bytes_leave_nothing(self, lived, objects, tmp_path, name):
        for pack in packs_of(objects):
            objects.remove(pack)
        before = sorted(tmp_path.iterdir())
        with pytest.raises((DanglingFileError, ExportFailedError), match="missing"):
            export(name, lived, tmp_path / "t")
        assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.parametrize("name", ["ocfl", "bagit"])
    def test_a_run_without_snapshots_is_named_beside_the_target(self, run, tmp_path, name):
        run.set_status("running")
        with pytest.raises(ExportFailedError, match=r"to '.*/t': run 'run-1' has no snapshots yet"):
            export(name, run, tmp_path / "t")

    def test_a_bundle_that_lacks_bytes_says_what_to_repair(self, run, objects, tmp_path):
        run.put("a", b"a" * 1000)
        for pack in packs_of(objects):
            objects.remove(pack)
        why = r"run 'run-1' can't be copied: 'a': .*; repair the store that it comes from with"
        with pytest.raises(ExportFailedError, match=why):
            export_bundle(run, tmp_path / "t")

    @each_format
    def test_a_directory_that_is_not_there_is_named(self, run, tmp_path, name):
        run.put("a", b"a")
        with pytest.raises(ExportFailedError, match=r"nowhere/t.*No such file"):
            export(name, run, tmp_path / "nowhere" / "t")

    @each_file
    def test_a_stream_gets_the_same_bytes_and_stays_open(self, run, tmp_path, name):
        run.put("a", b"a" * 100_000)
        stream = io.BytesIO()
        report = export(name, run, stream)
        assert report.target == "-"
        if name == "bundle":  # its records and packs have nonces
            with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as bundle:
                assert bundle.getnames()[0] == "cas.json"
        else:
            target = tmp_path / f"t{FORMATS[name].ending}"
            export(name, run, target)
            assert target.read_bytes() == stream.getvalue()

    @each_format
    def test_an_unknown_run_leaves_nothing(self, store, tmp_path, name):
        store.session("session-1").run("other").put("a", b"a")
        with pytest.raises(UnknownRunError):
            export(name, store.session("session-1").run("run-1"), tmp_path / "t")
        assert not (tmp_path / "t").exists()

    @pytest.mark.parametrize("name", [*READ])
    def test_what_is_recorded_meanwhile_is_not_in_it(self, store, run, tmp_path, name):
        run.put("a", b"a")
        begun = []

        def go_on(_progress):
            if not begun:
                begun.append(run.put("late", b"late"))

        export(name, run, tmp_path / "t", progress=go_on)
        assert begun
        again = store.session("again")
        READ[name](again, tmp_path / "t")
        assert contents(again.run("run-1")) == {"a": b"a"}


class TestWhoseBytes:
    @each_format
    def test_nothing_of_others_is_in_it(self, store, tmp_path, name):
        """Small files share a frame of a pack with those of others."""
        session = store.session("session-1")
        batches = {"mine": session, "hush-1": session, "hush-2": store.session("another")}
        for what, whose in batches.items():
            whose.run(f"run-{what}").put_many(
                [(f"{what}-{n}", f"content {what} {n}".encode()) for n in range(50)]
            )
        store.plan_gc().execute()  # merges small packs
        export(name, session.run("run-mine"), tmp_path / "t")
        if name == "bundle":
            with ArtifactStore.open(tmp_path / "again") as again:
                read_bundle(again.session("s"), tmp_path / "t")
                assert again.stats().blobs == 50
        target = tmp_path / "t"
        parts = read(target).values() if target.is_dir() else [target.read_bytes()]
        assert b"hush" not in b"".join(parts)
