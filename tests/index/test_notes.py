"""Notes on snapshots, and the status of runs."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest
from places import EACH_INDEX, places
from trees import write

from index import ArtifactStore, provenance
from index.errors import InvalidMetaError, UnknownRunError

place = places(EACH_INDEX)

NOTES = {"iteration": 3, "scores": [0.5, None, True], "text": "\x00é"}


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.now

    def advance(self):
        self.now += timedelta(minutes=1)
        return self.now


class TestNotes:
    def test_a_scan_keeps_them_with_its_snapshot(self, run, work):
        write(work, {"a": b"1"})
        made = run.track(work, notes=NOTES)
        assert made.notes == NOTES
        assert [each.notes for each in run.snapshots()] == [NOTES]
        assert run.find_snapshot().notes == NOTES
        assert run.find_snapshot().to_dict()["notes"] == NOTES

    def test_a_scan_without_them_has_none(self, run, work):
        assert run.track(work).notes is None
        assert run.snapshots()[0].notes is None

    def test_an_unchanged_scan_with_notes_makes_a_snapshot(self, run, work):
        write(work, {"a": b"1"})
        run.track(work)
        noted = run.track(work, notes="nothing new")
        assert (noted.number, noted.recorded, noted.added, noted.unchanged) == (2, True, (), 1)
        assert not run.track(work).recorded
        assert [each.notes for each in run.snapshots()] == [None, "nothing new"]

    @pytest.mark.parametrize("notes", [0, "", [], {}, False])
    def test_a_note_that_is_false_is_a_note(self, run, work, notes):
        run.track(work)
        run.track(work, notes=notes)
        assert run.snapshots()[1].notes == notes

    def test_what_json_can_not_hold_is_refused_before_the_scan(self, run, work):
        with pytest.raises(InvalidMetaError, match=r"notes can't be kept: .*; give numbers"):
            run.track(work, notes={"a": object()})
        with pytest.raises(UnknownRunError):
            run.snapshots()

    def test_what_is_changed_afterwards_does_not_change_the_snapshot(self, run, work):
        notes = {"a": [1]}
        made = run.track(work, notes=notes)
        notes["a"].append(2)
        assert made.notes == run.snapshots()[0].notes == {"a": [1]}

    def test_a_fork_has_those_of_its_snapshots(self, run, work):
        run.track(work, notes="first")
        run.track(work, notes="second")
        fork = run.fork("run-2", at=1)
        assert [each.notes for each in fork.snapshots()] == ["first"]

    def test_scans_at_once_keep_the_notes_of_each(self, run, work):
        write(work, {"a": b"1"})
        run.track(work)
        threads = [
            threading.Thread(target=run.track, args=[work], kwargs={"notes": n}) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {each.notes for each in run.snapshots()[1:]} == {0, 1, 2, 3}


class TestStatus:
    @pytest.fixture
    def clock(self):
        return Clock()

    @pytest.fixture
    def store(self, place, clock):
        with ArtifactStore.open(**place, clock=clock) as opened:
            yield opened

    def test_a_run_has_none_until_somebody_says_one(self, run, work):
        run.track(work)
        told = run.summary()
        assert (told.status, told.status_reason, told.started_at, told.ended_at) == (None,) * 4

    def test_a_run_that_runs_and_ends_has_the_times_of_both(self, run, clock):
        began = clock.now
        assert run.set_status("running").started_at == began
        ended = clock.advance()
        told = run.set_status("failed", reason="no space is left")
        assert told == run.summary()
        assert (told.status, told.status_reason) == ("failed", "no space is left")
        assert (told.started_at, told.ended_at) == (began, ended)
        assert told.to_dict()["ended_at"] == ended.isoformat()

    def test_a_run_that_runs_again_has_not_ended(self, run, clock):
        run.set_status("running")
        run.set_status("cancelled", reason="by hand")
        again = clock.advance()
        told = run.set_status("running")
        assert (told.status_reason, told.started_at, told.ended_at) == (None, again, None)

    def test_a_run_whose_start_nobody_told_has_only_an_end(self, run, clock):
        told = run.set_status("finished")
        assert (told.started_at, told.ended_at) == (None, clock.now)

    def test_it_creates_the_run_and_no_snapshot(self, store, run, work):
        run.set_status("running")
        assert [each.run for each in store.session("session-1").runs()] == ["run-1"]
        assert run.snapshots() == ()
        assert run.track(work).recorded  # the first scan, of an empty directory
        assert run.summary().status == "running"

    def test_a_scan_says_it_in_its_own_transaction(self, run, work, clock):
        write(work, {"a": b"1"})
        assert run.track(work, status="running").recorded
        clock.advance()
        assert not run.track(work, status="finished", reason="all done").recorded
        told = run.summary()
        assert (told.snapshots, told.status, told.status_reason) == (1, "finished", "all done")
        assert told.ended_at == clock.now

    def test_a_scan_after_it_compares_with_the_state_in_memory(self, run, work):
        write(work, {"a": b"1"})
        run.track(work)
        run.set_status("running")
        assert not run.track(work).recorded

    def test_unknown_words_are_refused(self, run, work):
        with pytest.raises(ValueError, match="one of running, finished, failed, cancelled, not"):
            run.set_status("done")
        with pytest.raises(ValueError, match="a reason goes with a status"):
            run.track(work, reason="because")
        with pytest.raises(UnknownRunError):
            run.summary()

    def test_a_reason_becomes_a_line_that_every_database_takes(self, run):
        told = run.set_status("failed", reason="one\ntwo\x00\udc80 ")
        assert told.status_reason == "one two"
        assert len(run.set_status("failed", reason="x" * 999).status_reason) == 255
        assert run.set_status("failed", reason=" \n").status_reason is None
        with pytest.raises(TypeError, match="a reason is text, not 3"):
            run.set_status("failed", reason=3)

    def test_a_fork_has_none_and_a_rewind_keeps_it(self, run, work):
        write(work, {"a": b"1"})
        run.track(work)
        run.put("a", b"2")
        run.set_status("finished")
        run.rewind(1)
        assert run.summary().status == "finished"
        assert run.fork("run-2").summary().status is None

    def test_the_provenance_scope_does_not_matter_to_it(self, run):
        with provenance(agent="engineer"):
            assert run.set_status("running").status == "running"

    def test_it_is_said_off_the_event_loop(self, run):
        assert asyncio.run(run.set_status_async("running")).status == "running"

    def test_threads_that_say_one_at_once_all_succeed(self, run):
        words = ["running", "finished", "failed", "cancelled"]
        threads = [threading.Thread(target=run.set_status, args=[word]) for word in words]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert run.summary().status in words

    def test_a_run_that_was_deleted_meanwhile_is_made_again(self, run):
        run.put("a", b"1")
        run.delete()
        assert run.set_status("running").snapshots == 0
