"""Legal holds: what is held is not deleted, dropped or pruned, by any way."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest
from lost import lose_index
from places import EACH_INDEX, places

import index.commit.delete
import index.commit.rules
import index.transfer.sync
from cas.errors import BackendError
from index import ArtifactStore, RetentionPolicy, VersionRule, provenance, recover
from index.commit.write import CommitConflict
from index.context import utc_now
from index.errors import HeldError, UnknownRunError, UnknownSessionError

place = places(EACH_INDEX)


@pytest.fixture
def two_versions(run):
    """A run with a past and a current version of a file."""
    run.put("a", b"old")
    run.put("a", b"new")
    return run


def test_a_held_run_is_not_deleted_until_it_is_released(store, two_versions):
    hold = two_versions.hold("case 7", agent="counsel")
    assert (hold.run, hold.reason, hold.agent) == ("run-1", "case 7", "counsel")
    with pytest.raises(HeldError, match=r"run 'run-1' is held since \d+-\d+-\d+: case 7; nothing"):
        two_versions.delete()
    with pytest.raises(HeldError, match="case 7"):
        store.session("session-1").delete()
    with pytest.raises(HeldError, match="case 7"):
        two_versions.drop("a", version=1, reason="too large")
    assert two_versions.read_bytes("a", version=1) == b"old"
    (released,) = two_versions.release_hold("the case is closed", agent="counsel")
    assert released.release_reason == "the case is closed"
    assert two_versions.holds() == ()
    assert two_versions.holds(past=True) == (released,)
    two_versions.delete()


@pytest.mark.parametrize("whole_session", [False, True])
def test_what_is_there_when_a_hold_returns_stays_there(store, run, whole_session):
    session = store.session("session-1")
    holder = session if whole_session else run
    dropped = 0
    for number in range(12):
        run.put("a", f"old {number}".encode())
        past = run.put("a", f"new {number}".encode()).version - 1

        def drop(past=past):
            with suppress(HeldError):
                run.drop("a", version=past, reason="too large")

        with ThreadPoolExecutor(1) as pool:
            dropping = pool.submit(drop)
            time.sleep(number / 2_000)  # so that now one is first, and now the other
            holder.hold("case 7")
            found = run.file("a", version=past)
            dropping.result()
        assert run.file("a", version=past) == found
        dropped += found.digest is None
        holder.release_hold("closed")
    assert len(run.history("a")) == 24
    assert dropped == sum(version.digest is None for version in run.history("a"))


def test_a_held_session_keeps_all_its_runs(store, two_versions):
    session = store.session("session-1")
    with provenance(agent="counsel"):
        session.hold("audit")
    for delete in (two_versions.delete, session.delete):
        with pytest.raises(HeldError, match=r"session 'session-1' is held since .*: audit"):
            delete()
    with pytest.raises(HeldError):
        two_versions.drop("a", version=1, reason="too large")
    later = session.run("run-2")
    later.put("b", b"made while it is held")
    with pytest.raises(HeldError):
        later.delete()
    with pytest.raises(UnknownRunError):
        session.run("run-3").delete()
    assert [(each.run, each.agent) for each in two_versions.holds()] == [(None, "counsel")]
    session.release_hold("audited")
    assert session.holds() == ()
    session.delete()


def test_a_hold_of_a_run_leaves_other_runs_and_sessions_alone(store, two_versions):
    two_versions.hold("case 7")
    fork = two_versions.fork("fork")
    fork.drop("a", version=1, reason="too large")
    fork.delete()
    other = store.session("session-2").run("run-1")
    other.put("a", b"old")
    assert store.session("session-2").holds() == ()
    assert store.session("session-2").holds(past=True) == ()
    other.delete()
    two_versions.put("a", b"a held run is written to")
    two_versions.remove("a")


@pytest.mark.parametrize("whole_session", [False, True])
def test_a_hold_that_another_releases_at_once_is_returned_as_it_was_made(
    store, two_versions, monkeypatch, whole_session
):
    holder = store.session("session-1") if whole_session else two_versions
    made = index.commit.rules.hold

    def released_at_once(*arguments, **options):
        said_at = made(*arguments, **options)
        monkeypatch.undo()
        holder.release_hold("a mistake")
        return said_at

    monkeypatch.setattr(index.commit.rules, "hold", released_at_once)
    hold = holder.hold("case 7", agent="counsel")
    (known,) = holder.holds(past=True)
    assert (hold.run, hold.reason, hold.agent) == (known.run, "case 7", "counsel")
    assert (hold.created_at, known.release_reason) == (known.created_at, "a mistake")


def test_several_holds_are_released_together(two_versions):
    two_versions.hold("case 7")
    two_versions.hold("case 8")
    assert [each.reason for each in two_versions.holds()] == ["case 7", "case 8"]
    assert len(two_versions.release_hold("all closed")) == 2
    assert two_versions.release_hold("nothing is held") == ()
    two_versions.hold("case 9")
    assert [each.reason for each in two_versions.release_hold("closed")] == ["case 9"]
    assert len(two_versions.holds(past=True)) == 3


def test_only_what_exists_is_held_and_a_reason_is_needed(store, two_versions):
    with pytest.raises(UnknownRunError, match="run-1"):
        store.session("session-1").run("run-2").hold("case 7")
    with pytest.raises(UnknownSessionError):
        store.session("session-3").hold("case 7")
    for reason in ("", " \n"):
        with pytest.raises(ValueError, match="give a reason"):
            two_versions.hold(reason)


def test_a_sync_brings_holds_and_no_release(store, two_versions, stores, tmp_path):
    two_versions.hold("case 7", agent="counsel")
    store.session("session-1").run("run-2").put("b", b"not held")
    with ArtifactStore.open(**stores.make("sqlite-local", tmp_path / "other")) as other:
        store.sync_to(other)
        theirs = other.session("session-1").run("run-1")
        assert theirs.holds() == two_versions.holds()
        store.session("session-1").hold("audit")
        two_versions.release_hold("closed here")
        store.sync_to(other)
        assert [each.reason for each in theirs.holds()] == ["case 7", "audit"]
        other.session("session-1").release_hold("audited there")
        theirs.release_hold("closed there")
        store.sync_to(other)
        assert theirs.holds() == ()


@pytest.fixture
def other(stores, tmp_path):
    """Another store, without runs."""
    with ArtifactStore.open(tmp_path / "other") as opened:
        yield opened


@pytest.mark.parametrize("progress", [None, lambda _: None], ids=["at once", "with a plan"])
def test_a_sync_that_fails_halfway_has_held_what_it_has_copied(
    store, run, other, monkeypatch, progress
):
    session = store.session("session-1")
    run.put("a", b"1")
    run.hold("case 7", agent="counsel")
    session.run("run-2").put("b", b"2")
    session.hold("audit")
    recorded = index.transfer.sync.record

    def record_and_fail(*arguments, **options):
        recorded(*arguments, **options)
        raise BackendError("a pack", "the disk is full")

    monkeypatch.setattr(index.transfer.sync, "record", record_and_fail)
    with pytest.raises(BackendError):
        store.sync_to(other, progress=progress)
    theirs = other.session("session-1")
    assert [each.run for each in theirs.runs()] == ["run-1"]
    assert theirs.holds() == session.holds()
    monkeypatch.undo()
    store.sync_to(other, progress=progress)
    assert theirs.holds(past=True) == session.holds()


def test_holds_that_a_sync_has_brought_come_back_with_a_rebuilt_index(store, run, other, tmp_path):
    run.put("a", b"1")
    run.hold("case 7", agent="counsel")
    store.session("session-1").hold("audit")
    store.sync_to(other)
    run.put("a", b"2")
    run.hold("case 8")
    store.sync_to(other)
    before = other.session("session-1").holds()
    assert len(before) == 3
    other.close()
    lose_index({"root": tmp_path / "other"})
    recover(tmp_path / "other")
    with ArtifactStore.open(tmp_path / "other", create=False) as again:
        assert again.session("session-1").holds() == before


@pytest.mark.parametrize("released", [False, True])
def test_a_hold_whose_run_arrived_at_the_second_attempt_comes_back_once(
    store, run, other, tmp_path, monkeypatch, released
):
    run.put("a", b"1")
    run.hold("case 7", agent="counsel")
    recorded, failed = index.transfer.sync.record, []

    def fail_once(*arguments, **options):
        if not failed:
            failed.append("once")
            raise CommitConflict
        recorded(*arguments, **options)

    monkeypatch.setattr(index.transfer.sync, "record", fail_once)
    assert store.sync_to(other).runs[0].reason is None
    theirs = other.session("session-1")
    if released:
        theirs.run("run-1").release_hold("closed")
    before = theirs.holds(past=True)
    assert (len(failed), len(before)) == (1, 1)
    other.close()
    lose_index({"root": tmp_path / "other"})
    recover(tmp_path / "other")
    with ArtifactStore.open(tmp_path / "other", create=False) as again:
        assert again.session("session-1").holds(past=True) == before


def test_a_copy_of_a_run_has_its_holds_and_no_others(store, run, other):
    run.put("a", b"1")
    run.hold("case 7", agent="counsel")
    store.session("bob").run("copy").put("b", b"2")
    store.session("bob").run("copy").hold("of no concern")
    store.session("bob").hold("nor is this")
    session = other.session("bob")
    session.copy_run(run, run_id="copy")
    held = [(each.run, each.reason, each.agent) for each in session.holds()]
    assert held == [("copy", "case 7", "counsel")]
    run.hold("case 8")
    session.copy_run(run, run_id="copy")
    assert [each.reason for each in session.run("copy").holds()] == ["case 7", "case 8"]


def test_a_copy_from_a_held_session_is_held_and_the_rest_of_its_session_is_not(store, run, other):
    run.put("a", b"1")
    store.session("session-1").hold("audit")
    other.session("session-1").run("run-2").put("b", b"2")
    other.session("session-1").copy_run(run)
    with pytest.raises(HeldError, match=r"run 'run-1' is held since .*: audit"):
        other.session("session-1").run("run-1").delete()
    other.session("session-1").run("run-2").delete()


def test_holds_and_quotas_come_back_with_a_rebuilt_index(place, store, two_versions):
    session = store.session("session-1")
    two_versions.hold("case 7", agent="counsel")
    session.hold("audit")
    session.release_hold("audited", agent="auditor")
    session.set_quota(5_000)
    session.set_quota(6_000)
    store.session("session-2").set_quota(7)
    store.session("session-4").set_quota(8)
    store.session("session-4").delete()
    store.session("session-3").run("r").put("a", b"a")
    store.session("session-3").run("r").hold("case 8")
    store.back_up()
    store.session("session-3").run("r").release_hold("closed")
    store.session("session-3").run("r").delete()
    before = session.holds(past=True)
    assert len(before) == 2
    store.close()
    lose_index(place)
    recover(**place)
    with ArtifactStore.open(**place, create=False) as again:
        found = again.session("session-1")
        assert found.holds(past=True) == before
        assert found.usage().quota_bytes == 6_000
        assert again.session("session-2").usage().quota_bytes == 7
        assert again.session("session-3").runs() == []
        with pytest.raises(UnknownSessionError):
            again.session("session-4").usage()
        with pytest.raises(HeldError, match="case 7"):
            found.run("run-1").delete()
        found.run("run-1").release_hold("closed")
        found.delete()


@contextmanager
def recovered(place, store):
    """The store, opened again after its index was lost and rebuilt."""
    store.close()
    lose_index(place)
    recover(**place)
    with ArtifactStore.open(**place, create=False) as again:
        yield again


@pytest.mark.parametrize("whole_session", [False, True])
@pytest.mark.parametrize("delete_session", [False, True])
def test_a_deletion_that_a_hold_refused_at_the_last_moment_is_refused_for_good(
    place, store, two_versions, whole_session, delete_session, monkeypatch
):
    session = store.session("session-1")
    holder = session if whole_session else two_versions
    session.set_quota(5_000)
    session.run("part").describe(parent="run-1")
    kept = index.commit.delete.store_entry

    def hold_meanwhile(blobs, entry):
        stored = kept(blobs, entry)
        monkeypatch.setattr(index.commit.delete, "store_entry", kept)
        holder.hold("case 7")
        return stored

    monkeypatch.setattr(index.commit.delete, "store_entry", hold_meanwhile)
    with pytest.raises(HeldError):
        (session if delete_session else two_versions).delete()
    with recovered(place, store) as again:
        session = again.session("session-1")
        run = session.run("run-1")
        assert run.read_bytes("a", version=1) == b"old"
        assert [each.reason for each in run.holds()] == ["case 7"]
        assert [each.run for each in run.children()] == ["part"]
        assert session.usage().quota_bytes == 5_000
        (session if whole_session else run).release_hold("closed")
        run.delete()
    with recovered(place, store) as again:
        assert [each.run for each in again.runs()] == ["part"]


@pytest.mark.parametrize("whole_session", [False, True])
@pytest.mark.parametrize("delete_session", [False, True])
def test_what_was_deleted_while_a_hold_came_too_late_stays_deleted(
    place, store, two_versions, whole_session, delete_session, monkeypatch
):
    session = store.session("session-1")
    holder = session if whole_session else two_versions
    kept = index.commit.rules.store_entry

    def delete_meanwhile(blobs, entry):
        stored = kept(blobs, entry)
        monkeypatch.setattr(index.commit.rules, "store_entry", kept)
        (session if delete_session else two_versions).delete()
        return stored

    monkeypatch.setattr(index.commit.rules, "store_entry", delete_meanwhile)
    if whole_session and not delete_session:
        holder.hold("case 7")
    else:
        with pytest.raises((UnknownRunError, UnknownSessionError)):
            holder.hold("case 7")
    before = [each.reason for each in session.holds()]
    with recovered(place, store) as again:
        assert again.runs() == []
        session = again.session("session-1")
        assert [each.reason for each in session.holds()] == before
        if delete_session:
            with pytest.raises(UnknownSessionError):
                session.usage()


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_a_deletion_of_a_session_that_died_deletes_none_of_its_runs_once_one_goes_on(
    place, store, two_versions, monkeypatch, is_confirmed
):
    session = store.session("session-1")
    session.run("run-2").put("b", b"2")
    session.set_quota(5_000)
    session.hold("audit")
    session.release_hold("audited")
    kept = index.commit.delete.store_entry

    def die(blobs, entry):
        kept(blobs, entry)
        raise KeyboardInterrupt

    monkeypatch.setattr(index.commit.delete, "store_entry", die)
    with pytest.raises(KeyboardInterrupt):
        session.delete()
    monkeypatch.undo()
    two_versions.put("a", b"newer")
    if is_confirmed:
        two_versions.put("a", b"newest")
    before = session.holds(past=True), session.usage()
    with recovered(place, store) as again:
        session = again.session("session-1")
        assert {each.run for each in session.runs()} == {"run-1", "run-2"}
        assert (session.holds(past=True), session.usage()) == before


def test_what_was_deleted_after_a_release_stays_deleted_though_the_session_was_recovered_between(
    place, store, two_versions
):
    """A rebuilt index has another age of a session whose first run is gone."""
    session = store.session("session-1")
    for name in ("run-2", "run-3"):
        session.run(name).put("b", name.encode())
    two_versions.delete()
    session.hold("audit")
    with recovered(place, store) as again:
        again.session("session-1").release_hold("audited")
        again.session("session-1").run("run-2").delete()
    with recovered(place, again) as third:
        assert [each.run for each in third.runs()] == ["run-3"]
        assert third.session("session-1").holds() == ()


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_hold_brings_nothing_back_that_was_deleted_before_it(place, store, two_versions, hours):
    """Also if it comes from a host whose clock is wrong."""
    session = store.session("session-1")
    for name in ("a", "b", "c"):
        session.run(name).put("f", name.encode())
    two_versions.delete()
    session.plan_retention(RetentionPolicy(keep_last=1)).execute()

    def clock():
        return utc_now() + timedelta(hours=hours)

    with ArtifactStore.open(**place, clock=clock) as elsewhere:
        elsewhere.session("session-1").run("c").hold("case 7")
        elsewhere.session("session-1").hold("audit")
    with recovered(place, store) as again:
        assert [each.run for each in again.runs()] == ["c"]
        assert [each.reason for each in again.session("session-1").holds()] == ["case 7", "audit"]


def test_a_run_made_again_has_none_of_the_holds_of_the_old_one(place, store, two_versions):
    two_versions.hold("case 7")
    two_versions.release_hold("closed")
    two_versions.delete()
    store.session("session-1").run("run-1").put("a", b"new")
    with recovered(place, store) as again:
        run = again.session("session-1").run("run-1")
        assert run.holds(past=True) == ()
        run.delete()


@pytest.mark.parametrize("back_up", [False, True])
@pytest.mark.parametrize("delete_session", [False, True])
@pytest.mark.parametrize("held_before", [False, True])
def test_holds_that_a_sync_brought_come_back(
    place, stores, store, two_versions, tmp_path, back_up, delete_session, held_before
):
    """Also those of a run that was deleted and synced again, and has the age that it had."""
    source_place = stores.make("sqlite-local", tmp_path / "source")
    with ArtifactStore.open(**source_place) as source:
        store.sync_to(source)
        theirs = source.session("session-1")
        if held_before:
            theirs.run("run-1").hold("case 7", agent="counsel")
            source.sync_to(store)
            two_versions.release_hold("a mistake")
        else:
            theirs.run("run-1").hold("case 7", agent="counsel")
            theirs.hold("audit")
        if back_up:
            store.back_up()
        (store.session("session-1") if delete_session else two_versions).delete()
        source.sync_to(store)
    before = store.session("session-1").holds(past=True)
    assert [each.reason for each in before if each.run] == ["case 7"]
    assert [each.released_at for each in before] == [None] * len(before)
    with recovered(place, store) as again:
        session = again.session("session-1")
        assert session.holds(past=True) == before
        with pytest.raises(HeldError, match="case 7"):
            session.run("run-1").delete()


def test_a_held_run_that_was_synced_since_the_backup_stays_held(
    place, stores, store, two_versions, tmp_path
):
    with ArtifactStore.open(**stores.make("sqlite-local", tmp_path / "source")) as source:
        store.sync_to(source)
        two_versions.hold("case 7")
        two_versions.release_hold("closed")
        two_versions.hold("case 8")
        store.back_up()
        source.session("session-1").run("run-1").put("a", b"newer")
        source.sync_to(store)
    before = two_versions.holds(past=True)
    with recovered(place, store) as again:
        run = again.session("session-1").run("run-1")
        assert run.read_bytes("a") == b"newer"
        assert run.holds(past=True) == before


@pytest.mark.parametrize("back_up", [False, True])
def test_a_session_made_again_has_none_of_the_rules_of_the_old_one(
    place, store, two_versions, back_up
):
    session = store.session("session-1")
    session.tag_run("best", "run-1")
    session.hold("audit")
    session.release_hold("audited")
    session.set_quota(5_000)
    if back_up:
        store.back_up()
    session.delete()
    session.run("run-1").put("a", b"new")
    session.hold("case 7")
    with recovered(place, store) as again:
        session = again.session("session-1")
        assert [each.reason for each in session.holds(past=True)] == ["case 7"]
        assert session.usage().quota_bytes is None
        assert session.run_tags() == ()
        with pytest.raises(UnknownRunError):
            session.run_tag_history("best")


@pytest.mark.parametrize("back_up", [False, True])
def test_a_session_whose_runs_are_deleted_keeps_what_was_said_of_it(
    place, store, two_versions, back_up
):
    session = store.session("session-1")
    session.set_quota(5_000)
    session.tag_run("best", "run-1")
    session.tag_run("best", "run-1", agent="w")
    store.session("session-2").run("r").put("a", b"a")
    if back_up:
        store.back_up()
    two_versions.delete(force=True)
    store.session("session-2").run("r").delete()
    session.hold("audit")
    before = session.holds(past=True), session.usage(), session.run_tag_history("best")
    with recovered(place, store) as again:
        found = again.session("session-1")
        assert (found.holds(past=True), found.usage(), found.run_tag_history("best")) == before
        assert again.session("session-2").runs() == []
        with pytest.raises(HeldError, match="audit"):
            found.delete()


@pytest.mark.parametrize("is_made", [False, True])
def test_a_hold_that_had_to_be_tried_again_is_one_hold(
    place, store, two_versions, is_made, monkeypatch
):
    """Because a run was made or deleted meanwhile."""
    session = store.session("session-1")
    session.run("run-2").put("b", b"stays")
    kept = index.commit.rules.store_entry

    def meanwhile(blobs, entry):
        stored = kept(blobs, entry)
        monkeypatch.setattr(index.commit.rules, "store_entry", kept)
        if is_made:
            session.run("run-3").put("c", b"new")
        else:
            two_versions.delete()
        return stored

    monkeypatch.setattr(index.commit.rules, "store_entry", meanwhile)
    session.hold("audit")
    before = session.holds()
    assert len(before) == 1
    runs = {each.run for each in session.runs()}
    assert runs == ({"run-1", "run-2", "run-3"} if is_made else {"run-2"})
    with recovered(place, store) as again:
        assert again.session("session-1").holds(past=True) == before
        assert {each.run for each in again.runs()} == runs


def test_retention_keeps_what_is_held_and_says_so(store, two_versions):
    session = store.session("session-1")
    session.run("run-2").put("b", b"newer")
    policy = RetentionPolicy(keep_last=1, versions=(VersionRule(older_than=timedelta()),))
    two_versions.hold("case 7")
    plan = session.plan_retention(policy)
    assert [(each.run, each.reasons) for each in plan.runs] == [
        ("run-2", ("last",)),
        ("run-1", ("on hold: case 7",)),
    ]
    assert plan.versions == ()
    two_versions.release_hold("closed")
    plan = session.plan_retention(policy)
    session.hold("audit")
    report = plan.execute()
    assert report.runs == ()
    assert [each.run for each in report.skipped] == ["run-1"]
    assert session.plan_retention(policy).deleted == ()
