"""Step folders become snapshots."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from places import on_one
from trees import contents, write

from index import Run
from index.errors import ImportMismatchError, ImportSourceError
from index.imports import read_steps

alone = on_one(because="the store is written to by `Run.track`, which other tests show on each")


@pytest.fixture
def session(store):
    return store.session("session-1")


@pytest.fixture
def folders(tmp_path):
    """Three folders, of which the last comes first by the alphabet."""
    write(
        tmp_path / "results",
        {
            "step_1/out.csv": b"1",
            "step_1/.hidden": b"h",
            "step_2/out.csv": b"22",
            "step_2/x.tmp": b"t",
            "step_10/out.csv": b"22",
            "step_10/new/deep.csv": b"deep",
        },
    )
    return tmp_path / "results"


def test_each_folder_is_a_snapshot(session, folders):
    report = read_steps(session, folders)
    assert (report.run, report.format) == ("results", "steps")
    assert (report.snapshots, report.versions, report.bytes) == (3, 6, 11)
    run = session.run("results")
    steps = [each.provenance.step_id for each in run.snapshots()]
    assert steps == ["step_1", "step_2", "step_10"]
    assert [each.provenance.node_id for each in run.snapshots()] == steps
    assert contents(run)["step_10/new/deep.csv"] == b"deep"
    assert len(run.files(step_id="step_2")) == 2
    assert run.snapshots()[0].notes["imported"] == {"from": "steps", "revision": "step_1"}
    assert run.summary().work_dir == str(folders)


@alone
@pytest.mark.parametrize("as_states", [False, True])
def test_an_import_ends_when_another_one_writes_to_its_run(session, folders, as_states):
    def import_all(progress):
        if progress.files == 1:
            assert read_steps(session, folders, as_states=as_states).snapshots == 2

    with pytest.raises(ImportSourceError, match="written to by others at the same time; import"):
        read_steps(session, folders, as_states=as_states, progress=import_all)
    assert not read_steps(session, folders, as_states=as_states).snapshots
    run = session.run("results")
    assert len(run.snapshots()) == 4


def test_each_folder_may_be_a_state(session, folders):
    report = read_steps(session, folders, as_states=True)
    assert (report.snapshots, report.versions) == (3, 5)
    run = session.run("results")
    assert [each.version for each in run.history("out.csv")] == [1, 2]
    assert [each.path for each in run.snapshots()[1].removed] == [".hidden"]
    assert sorted(contents(run)) == ["new/deep.csv", "out.csv"]
    assert read_steps(session, folders, as_states=True).snapshots == 0


def test_a_second_import_records_what_is_new(session, folders):
    read_steps(session, folders)
    assert read_steps(session, folders).snapshots == 0
    write(folders, {"step_11/out.csv": b"11", "step_2/late.csv": b"late"})
    report = read_steps(session, folders)
    assert (report.snapshots, report.versions) == (2, 2)
    steps = [each.provenance.step_id for each in session.run("results").snapshots()]
    assert steps == ["step_1", "step_2", "step_10", "step_2", "step_11"]


@pytest.mark.parametrize("as_states", [False, True])
@pytest.mark.parametrize("tracked", [1, 2, 3])
def test_after_an_interruption_it_goes_on(session, folders, monkeypatch, tracked, as_states):
    calls = []

    def track(self, *arguments, **options):
        calls.append(options)
        if len(calls) == tracked:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    original = Run.track
    monkeypatch.setattr(Run, "track", track)
    with pytest.raises(KeyboardInterrupt):
        read_steps(session, folders, as_states=as_states)
    monkeypatch.undo()
    assert read_steps(session, folders, as_states=as_states).snapshots == 4 - tracked
    assert len(session.run("results").snapshots()) == 3


@alone
def test_the_order_may_be_given(session, folders):
    read_steps(session, folders, steps=["step_2", "step_1"])
    steps = [each.provenance.step_id for each in session.run("results").snapshots()]
    assert steps == ["step_2", "step_1"]


@alone
def test_a_folder_that_is_named_twice_is_refused(session, folders):
    with pytest.raises(ImportSourceError, match="folder 'step_1' is named twice"):
        read_steps(session, folders, steps=["step_1", "step_2", "step_1"])


@alone
def test_a_folder_that_is_gone_stays_in_the_run(session, folders):
    read_steps(session, folders)
    shutil.rmtree(folders / "step_2")
    assert read_steps(session, folders).snapshots == 0
    assert contents(session.run("results"))["step_2/out.csv"] == b"22"


@alone
def test_what_is_in_no_folder_is_reported(session, folders):
    write(folders, {"readme.md": b"r", ".cache/x": b"x", "step_1/.casignore": b"*.log\n"})
    write(folders, {"step_1/a.log": b"log"})
    (folders / "step_3").symlink_to(folders / "step_1")
    os.mkfifo(folders / "step_2" / "pipe")
    assert {each.path: each.reason for each in read_steps(session, folders).skipped} == {
        ".cache": "it is hidden; name it to import it",
        "readme.md": "it is in no folder",
        "step_1/": "1 entries are left out by what a .casignore says",
        "step_2/pipe": "it is a FIFO",
        "step_3": "it is a link, which is not followed",
    }
    assert "step_1/a.log" not in session.run("results")


@alone
@pytest.mark.parametrize("as_states", [False, True])
def test_nothing_outside_is_read(session, folders, tmp_path, as_states):
    write(tmp_path / "outside", {"secret": b"secret"})
    (folders / "step_1" / "link").symlink_to(tmp_path / "outside" / "secret")
    (folders / "step_1" / "folder").symlink_to(tmp_path / "outside")
    read_steps(session, folders, as_states=as_states)
    run = session.run("results")
    held = [data for at in (1, 2, 3) for data in contents(run, at=at).values()]
    assert b"secret" not in held
    for name in ("../outside", "/etc", ".", "..", "gone", "step_1/new"):
        with pytest.raises(ImportSourceError, match="it has no folder"):
            read_steps(session, folders, steps=[name], as_states=as_states)


@alone
def test_what_holds_no_folders_is_refused(session, folders, tmp_path):
    with pytest.raises(ImportSourceError, match="it has no folders"):
        read_steps(session, folders / "step_1")
    with pytest.raises(ImportSourceError, match="it can't be listed"):
        read_steps(session, tmp_path / "gone")
    session.run("mine").put("a", b"1")
    with pytest.raises(ImportSourceError, match="has a history of its own"):
        read_steps(session, folders, run="mine")
    read_steps(session, folders)
    with pytest.raises(ImportSourceError, match="has a history of its own"):
        read_steps(session, folders, as_states=True)


@alone
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step_1/out.csv": b"x"}, "'step_1/out.csv' in snapshot 1: it has other bytes"),
        ({"step_1/out.csv": None}, "'step_1/out.csv' in snapshot 1: it has other bytes"),
        ({"step_1/more": None}, "'step_1/more' in snapshot 1: the source does not have it"),
    ],
    ids=["changed", "removed", "added"],
)
def test_folders_that_change_meanwhile_are_reported(session, folders, monkeypatch, change, said):
    def track(self, work_dir, **options):
        (path, data), *_ = change.items()
        if path == "step_1/more":
            write(folders, {path: b"more"})
        snapshot = original(self, work_dir, **options)
        if data is not None:
            write(folders, {path: data})
        elif path == "step_1/out.csv" and (folders / path).exists():
            (folders / path).unlink()
        return snapshot

    original = Run.track
    monkeypatch.setattr(Run, "track", track)
    with pytest.raises(ImportMismatchError, match=said):
        read_steps(session, folders)


@alone
@pytest.mark.parametrize("name", ["step_1", "new", "out.csv"])
def test_what_can_not_be_read_is_named_each_time_and_the_rest_imported(
    session, folders, monkeypatch, name
):
    read_steps(session, folders, run="read before")
    write(folders, {"step_1/more": b"m", "step_10/more": b"m"})
    original, listing = os.open, os.scandir

    def open_(path, *arguments, **options):
        if path == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return original(path, *arguments, **options)

    def scandir(path):
        if isinstance(path, os.PathLike) and path.name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return listing(path)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "scandir", scandir)
    for run in ("read before", "new"):
        for _ in range(2):
            report = read_steps(session, folders, run=run)
            assert {each.path.rpartition("/")[2] for each in report.skipped} == {name}
            assert {each.reason for each in report.skipped} == {"Permission denied"}
    held = contents(session.run("read before"))
    assert held["step_1/out.csv"] == b"1"
    assert held["step_10/new/deep.csv"] == b"deep"
    assert held["step_10/more" if name == "step_1" else "step_1/more"] == b"m"
