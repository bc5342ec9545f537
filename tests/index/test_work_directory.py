"""A run remembers its work directory, and the command takes no other one for it by mistake."""

from __future__ import annotations

import json
import os
import threading

import pytest
from events import statements
from histories import everything_of
from lost import lose_index
from places import EACH_INDEX, on, places
from trees import contents, write

from index import ArtifactStore, recover
from index.errors import OtherDirectoryError

place = places(EACH_INDEX)


@pytest.fixture
def days(tmp_path):
    """Two directories of one name, with a file each."""
    found = [tmp_path / day / "out" for day in ("monday", "tuesday")]
    for folder in found:
        write(folder, {f"{folder.parent.name}.csv": b"1"})
    return found


def directory_of(store, run="run-1"):
    (found,) = store.find_runs(run)
    return found.work_dir


class TestTrack:
    def test_a_run_has_the_directory_of_its_newest_scan(self, store, run, days, tmp_path):
        run.put("a", b"1")
        assert directory_of(store) is None
        monday, tuesday = days
        (tmp_path / "link").symlink_to(monday)
        run.track(tmp_path / "link")
        assert directory_of(store) == str(monday)
        assert len(run.track(tuesday).removed) == 1  # the caller named the run
        assert directory_of(store) == str(tuesday)
        run.put("b", b"2")
        run.fork("run-2")
        assert directory_of(store) == str(tuesday)
        assert directory_of(store, "run-2") is None

    def test_what_is_recorded_under_a_path_of_it_does_not_take_its_place(self, store, run, days):
        monday, tuesday = days
        run.track(monday)
        run.track(tuesday, prefix="data")
        assert directory_of(store) == str(monday)
        assert run.track(monday, same_directory=True).recorded is False

    def test_without_one_it_is_the_first_that_is_recorded_under_a_path(self, store, run, days):
        monday, tuesday = days
        run.track(monday, prefix="data", same_directory=True)
        assert directory_of(store) == str(monday)
        with pytest.raises(OtherDirectoryError):
            run.track(tuesday, prefix="data", same_directory=True)
        run.track(tuesday)
        assert directory_of(store) == str(tuesday)

    def test_another_directory_is_refused_on_request_before_anything_is_read(
        self, store, run, days
    ):
        monday, tuesday = days
        run.track(monday, same_directory=True)
        before = store.stats()
        with pytest.raises(OtherDirectoryError) as raised:
            run.track(tuesday, same_directory=True)
        assert (raised.value.before, raised.value.now) == (str(monday), str(tuesday))
        assert "`session.run(…)`" in str(raised.value)
        assert "`same_directory=False`" in str(raised.value)
        assert store.stats() == before
        assert contents(run) == {"monday.csv": b"1"}
        assert run.track(monday, same_directory=True).recorded is False

    def test_another_name_of_the_same_directory_is_no_other(self, run, days, monkeypatch):
        """As a bind mount is: not a link, so that only the inode tells."""
        monday, tuesday = days
        run.track(monday)
        real = os.path.realpath
        monkeypatch.setattr("index.commit.track.os.path.realpath", lambda path: f"{real(path)}/.")
        assert run.track(monday, same_directory=True).recorded is False
        with pytest.raises(OtherDirectoryError):
            run.track(tuesday, same_directory=True)

    def test_of_two_first_scans_at_once_one_is_refused(self, store, days):
        run = store.session("s").run("out")
        barrier = threading.Barrier(2)
        outcomes = []

        def scan(folder):
            met = []

            def together(_progress):
                if not met:
                    met.append(True)
                    barrier.wait(30)

            try:
                outcomes.append(run.track(folder, same_directory=True, progress=together))
            except OtherDirectoryError as error:
                outcomes.append(error)

        threads = [threading.Thread(target=scan, args=(folder,)) for folder in days]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(isinstance(outcome, OtherDirectoryError) for outcome in outcomes) == [
            False,
            True,
        ]
        assert len(run.snapshots()) == len(run) == 1

    def test_a_rescan_writes_nothing_and_a_move_is_written_without_a_snapshot(
        self, store, run, days, tmp_path
    ):
        monday, _ = days
        empty, other = tmp_path / "empty", tmp_path / "other"
        empty.mkdir()
        other.mkdir()
        run.track(empty)
        with statements(store) as seen:
            run.track(empty)
        assert not any(text.startswith(("INSERT", "UPDATE")) for text in seen)
        assert run.track(other).recorded is False
        assert directory_of(store) == str(other)
        assert run.track(monday).number == 2

    @pytest.mark.parametrize("name", [b"caf\xe9\\x41", "\U0001f600 d".encode()])
    def test_any_name_is_remembered(self, store, run, tmp_path, name):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        run.track(folder)
        assert directory_of(store) == str(folder)
        run.track(folder, same_directory=True)
        json.dumps(store.runs()[0].to_dict())


class TestWhatKeepsIt:
    def test_a_recovery_finds_it_in_the_records(self, place, days, tmp_path):
        monday, tuesday = days
        odd = tmp_path / os.fsdecode(b"caf\xe9\\x41")
        odd.mkdir()
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("run-1")
            run.track(monday)
            run.track(tuesday)
            run.fork("run-2")
            store.session("s").run("run-3").track(odd)
            before = everything_of(store)
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place, create=False) as store:
            assert directory_of(store) == str(tuesday)
            assert directory_of(store, "run-3") == str(odd)
            assert everything_of(store) == before

    def test_a_recovery_finds_it_in_a_backup_and_in_a_history(self, place, days, tmp_path):
        monday, _ = days
        odd = tmp_path / os.fsdecode(b"caf\xe9\\x41")
        odd.mkdir()
        with (
            ArtifactStore.open(**place) as store,
            ArtifactStore.open(tmp_path / "laptop") as laptop,
        ):
            laptop.session("s").run("run-1").track(monday)
            laptop.sync_to(store)
            store.session("s").run("run-2").track(odd)
            store.back_up()
            run = store.session("s").run("run-1")
            run.put("new", b"x")  # begins a chain with the whole history
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place, create=False) as store:
            assert directory_of(store) == str(monday)
            assert directory_of(store, "run-2") == str(odd)

    @on(index="sqlite", blobs="local", because="a sync compares rows, whatever keeps them")
    def test_a_sync_takes_it_along(self, store, run, days, tmp_path):
        monday, tuesday = days
        with ArtifactStore.open(tmp_path / "team") as team:
            run.track(monday)
            store.sync_to(team)
            assert directory_of(team) == str(monday)
            run.track(tuesday)
            store.sync_to(team)
            assert directory_of(team) == str(tuesday)
            team.session("session-1").run("run-1").put("a", b"1")
            store.sync_to(team)
            assert directory_of(team) == str(tuesday)


class TestCommand:
    def test_a_directory_of_the_same_name_is_refused_with_the_ways_out(self, cas, days):
        monday, tuesday = days
        assert cas("track", monday)[0] == 0
        code, out, err = cas("track", tuesday)
        assert (code, out) == (1, "")
        assert str(monday) in err
        assert str(tuesday) in err
        assert "`--run`" in err
        assert "`--moved`" in err
        assert "monday.csv" in cas("ls", "-R")[1]
        assert cas("track", tuesday, "--run", "tuesday")[0] == 0
        assert cas("track", monday)[1].startswith("out: nothing new")

    def test_a_directory_that_was_moved_goes_on_as_the_same_run(self, cas, days):
        monday, tuesday = days
        cas("track", monday)
        (tuesday / "tuesday.csv").unlink()
        tuesday.rmdir()
        monday.rename(tuesday)
        assert cas("track", tuesday)[0] == 1
        code, out, _ = cas("track", tuesday, "--moved")
        assert code == 0
        assert "0 added, 0 changed, 0 removed, 1 unchanged" in out
        assert cas("track", tuesday)[0] == 0  # from now on that is its place
        (listed,) = json.loads(cas("runs", "--json")[1])
        assert listed["work_dir"] == str(tuesday)

    def test_a_run_that_is_named_takes_any_directory(self, cas, days):
        monday, tuesday = days
        cas("track", monday)
        assert "1 added, 0 changed, 1 removed" in cas("track", tuesday, "--run", "out")[1]
