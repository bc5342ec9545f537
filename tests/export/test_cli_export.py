"""`cas export`, as people type it, and `cas import` of what it wrote."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from contextlib import contextmanager

import pytest
from trees import read, write

from index.export import FORMATS

CAS = [sys.executable, "-c", "from index.cli import main; main()"]


@pytest.fixture
def tracked(cas, tmp_path):
    write(tmp_path / "work", {"plan.md": b"a plan", "data/r.csv": b"1,2\n"})
    (tmp_path / "work" / "out").symlink_to("../../elsewhere")
    assert cas("track", "work")[0] == 0
    write(tmp_path / "work", {"data/r.csv": b"3,4,5\n"})
    assert cas("track", "work")[0] == 0
    return cas


def test_the_file_is_named_after_the_run(tracked, tmp_path):
    assert tracked("export", "--as", "zip") == (
        0,
        "work.zip: 2 files (12 B) exported as zip\n",
        "left out out: it is a link that leads out of this directory\n",
    )
    with zipfile.ZipFile(tmp_path / "work.zip") as archive:
        assert archive.read("data/r.csv") == b"3,4,5\n"


@pytest.mark.parametrize(
    ("kind", "name"), [("ocfl", "work.ocfl"), ("bagit", "work.bag"), ("bundle", "work.bundle")]
)
def test_a_history_goes_out_and_comes_back(tracked, tmp_path, kind, name):
    code, out, err = tracked("export", "work", "--as", kind)
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}: 2 snapshots, 4 files (")
    code, out, _ = tracked("--store", "other", "import", name)
    assert (code, out) == (
        0, f"run work: 2 snapshots, 4 file versions, {out.split(', ')[2]}",
    )  # fmt: skip
    assert tracked("--store", "other", "cat", "data/r.csv@1")[1] == "1,2\n"
    assert tracked("--store", "other", "import", name)[1] == "run work: nothing new\n"


def test_a_name_that_no_file_can_have_is_encoded(cas, tmp_path):
    write(tmp_path / "work", {"a": b"a"})
    assert cas("track", "work", "--run", "a:b c%é")[0] == 0
    assert cas("export", "--as", "tar")[1].startswith("a%3Ab c%25%C3%A9.tar: 1 file")


def test_standard_output_gets_the_archive_and_nothing_else(tracked, tmp_path):
    with (tmp_path / "t.tar").open("wb") as opened:
        done = subprocess.run(
            [*CAS, "export", "--as", "tar", "-o", "-"],
            stdout=opened, stderr=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    assert done.stderr.startswith("standard output: 2 files (12 B) exported as tar\n")
    with tarfile.open(tmp_path / "t.tar") as archive:
        assert archive.getnames() == ["data/r.csv", "plan.md", "LEFT-OUT.txt"]


def test_a_closed_pipe_ends_it(tracked):
    with subprocess.Popen(
        [*CAS, "export", "--as", "tar", "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 1
    assert told == b""  # as of other commands


def test_json_is_one_object(tracked):
    code, out, _ = tracked("export", "--as", "bagit", "--at", "1", "--json")
    report = json.loads(out)
    assert code == 0
    assert report.pop("left_out") == [
        {"path": "out", "reason": "it is a link, which a bag can't hold"}
    ]
    assert report == {
        "session": "default", "run": "work", "format": "bagit", "target": "work.bag",
        "snapshots": 1, "files": 2, "bytes": 10,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--as", "ocfl", "--at", "1"), 2, "holds the whole history and takes no --at"),
        (("--as", "bagit", "-o", "-"), 2, "makes a directory; name a new one with -o DIR"),
        (("--as", "zip", "-o", "-", "--json"), 2, "--json goes to standard output, too"),
        (("--as", "zip", "-o", "work"), 1, "it exists already; remove it, or choose another"),
        (("--as", "zip", "-o", "no/where"), 1, "cannot export to 'no/where': No such file"),
        (("--as", "nothing"), 2, "is not one of 'zip', 'tar'"),
        ((), 2, "Missing option '--as'"),
        (("--as", "zip", "--at", "9"), 4, "has no snapshot 9"),
        (("other", "--as", "zip"), 4, "no run 'other'"),
        (("other", "--as", "ocfl"), 4, "no run 'other'"),
    ],
)
def test_what_can_not_be_is_said_in_a_sentence(tracked, tmp_path, arguments, code, sentence):
    before = read(tmp_path)
    got, _, err = tracked("export", *arguments)
    assert (got, sentence in err) == (code, True), err
    assert read(tmp_path).keys() == before.keys()


def test_of_several_runs_one_is_asked_for_as_the_command_takes_it(tracked, tmp_path):
    write(tmp_path / "another", {"a": b"a"})
    assert tracked("track", "another")[0] == 0
    code, _, err = tracked("export", "--as", "zip")
    assert code == 2
    assert "name the run as the argument RUN; the newest are: work, another" in err


class TestSignals:
    @pytest.fixture
    def sending(self, monkeypatch):
        """Return a function that lets the next exports get a signal amid their work."""

        def sending(number):
            @contextmanager
            def progress_bar(_title):
                yield lambda _progress: signal.raise_signal(number)

            monkeypatch.setattr("index.cli.export.progress_bar", progress_bar)

        return sending

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    @pytest.mark.parametrize("name", [*FORMATS])
    def test_an_export_that_is_told_to_end_leaves_nothing(
        self, tracked, tmp_path, sending, name, number
    ):
        sending(number)
        before, handler = sorted(tmp_path.iterdir()), signal.getsignal(number)
        code, out, err = tracked("export", "--as", name)
        assert (code, out) == (128 + number, "")
        assert err.strip() == "interrupted; nothing was written; run it again"
        assert sorted(tmp_path.iterdir()) == before
        assert signal.getsignal(number) == handler

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_that_comes_twice_leaves_nothing(
        self, tracked, tmp_path, sending, monkeypatch, number
    ):
        def remove(*arguments, **options):
            signal.raise_signal(number)
            rmtree(*arguments, **options)

        sending(number)
        before, rmtree = sorted(tmp_path.iterdir()), shutil.rmtree
        monkeypatch.setattr("index.export.targets.shutil.rmtree", remove)
        assert tracked("export", "--as", "bagit")[0] == 128 + number
        assert sorted(tmp_path.iterdir()) == before

    def test_what_stays_is_told_of_the_command_and_not_of_a_store_with_its_name(
        self, tracked, tmp_path, sending
    ):
        (tmp_path / ".cas").rename(tmp_path / "backup")
        sending(signal.SIGINT)
        _, _, err = tracked("--store", "backup", "export", "--as", "zip")
        assert err.strip() == "interrupted; nothing was written; run it again"

    def test_a_signal_that_the_caller_ignores_ends_nothing(self, tracked, sending):
        sending(signal.SIGHUP)
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        try:
            assert tracked("export", "--as", "zip")[0] == 0
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_the_handler_of_an_application_stays_and_a_thread_sets_none(self, tracked, sending):
        sending(signal.SIGTERM)
        seen = []
        before = signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
        try:
            assert tracked("export", "--as", "zip", "-o", "one")[0] == 0
        finally:
            signal.signal(signal.SIGTERM, before)
        assert set(seen) == {signal.SIGTERM}  # one for each call of the progress
        codes = []
        thread = threading.Thread(target=lambda: codes.append(tracked("ls")[0]))
        thread.start()
        thread.join()
        assert codes == [0]


def test_a_damaged_archive_is_named(tracked, tmp_path):
    tracked("export", "--as", "bagit", "-o", "bag")
    (tmp_path / "bag" / "data" / "files" / "plan.md").write_bytes(b"another")
    code, _, err = tracked("--store", "other", "import", "bag")
    assert code == 1
    assert "'data/files/plan.md' is damaged: its sha512 is" in err
