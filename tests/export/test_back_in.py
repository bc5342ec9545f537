"""What was exported with its history comes back as it was; what others made, as they say it is."""

from __future__ import annotations

import hashlib
import shutil

import bagit
import ocfl
import pytest
from lived import known_of, live
from places import on_one
from trees import contents, write

from index import ArtifactStore, SyncOutcome
from index.errors import ImportSourceError, InvalidNameError, NoDestinationError
from index.export import FORMATS, export_bagit, export_ocfl
from index.imports import read_bagit, read_bundle, read_ocfl

READ = {"ocfl": read_ocfl, "bagit": read_bagit, "bundle": read_bundle}

each_format = pytest.mark.parametrize("name", [*READ])


def export(name, run, target):
    return FORMATS[name].exporter(name)(run, target)


@pytest.fixture
def session(store):
    return store.session("session-1")


@pytest.fixture
def there(tmp_path):
    """A session of another store."""
    with ArtifactStore.open(tmp_path / "there") as opened:
        yield opened.session("elsewhere")


class TestWithHistory:
    @each_format
    def test_all_comes_back_in_another_session_and_under_another_name(
        self, store, run, work, tmp_path, name
    ):
        live(run, work)
        export(name, run, tmp_path / "t")
        target = store.session("elsewhere")
        report = READ[name](target, tmp_path / "t", run="again")
        again = target.run("again")
        assert known_of(again) == known_of(run)
        assert contents(again) == contents(run)
        assert (report.session, report.run, report.format) == ("elsewhere", "again", name)
        assert (report.snapshots, report.skipped) == (5, ())
        versions = run.stats()
        assert (report.versions, report.bytes) == (versions.versions, versions.version_bytes)
        assert not store.verify(depth="bytes").counts
        # It goes on as any run does.
        again.put("more", b"more")
        assert store.session("elsewhere").run("again").restore(tmp_path / "out").written > 8

    @on_one(because="what is committed is what sync commits, whose tests run on all")
    @each_format
    def test_an_archive_does_not_say_where_a_restore_in_place_writes(
        self, run, there, work, tmp_path, name
    ):
        write(work, {"a": b"a"})
        run.track(work)
        export(name, run, tmp_path / "t")
        READ[name](there, tmp_path / "t")
        found = there.run("run-1")
        assert found.summary().work_dir is None
        (work / "a").unlink()
        with pytest.raises(NoDestinationError, match="no scan in this store has recorded one"):
            found.restore()
        assert not (work / "a").exists()
        assert there.copy_run(run).runs[0].outcome is SyncOutcome.UNCHANGED

    @on_one(because="what is committed is what sync commits, whose tests run on all")
    @each_format
    def test_a_run_that_is_there_keeps_its_own_work_directory(
        self, store, run, there, work, tmp_path, name
    ):
        write(work, {"a": b"a"})
        run.track(work)
        export(name, run, tmp_path / "first")
        READ[name](there, tmp_path / "first")
        mine = tmp_path / "mine"
        there.run("run-1").restore(mine)
        there.run("run-1").track(mine)
        write(work, {"a": b"b"})
        run.track(work)
        export(name, run, tmp_path / "second")
        for _ in range(2):
            READ[name](there, tmp_path / "second")
            assert there.run("run-1").summary().work_dir == str(mine)
        READ[name](store.session("session-1"), tmp_path / "second")
        assert run.summary().work_dir == str(work)

    @on_one(because="what is committed is what sync commits, whose tests run on all")
    @each_format
    def test_the_id_is_that_of_the_run_by_default(self, run, there, tmp_path, name):
        run.put("a", b"a")
        export(name, run, tmp_path / "t")
        assert READ[name](there, tmp_path / "t").run == "run-1"

    @on_one(because="what is committed is what sync commits, whose tests run on all")
    @each_format
    def test_another_import_adds_what_is_new(self, run, there, tmp_path, name):
        run.put("a", b"1")
        export(name, run, tmp_path / "first")
        READ[name](there, tmp_path / "first")
        run.put("a", b"two")
        run.tag("best")
        export(name, run, tmp_path / "second")
        report = READ[name](there, tmp_path / "second")
        assert (report.snapshots, report.versions, report.bytes) == (1, 1, 3)
        assert known_of(there.run("run-1")) == known_of(run)
        for source in ("first", "second"):
            report = READ[name](there, tmp_path / source)
            assert (report.snapshots, report.versions, report.bytes) == (0, 0, 0)
        assert known_of(there.run("run-1")) == known_of(run)

    @on_one(because="what is committed is what sync commits, whose tests run on all")
    @each_format
    def test_a_run_of_that_name_with_another_history_stays(self, run, there, tmp_path, name):
        run.put("a", b"a")
        export(name, run, tmp_path / "t")
        there.run("run-1").put("mine", b"mine")
        with pytest.raises(ImportSourceError, match=r"has another history: .*; import into"):
            READ[name](there, tmp_path / "t")
        assert contents(there.run("run-1")) == {"mine": b"mine"}

    @on_one(because="what is committed is what sync commits, whose tests run on all")
    @each_format
    def test_a_fork_comes_back_complete_without_its_parent(self, run, there, tmp_path, name):
        run.put_many([("a", b"1"), ("b", b"1")], agent="first")
        run.put("a", b"2")
        fork = run.fork("fork", at=1)
        fork.put("a", b"3")
        export(name, fork, tmp_path / "t")
        READ[name](there, tmp_path / "t")
        found = there.run("fork")
        assert contents(found, at=1) == {"a": b"1", "b": b"1"}
        assert contents(found) == {"a": b"3", "b": b"1"}
        assert found.file("b").agent == "first"
        assert there.runs()[0].parent is None

    @on_one(because="it is refused before anything is read")
    @each_format
    def test_an_id_that_no_run_can_have_is_refused(self, run, there, tmp_path, name):
        run.put("a", b"a")
        export(name, run, tmp_path / "t")
        with pytest.raises(InvalidNameError):
            READ[name](there, tmp_path / "t", run="a/b")

    @on_one(because="the crash is between two commits of sync, whose tests run on all")
    @each_format
    def test_an_import_that_was_interrupted_is_repeated(
        self, run, there, tmp_path, name, monkeypatch
    ):
        run.put_many([("a", b"1"), ("b", b"2")])
        export(name, run, tmp_path / "t")

        def interrupt(*_arguments, **_options):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("index.transfer.sync.record", interrupt)
            with pytest.raises(KeyboardInterrupt):
                READ[name](there, tmp_path / "t")
        assert READ[name](there, tmp_path / "t").snapshots == 1
        assert contents(there.run("run-1")) == {"a": b"1", "b": b"2"}

    @on_one(because="it says the same of every store")
    def test_a_store_that_lost_its_index_recovers_what_was_imported(self, run, tmp_path):
        run.put("a", b"1", agent="first")
        run.tag("best")
        export_ocfl(run, tmp_path / "t")
        with ArtifactStore.open(tmp_path / "new") as store:
            read_ocfl(store.session("s"), tmp_path / "t")
            known = known_of(store.session("s").run("run-1"))
        from index import recover

        (tmp_path / "new" / "index.db").unlink()
        recover(tmp_path / "new")
        with ArtifactStore.open(tmp_path / "new") as store:
            assert known_of(store.session("s").run("run-1")) == known


@on_one(because="what is recorded is recorded by `Run.track`, whose tests run on all")
class TestOfOthers:
    def made_by_ocfl_py(self, tmp_path, states):
        """Make an object of some states with the tools of ocfl-py."""
        root = tmp_path / "object"
        for number, files in enumerate(states, 1):
            folder = tmp_path / f"state-{number}"
            write(folder, files)
            about = ocfl.VersionMetadata(
                created=f"2020-01-0{number}T10:00:00Z", message=f"m{number}", name="Ann",
                address="mailto:ann@example.org",
            )  # fmt: skip
            made = ocfl.Object(identifier="urn:x:1")
            if number == 1:
                made.create(srcdir=str(folder), metadata=about, objdir=str(root))
            else:
                made.add_version_with_content(objdir=str(root), srcdir=str(folder), metadata=about)
        return root

    STATES = (
        {"a": b"1", "d/b": b"2", "gone": b"3", "empty": b""},
        {"a": b"one", "d/b": b"2", "copy": b"2"},
    )

    def test_each_version_of_an_object_becomes_a_snapshot(self, session, tmp_path):
        root = self.made_by_ocfl_py(tmp_path, self.STATES)
        report = read_ocfl(session, root)
        run = session.run("object")
        assert (report.snapshots, report.skipped) == (2, ())
        assert [contents(run, at=n) for n in (1, 2)] == [*self.STATES]
        assert [each.provenance.agent for each in run.snapshots()] == ["Ann", "Ann"]
        notes = run.snapshots()[1].notes
        assert (notes["message"], notes["created"]) == ("m2", "2020-01-02T10:00:00Z")
        assert read_ocfl(session, root).snapshots == 0

    def test_a_new_version_is_added_by_the_next_import(self, session, tmp_path):
        root = self.made_by_ocfl_py(tmp_path, self.STATES[:1])
        read_ocfl(session, root)
        for each in ("object", "state-1"):
            shutil.rmtree(tmp_path / each)
        root = self.made_by_ocfl_py(tmp_path, self.STATES)
        assert read_ocfl(session, root).snapshots == 1
        assert contents(session.run("object")) == self.STATES[1]

    def test_an_export_without_its_history_is_an_object_of_others(self, run, session, tmp_path):
        run.put("a", b"1", agent="first")
        run.put("a", b"2", agent="second")
        export_ocfl(run, tmp_path / "o")
        shutil.rmtree(tmp_path / "o" / "extensions")
        read_ocfl(session, tmp_path / "o")
        assert [each.agent for each in session.run("o").history("a")] == ["first", "second"]

    def test_a_storage_root_is_explained(self, session, tmp_path):
        (tmp_path / "0=ocfl_1.1").touch()
        with pytest.raises(ImportSourceError, match="name the directory of one object"):
            read_ocfl(session, tmp_path)

    @pytest.mark.parametrize("checksums", [["md5"], ["sha1", "sha256"], ["sha512"]], ids=str)
    def test_a_bag_becomes_a_snapshot(self, session, tmp_path, checksums):
        files = {"a": b"1", "d/ä b": b"2", "empty": b"", "x\ny": b"3", "100%": b"4"}
        root = tmp_path / "a bag"
        write(root, files)
        (root / "a").chmod(0o755)
        bagit.make_bag(str(root), {"Contact-Name": "Ann"}, checksums=checksums)
        report = read_bagit(session, root)
        run = session.run("a bag")
        assert (report.snapshots, report.versions, report.skipped) == (1, 5, ())
        assert contents(run) == files
        assert run.file("a").mode & 0o777 == 0o755
        assert run.snapshots()[0].notes["bag_info"]["Contact-Name"] == "Ann"
        assert read_bagit(session, root).snapshots == 0

    @pytest.mark.parametrize("space", ["  ", " *", "\t", " \t "], ids=repr)
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
    def test_each_way_to_write_the_lists_of_a_bag_is_read(self, session, tmp_path, space, end):
        root = tmp_path / "bag"
        write(root, {"data/a": b"1", "data/ b": b"1"})
        digest = hashlib.sha256(b"1").hexdigest()
        for name, lines in {
            "bagit.txt": ["BagIt-Version: 1.0", "Tag-File-Character-Encoding: UTF-8"],
            "bag-info.txt": ["Keyword: one", "Keyword: two", "  and a half", "Note: 1"],
            "manifest-sha256.txt": [f"{digest}{space}data/a", f"{digest}{space}data/ b"],
        }.items():
            (root / name).write_bytes("".join(f"{line}{end}" for line in lines).encode())
        assert read_bagit(session, root).versions == 2
        assert contents(session.run("bag")) == {"a": b"1", " b": b"1"}
        info = session.run("bag").snapshots()[0].notes["bag_info"]
        assert info == {"Keyword": "one\ntwo and a half", "Note": "1"}

    def test_the_bag_of_a_snapshot_comes_back(self, run, session, tmp_path):
        files = {"a": b"1", "d/100%.csv": b"2", "x\ny": b"3"}
        run.put_many(files.items())
        export_bagit(run, tmp_path / "b", at=1)
        read_bagit(session, tmp_path / "b", run="again")
        assert contents(session.run("again")) == files
