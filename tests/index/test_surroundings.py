"""What surrounds a process may be missing: standard streams, directories, the space for output."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import tempfile
from functools import partial

import pytest
from trees import contents, read, write

from cas.errors import BackendError, StorageFullError
from index import ArtifactStore, recover
from index.cli import main

START = "from index.cli import main; main()"


@pytest.fixture
def shell(tmp_path):
    """Run the command with the shell's redirections, in a directory with a work directory."""
    write(tmp_path / "work", {"a": b"1"})

    def shell(arguments, redirections="", before=""):
        line = f'{before} "$PYTHON" -c "{START}" {arguments} {redirections}'
        return subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ
            | {"PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        )

    return shell


def run_in(folder):
    """Return what the run of the shell's store holds."""
    with ArtifactStore.open(folder / ".cas", create=False) as store:
        return contents(store.session("default").run("r"))


class TestClosedStreams:
    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
    def test_a_command_does_its_work(self, shell, tmp_path, closed):
        done = shell("track work --run r", closed)
        assert (done.returncode, done.stderr) == (0, "")
        assert run_in(tmp_path) == {"a": b"1"}

    @pytest.mark.parametrize(
        ("arguments", "closed", "told"),
        [
            ("put - --as q --run r", "<&-", "standard input is closed"),
            ("cat a --run r", ">&-", "standard output is closed"),
        ],
    )
    def test_what_needs_one_says_so(self, shell, arguments, closed, told):
        shell("track work --run r")
        done = shell(arguments, closed)
        assert done.returncode == 2
        assert told in done.stderr
        assert "Traceback" not in done.stderr

    def test_messages_do_not_go_into_files_of_the_store(self, shell, tmp_path):
        """The numbers of closed streams are free for the next files that are opened."""
        shell("track work --run r", ">&- 2>&-", before="umask 077;")
        shell("restore --to out --run nobody", "<&- >&- 2>&-")
        assert run_in(tmp_path) == {"a": b"1"}
        with ArtifactStore.open(tmp_path / ".cas") as store:
            assert store.verify(depth="bytes").is_sound

    def test_an_error_keeps_its_exit_code(self, shell):
        assert shell("ls --run r", ">&- 2>&-").returncode == 4
        assert shell("no-such-command", ">&- 2>&-").returncode == 2


class TestPlaces:
    def test_a_current_directory_that_was_removed_is_named(self, shell):
        done = shell("ls", before="mkdir gone; cd gone; rmdir ../gone;")
        assert done.returncode == 2
        assert "the current directory can't be used" in done.stderr

    def test_it_is_not_needed_if_all_is_given_in_full(self, shell, tmp_path):
        done = shell(
            f"--store {tmp_path}/.cas track {tmp_path}/work --run r",
            before="mkdir gone; cd gone; rmdir ../gone;",
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert run_in(tmp_path) == {"a": b"1"}

    def test_a_store_may_be_in_a_directory_whose_name_is_not_utf_8(self, work, tmp_path):
        write(work, {"a": b"1"})
        root = os.fsdecode(os.fsencode(tmp_path) + b"/st\xff")
        with ArtifactStore.open(root) as store:
            run = store.session("s").run("r")
            run.track(work)
            assert contents(run) == {"a": b"1"}
            assert str(store.stats().index).endswith("index.db")
        os.unlink(f"{root}/index.db")
        assert recover(root).runs == 1

    @pytest.mark.parametrize("arguments", [["who", "x" * 300], ["sync", "x" * 300, "copy"]])
    def test_a_name_that_no_file_can_have_is_not_found(
        self, tmp_path, monkeypatch, capfd, arguments
    ):
        monkeypatch.chdir(tmp_path)
        ArtifactStore.open(".cas").close()
        with pytest.raises(SystemExit) as done:
            main(arguments)
        assert done.value.code in (4, 5)
        assert "Errno" not in capfd.readouterr().err

    def test_output_without_room_is_told_from_a_store_without_room(self, shell):
        shell("track work --run r")
        done = shell("ls --run r", "> listing", before="ulimit -f 0;")
        assert done.returncode == 1
        assert done.stderr == "error: standard output can't be used: File too large\n"


class Pipe(io.RawIOBase):
    """More bytes than are held in memory, that can't be read twice."""

    def __init__(self, size=20 << 20):
        self._left = size

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(self._left, len(buffer))
        buffer[:size] = bytes(size)
        self._left -= size
        return size


def _put(store, _work):
    store.session("s").run("r").put("p", io.BufferedReader(Pipe(), 1 << 20))


def _back_up(store, _work):
    store.back_up()


def _track_remotely(store, work):
    index = store.context.database.file.replace("index.db", "other.db")
    with ArtifactStore.open(index=f"sqlite:///{index}", blobs=f"memory://{work}") as remote:
        remote.session("s").run("r").track(work)


def _rehearse_recovery(store, _work):
    recover(store.context.blobs.url, dry_run=True)


def _keep_a_reference(store, work):
    store.session("s").run("q").use(work / "a", keep_as="a")


USES = [_put, _back_up, _track_remotely, _rehearse_recovery, _keep_a_reference]


@pytest.mark.parametrize("use", USES)
class TestTemporaryFiles:
    @pytest.fixture
    def prepared(self, store_root, work):
        write(work, {"a": b"1"})
        with ArtifactStore.open(store_root) as store:
            store.session("s").run("r").track(work)
            yield store

    def test_without_a_directory_for_them_the_way_out_is_told(
        self, prepared, work, monkeypatch, use
    ):
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
        with pytest.raises(BackendError, match=r"temporary files: No usable.*set TMPDIR"):
            use(prepared, work)
        assert contents(prepared.session("s").run("r")) == read(work)

    def test_a_full_disk_is_named(self, prepared, work, tmp_path, monkeypatch, use):
        def full(*_args, **_kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        for name in ("TemporaryFile", "TemporaryDirectory"):
            monkeypatch.setattr(tempfile, name, full)
        with pytest.raises(StorageFullError, match=f"temporary files in {tmp_path}"):
            use(prepared, work)


def test_room_that_ends_while_a_reference_is_read_is_named(run, work, monkeypatch):
    write(work, {"a": b"1"})
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, "/dev/full", "w+b"))
    with pytest.raises(StorageFullError, match="temporary files in "):
        run.use(work / "a", keep_as="a")


def test_an_error_of_the_callers_own_stream_stays_what_it_is(run):
    class Broken(Pipe):
        def readinto(self, _buffer):
            raise OSError(errno.EIO, "the tape is torn")

    with pytest.raises(OSError, match="the tape is torn"):
        run.put("p", Broken())


def test_a_command_without_memory_says_so(cas, tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"1")
    store = ["--store", str(tmp_path / "store")]

    def full(*_args):
        raise MemoryError

    monkeypatch.setattr(os, "pread", full)
    code, _, err = cas(*store, "put", str(tmp_path / "f"), "--run", "r")
    assert code == 1
    assert err == "error: no memory is left to record 'r'; free some and run the command again\n"
    code, _, err = cas(*store, "init")
    assert (code, err) == (1, "error: no memory is left; free some and run the command again\n")


class TestAFileInPlaceOfADirectory:
    def test_a_store_there_is_told_to_be_a_directory(self, tmp_path):
        file = tmp_path / "cas.toml"
        file.write_bytes(b"")
        told = f"{file}: it is a file; give a directory"
        for use in (
            lambda: ArtifactStore.open(file),
            lambda: ArtifactStore.open(file / "below"),
            lambda: ArtifactStore.open(index=f"sqlite:///{tmp_path}/i.db", blobs=file),
            lambda: recover(file),
        ):
            with pytest.raises(BackendError, match=told):
                use()

    @pytest.mark.parametrize("arguments", [["ls"], ["init"], ["recover"], ["db", "upgrade"]])
    def test_a_command_says_what_to_give(self, cas, tmp_path, arguments):
        file = tmp_path / "cas.toml"
        file.write_bytes(b"")
        code, _, err = cas("--store", str(file), *arguments)
        assert code == 2
        assert f"--store takes a directory, not the file {file}" in err
        assert "is found from its directory" in err
