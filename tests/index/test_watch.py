"""A directory is tracked each time it has changed, until that is ended."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys

import pytest
from places import places
from trees import contents, read, write

from index import ArtifactStore, provenance
from index.errors import MissingPackageError, OtherDirectoryError, WorkDirectoryError
from index.scan.coverage import Coverage
from index.scan.events import Lookout, due

place = places(["sqlite-local"])  # events are those of a directory; scans are tested elsewhere

QUICK = {"quiet_period": 0.04, "max_delay": 30}


class TestWhenAScanIsDue:
    def times(self, changes, **how):
        """Return when scans are due, for the times of looks and whether something changed."""
        now = []

        def looks():
            for at, changed in changes:
                now[:] = [at]
                yield changed

        return [now[0] for _ in due(looks(), clock=lambda: now[0], **how)]

    def test_it_is_after_a_quiet_period_since_the_last_change(self):
        changes = [(0, False), (1, True), (2, True), (3, False), (4, False), (5, False)]
        assert self.times(changes, quiet_period=2, max_delay=60) == [4]
        assert self.times(changes, quiet_period=3, max_delay=60) == [5]
        assert self.times(changes, quiet_period=0, max_delay=60) == [1, 2]

    def test_it_is_after_the_longest_delay_if_changes_go_on(self):
        changes = [(at, True) for at in range(20)]
        assert self.times(changes, quiet_period=2, max_delay=5) == [5, 11, 17]

    def test_it_is_never_without_a_change(self):
        assert self.times([(at, False) for at in range(99)], quiet_period=0, max_delay=0) == []

    def test_what_changes_during_a_scan_is_for_the_next_one(self):
        changes = [(1, True), (3, False), (9, True), (10, False), (11, False)]
        assert self.times(changes, quiet_period=2, max_delay=60) == [3, 11]


class TestWhatConcernsAScan:
    """Exactly what a scan would find new, and what has changed in the run."""

    PATHS = ("new", "d/new", "d/e/new", ".hidden", ".h/new", "x.tmp", "node_modules/new", "a.log",
             "logs/new", "d/logs/new", "caf\udce9", "d/.keep/new", ".venv/lib/new")  # fmt: skip

    @pytest.fixture
    def lookout(self, store, run, work):
        def lookout(prefix="", **how):
            state = run._tracker._committer.load_state(run.key)
            own = store.context.own_files
            return Lookout(str(work), state.directories, Coverage(**how), own=own, prefix=prefix)

        return lookout

    @pytest.mark.parametrize(
        "how",
        [
            {},
            {"hidden": True},
            {"default_ignores": False},
            {"hidden": True, "default_ignores": False},
            {"ignore": ["*.log", "logs/", "!.keep/"]},
            {"ignore": ["d", "!node_modules/"]},
            {"scope": ["d/e", "logs", "x.tmp"]},
            {"scope": ["node_modules", ".h"]},
        ],
        ids=str,
    )
    def test_a_path_concerns_it_if_a_scan_would_record_it(self, run, work, lookout, how):
        found = lookout(**how)
        for path in self.PATHS:
            write(work, {path: b"1"})
            recorded = path in [entry.path for entry in run.status(work, **how).added]
            assert found.concerns(path) == recorded, path
        assert [found.concerns(path) for path in self.PATHS].count(True) >= 2

    def test_an_ignore_file_concerns_it_and_holds(self, work, lookout):
        write(work, {"d/.casignore": b"*.csv\n", "d/a.csv": b"1", "a.csv": b"1"})
        assert lookout().concerns("d/.casignore")
        assert not lookout().concerns("d/.gitignore")
        assert lookout(gitignore=True).concerns("d/.gitignore")
        assert not lookout().concerns("d/a.csv")
        assert lookout().concerns("a.csv")

    def test_what_the_run_holds_concerns_it_wherever_it_is(self, run, work, lookout):
        write(work, {".h/held": b"1", "x.tmp": b"1", "gone.tmp": b"1"})
        run.track(work, hidden=True, default_ignores=False)
        (work / "gone.tmp").unlink()
        for path in (".h/held", "x.tmp", "gone.tmp"):
            assert lookout().concerns(path)
        assert not lookout(ignore=["*.tmp"]).concerns("x.tmp")
        assert not lookout().concerns(".h/other")
        assert not lookout(prefix="p").concerns(".h/held")

    def test_what_is_gone_concerns_it_unless_it_was_passed_over(self, lookout):
        assert lookout().concerns("gone")
        assert lookout().concerns("gone/deep")
        assert not lookout().concerns("gone.tmp")
        assert not lookout().concerns(".gone")
        assert not lookout().concerns("node_modules/gone/deep")

    def test_the_directory_and_names_that_can_not_be_told_concern_it(self, lookout):
        assert lookout().concerns("")
        assert lookout(scope=["d"]).concerns("")
        assert lookout().concerns("caf\ufffd")

    def test_what_is_above_a_scope_concerns_it_and_what_is_beside_does_not(self, lookout):
        found = lookout(scope=["a/b"])
        assert [found.concerns(path) for path in ("a", "a/b", "a/b/c", "a/c", "ab")] == [
            *(True, True, True),
            *(False, False),
        ]

    def test_the_store_does_not(self, place, store, work, monkeypatch):
        from index.context import OwnFiles

        (work / "inner").mkdir()
        (work / "inner" / "store").symlink_to(place["root"])
        shutil.copytree(place["root"], work / "mine")
        own = OwnFiles.of([str(work / "mine"), str(work / "index.db"), str(work / "index.db-wal")])
        found = Lookout(str(work), {}, Coverage(hidden=True), own=own)
        for path in ("mine", "mine/packs/00/new", "mine/index.db", "index.db", "index.db-wal"):
            assert not found.concerns(path), path
        assert found.concerns("index.csv")
        assert found.concerns("inner/store")


class Looks:
    """In place of an event: is set once it was asked so often, which is some time later."""

    def __init__(self, count):
        self.left = count

    def is_set(self):
        self.left -= 1
        return self.left < 0


def watched(run, work, *steps, looks=40, **how):
    """Return the results of a watch; before each but the first one, a step is done."""
    found, left = [], list(steps)
    stop = Looks(1 << 30)
    for snapshot in run.watch(work, **{**QUICK, "stop": stop, **how}):
        found.append(snapshot)
        if left:
            left.pop(0)()
        if not left and stop.left > looks:
            stop.left = looks
    return found


class TestAWatch:
    def test_records_the_present_state_and_each_change_after_it(self, run, work):
        write(work, {"a": b"1"})

        def second():
            write(work, {"a": b"22", "d/e/b": b"2"})

        def third():
            shutil.rmtree(work / "d")

        found = watched(run, work, second, third, lambda: None, agent="engineer")
        assert [each.number for each in found if each.recorded] == [1, 2, 3]
        assert [version.path for version in found[2].removed] == ["d/e/b"]
        assert contents(run) == read(work)
        assert run["a"].agent == "engineer"

    def test_knows_its_paths_whatever_the_directory_is_called(self, run, work, monkeypatch):
        monkeypatch.chdir(work.parent)
        (work.parent / "link").symlink_to(work)
        for number, name in enumerate(("work", "link", "work/../link/")):
            seen = watched(run, name, lambda n=number: write(work, {f"d/{n}": b"1"}), scope=["d"])
            assert [each.recorded for each in seen if each.added] == [True]
            seen = watched(run, name, lambda n=number: write(work, {f"e/{n}": b"1"}), scope=["d"])
            assert len(seen) == 2

    def test_has_a_last_scan_when_it_is_stopped(self, run, work):
        write(work, {"a": b"1"})

        def write_and_stop():
            write(work, {"b": b"2"})

        found = watched(run, work, write_and_stop, looks=0)
        assert found[0].recorded
        assert contents(run) == {"a": b"1", "b": b"2"}

    @pytest.mark.parametrize(
        ("files", "scans"),
        [
            ({"b": b"1"}, 3),
            ({"x.tmp": b"1", ".hidden": b"1", "node_modules/a/b": b"1", "a.log": b"1"}, 2),
        ],
        ids=["recorded", "passed-over"],
    )
    def test_scans_only_for_what_it_would_record(self, run, work, files, scans):
        write(work, {"a": b"1"})
        found = watched(run, work, lambda: write(work, files), ignore=["*.log"])
        assert len(found) == scans

    def test_does_not_scan_for_its_own_reads_and_its_own_store(self, cas, work, tmp_path):
        write(work, {"a": b"1", "d/b": b"2"})
        with ArtifactStore.open(work / ".store") as store:
            found = watched(store.run("r"), work, lambda: None, hidden=True)
        assert [each.recorded for each in found] == [True, False]

    def test_scans_a_directory_that_is_never_quiet(self, run, work):
        write(work, {"a": b"1"})
        written = []

        class Busy(Looks):
            def is_set(self):
                written.append(len(written))
                write(work, {"busy": b"%d" % len(written)})
                return super().is_set()

        how = {"quiet_period": 60, "max_delay": 0.2, "stop": Busy(100)}
        found = list(run.watch(work, **how))
        assert len(found) > 2
        assert all(each.changed or each.added for each in found[:-1])

    def test_finds_a_name_that_is_not_utf_8_and_goes_on(self, run, work):
        write(work, {"a": b"1"})

        def not_utf_8():
            (work / os.fsdecode(b"caf\xe9")).write_bytes(b"2")

        watched(run, work, not_utf_8, lambda: write(work, {"b": b"3"}), lambda: None)
        assert contents(run) == {"a": b"1", "caf\udce9": b"2", "b": b"3"}

    def test_goes_on_in_a_directory_that_was_replaced(self, run, work):
        write(work, {"a": b"1"})

        def replace():
            (work.parent / "next").mkdir()
            write(work.parent / "next", {"b": b"2"})
            work.rename(work.parent / "before")
            (work.parent / "next").rename(work)

        found = watched(run, work, replace, lambda: write(work, {"c": b"3"}), lambda: None)
        assert [each.number for each in found if each.recorded] == [1, 2, 3]
        assert contents(run) == {"b": b"2", "c": b"3"}

    @pytest.mark.parametrize("what", ["link", "parent"])
    def test_goes_on_where_the_path_leads_elsewhere(self, run, tmp_path, what):
        write(tmp_path, {"one/work/a": b"1", "two/work/b": b"2"})
        path = tmp_path / "link" if what == "link" else tmp_path / "one" / "work"
        (tmp_path / "link").symlink_to(tmp_path / "one" / "work")

        def turn():
            if what == "link":
                (tmp_path / "new").symlink_to(tmp_path / "two" / "work")
                (tmp_path / "new").rename(path)
            else:
                (tmp_path / "one").rename(tmp_path / "gone")
                (tmp_path / "two").rename(tmp_path / "one")

        found = watched(run, path, turn, lambda: write(path, {"c": b"3"}), lambda: None)
        assert [each.number for each in found if each.recorded] == [1, 2, 3]
        assert contents(run) == {"b": b"2", "c": b"3"}

    @pytest.mark.parametrize("stream", ["stdout", "stderr", "log"])
    def test_does_not_scan_for_what_it_prints_or_logs_itself(self, run, work, monkeypatch, stream):
        handler = logging.FileHandler(work / "out")
        if stream == "log":
            monkeypatch.setattr(logging.getLogger("cas"), "handlers", [handler])
        else:
            monkeypatch.setattr(sys, stream, handler.stream)

        def tell():
            handler.stream.write("a line\n")
            handler.flush()

        found = watched(run, work, tell, looks=60)
        monkeypatch.undo()
        handler.close()
        assert len(found) == 2
        assert contents(run)["out"] == b"a line\n"

    def test_raises_what_a_scan_raises_and_a_new_one_makes_up_for_it(self, run, work):
        write(work, {"a": b"1"})
        with pytest.raises(WorkDirectoryError, match="no such directory"):
            watched(run, work, lambda: work.rename(work.parent / "away"))
        (work.parent / "away").rename(work)
        write(work, {"b": b"2"})
        next(run.watch(work, **QUICK)).added  # noqa: B018 - its first scan has recorded it
        assert contents(run) == {"a": b"1", "b": b"2"}

    def test_checks_its_arguments_at_once(self, run, work, tmp_path):
        for wrong in ({"quiet_period": -1}, {"max_delay": -1}, {"prefix": "../x"}):
            with pytest.raises(ValueError, match=r"seconds|refused"):
                run.watch(work, **wrong)
        with pytest.raises(ValueError, match="refused"):
            next(run.watch(work, scope=["../x"]))
        with pytest.raises(TypeError):
            run.watch(work, quiet_period="2s")
        with pytest.raises(WorkDirectoryError):
            next(run.watch(tmp_path / "missing"))
        run.track(work)
        (tmp_path / "other").mkdir()
        with pytest.raises(OtherDirectoryError):
            next(run.watch(tmp_path / "other", same_directory=True, **QUICK))

    def test_has_the_provenance_of_the_scope_that_it_was_called_in(self, run, work):
        write(work, {"a": b"1"})
        with provenance(agent="planner"):
            watching = run.watch(work, **QUICK)
        next(watching)
        watching.close()
        assert run["a"].agent == "planner"

    def test_says_what_to_install(self, run, work, monkeypatch):
        monkeypatch.setitem(sys.modules, "watchfiles", None)
        with pytest.raises(MissingPackageError, match=r"pip install 'runcas\[watch\]'"):
            next(run.watch(work))

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (OSError(errno.ENOSPC, "no space"), "max_user_watches"),
            (OSError("OS file watch limit reached."), "max_user_watches"),
            (OSError(errno.EMFILE, "too many"), "descriptor"),
            (RuntimeError("something else"), "something else"),
        ],
    )
    def test_says_why_a_directory_can_not_be_watched(self, run, work, monkeypatch, error, words):
        def watch(*_args, **_kwargs):
            raise error
            yield

        monkeypatch.setattr("watchfiles.watch", watch)
        with pytest.raises(WorkDirectoryError, match=words):
            next(run.watch(work))


class TestTheCommand:
    @pytest.fixture
    def watching(self, store_root, work):
        """Starts the command on `work`; the process has lines to read."""
        processes = []

        def start(*options):
            code = "from index.cli import main; main()"
            words = [sys.executable, "-c", code, "--store", store_root, "watch", work, *options]
            process = subprocess.Popen(
                [*map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
            processes.append(process)
            return process

        yield start
        for process in processes:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_has_a_line_for_each_snapshot_and_ends_with_a_last_scan(
        self, watching, work, store_root, number
    ):
        write(work, {"a": b"1"})
        os.mkfifo(work / "fifo")
        process = watching("--quiet-period", "0", "--max-delay", "1h", "--agent", "engineer")
        assert process.stdout.readline().startswith("work: snapshot 1, 1 added")
        write(work, {"b": b"2"})
        assert process.stdout.readline().startswith("work: snapshot 2, 1 added")
        write(work, {"c": b"3"})
        process.send_signal(number)  # before the scan for that, or at any place in it
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out.splitlines()[-1] == "work: ended at snapshot 3"
        assert err.splitlines() == [
            "skipped fifo: it is a FIFO",  # told once
            "a last scan follows; Ctrl-C again ends at once",
        ]
        with ArtifactStore.open(store_root) as store:
            assert contents(store.run("work")) == {"a": b"1", "b": b"2", "c": b"3"}
            assert store.run("work")["c"].agent == "engineer"

    def test_tells_an_error_and_scans_again(self, watching, work):
        write(work, {"a": b"1"})
        process = watching("--quiet-period", "0", "--max-delay", "1s")
        assert process.stdout.readline().startswith("work: snapshot 1, 1 added")
        away = work.rename(work.parent / "away")
        assert process.stderr.readline() == (
            f"error: cannot track '{work}': there is no such directory; nothing was recorded; "
            "the next scan is in 1 s\n"
        )
        write(away, {"b": b"2"})
        away.rename(work)
        assert process.stdout.readline().startswith("work: snapshot 2, 1 added")

    def test_ends_if_the_first_scan_fails(self, cas, tmp_path):
        for name in ("one/work", "two/work"):
            write(tmp_path / name, {"a": b"1"})
        assert cas("track", "one/work")[0] == 0
        code, out, err = cas("watch", "two/work")
        assert (code, out, "--moved" in err) == (1, "", True)

    def test_makes_no_store_if_it_can_not_watch(self, cas, tmp_path, monkeypatch):
        write(tmp_path / "work", {"a": b"1"})
        assert cas("watch", "typo")[0] == 1
        assert cas("watch", "work", "--quiet-period", "soon")[0] == 2
        monkeypatch.setitem(sys.modules, "watchfiles", None)
        code, _, err = cas("watch", "work")
        assert (code, "pip install 'runcas[watch]'" in err, err.count("\n")) == (1, True, 1)
        assert not (tmp_path / ".cas").exists()
