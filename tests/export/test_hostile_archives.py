"""Archives that are damaged, were changed, or are made to do harm: nothing of them is recorded."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import tarfile

import pytest
from forged import BLOB, HEADER, RAW, name_of, pack_of
from trees import contents

from cas.digest import Digest
from index import ArtifactStore, rebuild_storage
from index.errors import ImportSourceError, UnknownSessionError
from index.export import export_bagit, export_bundle, export_ocfl
from index.imports import read_bagit, read_bundle, read_ocfl

SECRET = b"what another tenant has stored"


@pytest.fixture
def store(store_root):
    with ArtifactStore.open(store_root) as opened:
        yield opened


@pytest.fixture
def session(store):
    """The session of somebody who imports, in a store that others use, too."""
    store.session("victim").run("r").put("secret", SECRET)
    return store.session("session-1")


@pytest.fixture
def exported(tmp_path):
    """A run with two versions of a file, and how to export it."""
    with ArtifactStore.open(tmp_path / "origin") as origin:
        run = origin.session("s").run("run-1")
        run.put_many([("a", b"first"), ("b", b"stays")], agent="A")
        run.put("a", b"second")
        yield run


def refused(read, session, source, reason=None):
    with pytest.raises(ImportSourceError, match=reason):
        read(session, source)
    assert "session-1" not in {each.session for each in runs_of(session)}
    return True


def runs_of(session):
    try:
        return session.runs()
    except UnknownSessionError:
        return []


def pack_up(folder, target, *, change=None):
    with tarfile.open(target, "w") as bundle:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                bundle.add(file, str(file.relative_to(folder)))
        if change is not None:
            change(bundle)


def sealed(history, data):
    """Write a history, with the digest that the object has of it."""
    history.write_bytes(data)
    digest = hashlib.sha512(data).hexdigest()
    history.with_name("history.jsonl.sha512").write_text(f"{digest} history.jsonl\n")


def rewritten(history, change):
    """Change the versions of a history, and what names them."""
    versions, last = map(json.loads, history.read_bytes().splitlines())
    change(versions, last)
    first = json.dumps(versions).encode()
    last["parts"] = [str(Digest.of(first))]
    sealed(history, first + b"\n" + json.dumps(last).encode() + b"\n")


def claim(versions, _last):
    """Say of a version that its bytes are those of another tenant."""
    row = versions["rows"][0]
    row[versions["columns"].index("digest")] = str(Digest.of(SECRET))
    row[versions["columns"].index("size")] = len(SECRET)


def below(versions, _last):
    """Put what was the first version of a below b, which is a file."""
    first, second, *_ = versions["rows"]
    first[versions["columns"].index("path")] = "b/x"
    for column, value in (("version", 1), ("appeared_in", 2)):
        second[versions["columns"].index(column)] = value


class TestBundles:
    @pytest.fixture
    def unpacked(self, exported, tmp_path):
        export_bundle(exported, tmp_path / "bundle")
        with tarfile.open(tmp_path / "bundle") as bundle:
            bundle.extractall(tmp_path / "unpacked", filter="data")
        return tmp_path / "unpacked"

    @pytest.mark.parametrize("name", ["../out", "/out", "packs/../../out", "x", "index.db"])
    def test_other_files_are_refused(self, unpacked, session, tmp_path, name):
        def add(bundle):
            member = tarfile.TarInfo(name)
            member.size = 1
            bundle.addfile(member, io.BytesIO(b"x"))

        pack_up(unpacked, tmp_path / "t", change=add)
        assert refused(read_bundle, session, tmp_path / "t", "no bundle")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
    def test_links_and_pipes_are_refused(self, unpacked, session, tmp_path, kind):
        def add(bundle):
            member = tarfile.TarInfo(f"packs/ab/{'ab' * 32}.pack")
            member.type, member.linkname = kind, "/etc/passwd"
            bundle.addfile(member)

        pack_up(unpacked, tmp_path / "t", change=add)
        assert refused(read_bundle, session, tmp_path / "t", "no bundle")

    def test_a_member_that_comes_twice_is_refused(self, unpacked, session, tmp_path):
        pack_up(unpacked, tmp_path / "t", change=lambda b: b.add(unpacked / "cas.json", "cas.json"))
        assert refused(read_bundle, session, tmp_path / "t")

    def test_every_flipped_bit_is_found_or_without_effect(self, exported, session, tmp_path):
        export_bundle(exported, tmp_path / "t")
        good = (tmp_path / "t").read_bytes()
        chosen = random.Random(3)
        found = 0
        for _ in range(25):
            bad = bytearray(good)
            bad[chosen.randrange(len(bad))] ^= 1 << chosen.randrange(8)
            (tmp_path / "bad").write_bytes(bad)
            try:
                read_bundle(session, tmp_path / "bad", run="x")
            except ImportSourceError:
                found += 1
            else:
                assert contents(session.run("x")) == {"a": b"second", "b": b"stays"}
                session.run("x").delete()
        assert found > 3

    @pytest.mark.parametrize("size", [0, 100, 700, 2000])
    def test_a_part_of_one_is_refused(self, exported, session, tmp_path, size):
        export_bundle(exported, tmp_path / "t")
        os.truncate(tmp_path / "t", size)
        assert refused(read_bundle, session, tmp_path / "t")

    @pytest.mark.parametrize(
        "fields",
        [
            {"GNU.sparse.map": "x,y"},
            {"GNU.sparse.size": "x", "GNU.sparse.map": "0,1"},
            {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
        ],
        ids=lambda fields: "+".join(fields),
    )
    def test_a_header_without_numbers_is_refused(self, session, tmp_path, fields):
        with tarfile.open(tmp_path / "t", "w", format=tarfile.PAX_FORMAT) as bundle:
            member = tarfile.TarInfo("cas.json")
            member.pax_headers, member.size = fields, 40
            bundle.addfile(member, io.BytesIO(b"no number\n" * 4))
        assert refused(read_bundle, session, tmp_path / "t", "of this library, or damaged$")

    def test_a_compressed_one_and_other_files_are_refused(self, exported, session, tmp_path):
        (tmp_path / "text").write_text("no tar file at all")
        assert refused(read_bundle, session, tmp_path / "text", "no bundle")

    def test_a_store_with_two_runs_is_refused(self, session, tmp_path):
        with ArtifactStore.open(tmp_path / "two") as two:
            two.session("s").run("1").put("a", b"1")
            two.session("s").run("2").put("a", b"1")
        for extra in (tmp_path / "two").iterdir():
            if extra.name not in ("packs", "cas.json"):
                shutil.rmtree(extra) if extra.is_dir() else extra.unlink()
        pack_up(tmp_path / "two", tmp_path / "t")
        assert refused(read_bundle, session, tmp_path / "t", "2 runs")

    def test_a_digest_that_others_have_stored_gives_no_access(self, exported, session, tmp_path):
        """The bytes are not in the bundle; the store has them, for another session."""
        export_ocfl(exported, tmp_path / "o")
        history = tmp_path / "o" / "extensions" / "runcas-history" / "history.jsonl"
        rewritten(history, claim)
        records = history.read_bytes().splitlines()
        rebuild_storage(tmp_path / "made", records, [[b"first"], [b"second"], [b"stays"]])
        pack_up(tmp_path / "made", tmp_path / "t")
        assert refused(read_bundle, session, tmp_path / "t", "lacks the bytes")
        assert refused(read_ocfl, session, tmp_path / "o", "lacks the bytes")

    def test_a_pack_that_lies_about_a_digest_gives_no_access(self, exported, session, tmp_path):
        """Its footer says that the bytes are there, under a digest that they do not have."""
        export_ocfl(exported, tmp_path / "o")
        history = tmp_path / "o" / "extensions" / "runcas-history" / "history.jsonl"
        rewritten(history, claim)
        records = history.read_bytes().splitlines()
        rebuild_storage(tmp_path / "made", records, [[b"first"], [b"second"], [b"stays"]])
        size = len(SECRET)
        entry = (BLOB, RAW, bytes(Digest.of(SECRET)), HEADER.size, size, size)
        pack = pack_of([entry], body=b"x" * size)
        folder = tmp_path / "made" / "packs" / name_of(pack)[:2]
        folder.mkdir(exist_ok=True)
        (folder / f"{name_of(pack)}.pack").write_bytes(pack)
        pack_up(tmp_path / "made", tmp_path / "t")
        assert refused(read_bundle, session, tmp_path / "t", "damaged")


class TestHistories:
    """What an object says of its own history, where each file has the digest that is listed."""

    @pytest.fixture
    def root(self, exported, tmp_path):
        export_ocfl(exported, tmp_path / "o")
        return tmp_path / "o"

    @pytest.fixture
    def history(self, root):
        return root / "extensions" / "runcas-history" / "history.jsonl"

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("path", "../../etc/passwd"), ("path", "/etc/passwd"), ("path", ""), ("path", "a\0b"),
            ("size", -1), ("size", 2**70), ("mode", -5), ("digest", "no digest"), ("version", 0),
            ("first_snapshot", 9), ("end_snapshot", 0), ("created_at", "tomorrow"),
            ("mode", 0o40755),
            ("workflow_phase", "x" * 999), ("generating_agent", {}), ("origin", ["a"]),
        ],
    )  # fmt: skip
    def test_values_that_no_commit_has_written_are_refused(
        self, root, history, session, column, value
    ):
        def change(versions, _last):
            versions["rows"][0][versions["columns"].index(column)] = value

        rewritten(history, change)
        assert refused(read_ocfl, session, root)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("session", ""), ("run", "a/b"), ("run", None), ("snapshots", []), ("snapshots", [{}]),
            ("tags", [{}]), ("description", {"status": "odd"}), ("description", {"no": "column"}),
            ("description", {"parent": "a/b"}), ("description", {"notes": []}), ("run_tags", [{}]),
            ("revision", "x"), ("parts", ["0" * 64]), ("op", "delete"), ("version", 99),
        ],
    )  # fmt: skip
    def test_a_last_record_like_that_is_refused(self, root, history, session, name, value):
        *others, last = history.read_bytes().splitlines()
        record = json.loads(last)
        record[name] = value
        sealed(history, b"\n".join([*others, json.dumps(record).encode(), b""]))
        assert refused(read_ocfl, session, root)

    def test_two_files_in_one_place_are_refused_in_each_format(
        self, exported, root, history, session, tmp_path
    ):
        reason = "'.*': its history is damaged: 'b' is a file in a snapshot that also has 'b/x'$"
        rewritten(history, below)
        assert refused(read_ocfl, session, root, reason)
        records = history.read_bytes()
        lines = records.splitlines()
        rebuild_storage(tmp_path / "made", lines, [[b"first"], [b"second"], [b"stays"]])
        pack_up(tmp_path / "made", tmp_path / "t")
        assert refused(read_bundle, session, tmp_path / "t", reason)
        export_bagit(exported, tmp_path / "b")
        (tmp_path / "b" / "runcas" / "history.jsonl").write_bytes(records)
        line = f"{hashlib.sha512(records).hexdigest()}  runcas/history.jsonl\n"
        (tmp_path / "b" / "tagmanifest-sha512.txt").write_text(line)
        assert refused(read_bagit, session, tmp_path / "b", reason)

    @pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"no JSON\n", b"[" * 100_000 + b"\n"])
    def test_other_bytes_are_refused(self, root, history, session, data):
        sealed(history, data)
        assert refused(read_ocfl, session, root)

    def test_a_history_that_is_cut_off_is_refused(self, root, history, session):
        sealed(history, history.read_bytes()[:-1])
        assert refused(read_ocfl, session, root, "cut off")

    def test_a_version_too_few_is_refused(self, root, history, session):
        def change(versions, last):
            versions["rows"].pop()
            last["versions"] -= 1

        rewritten(history, change)
        assert refused(read_ocfl, session, root, "changed since")


class TestObjects:
    @pytest.fixture
    def root(self, exported, tmp_path):
        export_ocfl(exported, tmp_path / "o")
        return tmp_path / "o"

    @pytest.fixture
    def plain(self, root):
        shutil.rmtree(root / "extensions")
        return root

    def write(self, root, change):
        """Change an inventory, and the digest of it."""
        file = root / "inventory.json"
        inventory = json.loads(file.read_text())
        change(inventory)
        file.write_text(json.dumps(inventory))
        digest = hashlib.sha512(file.read_bytes()).hexdigest()
        (root / "inventory.json.sha512").write_text(f"{digest} inventory.json\n")

    def content(self, root, data):
        return next(file for file in root.glob("v*/content/*") if file.read_bytes() == data)

    @pytest.mark.parametrize("with_history", [True, False])
    def test_changed_bytes_are_found(self, root, session, with_history):
        if not with_history:
            shutil.rmtree(root / "extensions")
        self.content(root, b"first").write_bytes(b"First")
        assert refused(read_ocfl, session, root, "is damaged: its sha512")

    @pytest.mark.parametrize("name", ["inventory.json", "extensions/runcas-history/history.jsonl"])
    def test_a_changed_list_is_found(self, root, session, name):
        data = (root / name).read_bytes()
        (root / name).write_bytes(data.replace(b"20", b"21", 1))
        assert refused(read_ocfl, session, root, "is damaged: its sha512")

    def test_a_missing_content_is_found(self, root, session):
        self.content(root, b"first").unlink()
        assert refused(read_ocfl, session, root, "No such file")

    @pytest.mark.parametrize("to", ["v1/content", "/etc", "extensions"])
    def test_a_link_is_not_followed(self, plain, session, to, tmp_path):
        """Outside or inside."""
        content = self.content(plain, b"first")
        (tmp_path / "other").write_bytes(b"first")
        content.unlink()
        content.symlink_to(tmp_path / "other")
        assert refused(read_ocfl, session, plain, "can't be read")
        content.unlink()
        folder = content.parent
        folder.rename(tmp_path / "folder")
        folder.symlink_to(tmp_path / "folder")
        assert refused(read_ocfl, session, plain, "can't be read")

    @pytest.mark.parametrize(
        "path", ["../../secret", "/etc/passwd", "v1/../../x", "", "v1//x", "\ud800"]
    )
    def test_nothing_outside_is_read(self, plain, session, path):
        def change(inventory):
            inventory["manifest"][next(iter(inventory["manifest"]))] = [path]

        self.write(plain, change)
        assert refused(read_ocfl, session, plain, "can't be used")

    @pytest.mark.parametrize("path", ["../up", "/abs", "a/../b", "", "a\0", "x/" * 3000])
    def test_a_path_that_leads_out_is_not_recorded(self, plain, session, path, tmp_path):
        def change(inventory):
            state = inventory["versions"]["v1"]["state"]
            state[next(iter(state))].append(path)

        self.write(plain, change)
        report = read_ocfl(session, plain)
        assert [each.path for each in report.skipped] == [path]
        assert set(contents(session.run("o"), at=1)) == {"a", "b"}
        assert not (tmp_path / "up").exists()

    @pytest.mark.parametrize(
        "change",
        [
            lambda inventory: inventory.pop("head"),
            lambda inventory: inventory.update(head="v9"),
            lambda inventory: inventory.update(versions=[]),
            lambda inventory: inventory["versions"].pop("v1"),
            lambda inventory: inventory["versions"].update(v2=None),
            lambda inventory: inventory["versions"]["v1"].update(state={"0" * 128: ["x"]}),
            lambda inventory: inventory["versions"]["v1"].update(created="yesterday"),
            lambda inventory: inventory.update(manifest={"0" * 128: []}),
            lambda inventory: inventory.update(digestAlgorithm="md5"),
            lambda inventory: [
                paths.append("\ud800") for paths in inventory["versions"]["v1"]["state"].values()
            ],
            lambda inventory: [
                paths.append("twice") for paths in inventory["versions"]["v1"]["state"].values()
            ],
        ],
        ids=[
            "no head", "another head", "no versions", "a gap", "no version", "no content",
            "no time", "no path", "another algorithm", "no name", "twice",
        ],
    )  # fmt: skip
    def test_an_inventory_that_is_not_valid_is_refused(self, plain, session, change):
        self.write(plain, change)
        assert refused(read_ocfl, session, plain, "not valid")

    def test_a_version_that_others_have_added_is_not_lost(self, root, session):
        """Its history does not have it."""

        def change(inventory):
            version = dict(inventory["versions"]["v2"], message="by others")
            inventory["versions"]["v3"] = version
            inventory["head"] = "v3"

        self.write(root, change)
        assert refused(read_ocfl, session, root, "has changed since it was exported")
        shutil.rmtree(root / "extensions")
        assert read_ocfl(session, root).snapshots == 3

    def test_other_directories_are_refused(self, session, tmp_path):
        assert refused(read_ocfl, session, tmp_path, "no OCFL object")


class TestBags:
    @pytest.fixture
    def root(self, exported, tmp_path):
        export_bagit(exported, tmp_path / "b")
        return tmp_path / "b"

    @pytest.fixture
    def plain(self, exported, tmp_path):
        export_bagit(exported, tmp_path / "p", at=1)
        return tmp_path / "p"

    def listed(self, root, line, *, name="manifest-sha512.txt"):
        """Add a line to a manifest, without a tag manifest that would know better."""
        (root / "tagmanifest-sha512.txt").unlink(missing_ok=True)
        with (root / name).open("a") as opened:
            opened.write(f"{line}\n")

    @pytest.mark.parametrize("name", ["data/files/a", "data/files/b", "bag-info.txt", "bagit.txt",
                                      "manifest-sha512.txt", "runcas/history.jsonl"])  # fmt: skip
    def test_changed_bytes_are_found(self, root, session, name):
        with (root / name).open("ab") as opened:
            opened.write(b"\n")
        assert refused(read_bagit, session, root, "damaged: its sha512")

    def test_a_missing_file_is_found(self, root, session):
        (root / "data" / "files" / "a").unlink()
        assert refused(read_bagit, session, root, "it lacks 'data/files/a'")

    def test_a_file_to_be_fetched_is_named(self, plain, session):
        (plain / "data" / "a").rename(plain / "elsewhere")
        (plain / "fetch.txt").write_text("https://example.org/a 5 data/a\n")
        assert refused(read_bagit, session, plain, "fetch first")

    def test_a_file_too_many_is_found(self, plain, session):
        (plain / "data" / "more").write_bytes(b"x")
        assert refused(read_bagit, session, plain, "does not list 'data/more'")

    def test_a_content_in_place_of_another_is_found(self, root, session):
        """All digests are listed as they are; but the history tells otherwise."""
        file = root / "data" / "files" / "a"
        old = hashlib.sha512(file.read_bytes()).hexdigest()
        file.write_bytes(b"stays")
        new = hashlib.sha512(b"stays").hexdigest()
        name = root / "manifest-sha512.txt"
        before = hashlib.sha512(name.read_bytes()).hexdigest()
        name.write_text(name.read_text().replace(old, new))
        tags = root / "tagmanifest-sha512.txt"
        after = hashlib.sha512(name.read_bytes()).hexdigest()
        tags.write_text(tags.read_text().replace(before, after))
        assert refused(read_bagit, session, root)

    def test_a_link_is_not_followed(self, plain, session, tmp_path):
        (tmp_path / "other").write_bytes(b"first")
        (plain / "data" / "a").unlink()
        (plain / "data" / "a").symlink_to(tmp_path / "other")
        assert refused(read_bagit, session, plain, "can't be read")
        (plain / "data" / "a").unlink()
        (plain / "data" / "d").symlink_to(tmp_path)
        assert refused(read_bagit, session, plain, "lacks 'data/a'")
        (plain / "data" / "a").write_bytes(b"first")
        assert refused(read_bagit, session, plain, "does not list 'data/d'")

    @pytest.mark.parametrize("name", ["manifest-sha512.txt", "tagmanifest-sha512.txt"])
    def test_a_file_with_two_digests_is_refused(self, plain, session, name):
        file = "data/a" if name.startswith("m") else "bagit.txt"
        right = hashlib.sha512((plain / file).read_bytes()).hexdigest()
        (plain / "tagmanifest-sha512.txt").unlink()
        with (plain / name).open("a") as opened:
            opened.write(f"{right}  {file}\n{right.upper()}  {file}\n")
        assert read_bagit(session, plain, run="same").versions == 2
        session.run("same").delete()
        (plain / name).write_text(f"{'0' * 128}  {file}\n{(plain / name).read_text()}")
        assert refused(read_bagit, session, plain, f"{name} lists '{file}' with two digests")

    @pytest.mark.parametrize("path", ["../other", "data/../../other", "/etc/passwd", "~/x"])
    def test_nothing_outside_is_read(self, plain, session, path, tmp_path):
        (tmp_path / "other").write_bytes(b"first")
        self.listed(plain, f"{hashlib.sha512(b'first').hexdigest()}  {path}")
        assert refused(read_bagit, session, plain, "lacks")
        self.listed(plain, f"{'0' * 128}  {path}", name="tagmanifest-sha512.txt")
        assert refused(read_bagit, session, plain)

    @pytest.mark.parametrize("text", ["", "BagIt-Version: 1.0\n", "BagIt-Version: 1.0\n"
                                      "Tag-File-Character-Encoding: UTF-16\n"])  # fmt: skip
    def test_another_encoding_is_refused(self, plain, session, text):
        (plain / "tagmanifest-sha512.txt").unlink()
        (plain / "bagit.txt").write_text(text)
        assert refused(read_bagit, session, plain, "tag files in")

    def test_a_bag_without_a_manifest_is_refused(self, plain, session):
        (plain / "tagmanifest-sha512.txt").unlink()
        (plain / "manifest-sha512.txt").rename(plain / "manifest-crc32.txt")
        assert refused(read_bagit, session, plain, "no manifest by one of")

    def test_a_history_that_is_not_listed_is_refused(self, root, session):
        (root / "tagmanifest-sha512.txt").unlink()
        assert refused(read_bagit, session, root, "tag manifest does not list")

    def test_other_directories_are_refused(self, session, tmp_path):
        assert refused(read_bagit, session, tmp_path, "no bag")
