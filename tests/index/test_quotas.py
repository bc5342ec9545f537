"""Quotas: what a session may hold is refused before it is written, and counted once a run."""

from __future__ import annotations

import errno
import random
import threading

import pytest
from places import EACH_INDEX, filesystem_options, objects_of, places
from trees import write

from index import ArtifactStore
from index.errors import QuotaExceededError, UnknownSessionError
from index.filesystem import CasFileSystem

place = places(EACH_INDEX)


@pytest.fixture
def session(store):
    return store.session("session-1")


def random_bytes(size, seed):
    """Bytes that don't compress."""
    return random.Random(seed).randbytes(size)


def test_a_quota_is_set_before_the_first_write_and_usage_says_what_is_held(session):
    with pytest.raises(UnknownSessionError):
        session.usage()
    usage = session.set_quota(1_000)
    assert (usage.bytes, usage.quota_bytes) == (0, 1_000)
    session.run("run-1").put("a", b"x" * 400)
    session.run("run-1").put("b", b"x" * 400)
    assert session.usage().bytes == 400
    session.run("run-2").put("a", b"x" * 400)
    assert session.usage().bytes == 800
    session.run("run-2").delete()
    assert session.usage().bytes == 400
    assert session.set_quota(None).quota_bytes is None
    for wrong in (-1, 1 << 63, 1.5, True, "5"):
        with pytest.raises(ValueError, match="a quota is a number of bytes"):
            session.set_quota(wrong)


def test_a_quota_of_nothing_lets_nothing_in_and_none_is_no_quota(cas, tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    assert cas("init")[0] == 0
    assert cas("quota", "0")[0] == 0
    code, _, err = cas("put", "a", "--run", "r")
    assert (code, "its quota allows no more" in err) == (1, True)
    assert cas("quota")[1] == "session default holds 0 B of 0 B\n"
    assert cas("quota", "none")[1] == "session default holds 0 B without a quota\n"


def test_a_put_beyond_the_quota_is_refused_before_its_bytes_are_written(session, place, work):
    session.set_quota(1_000)
    run = session.run("run-1")
    run.put("a", random_bytes(900, 1))
    before = objects_of(place).names()
    with pytest.raises(
        QuotaExceededError, match="'session-1' holds 900 of 1,000 bytes, and its quota allows no"
    ):
        run.put("b", random_bytes(101, 2))
    write(work, {"c": random_bytes(60, 3), "d": random_bytes(60, 4)})
    with pytest.raises(QuotaExceededError):
        run.track(work)
    assert objects_of(place).names() == before
    assert [version.path for version in run.files()] == ["a"]
    run.put("b", random_bytes(100, 5))


def test_a_large_file_is_refused_before_the_first_pack(session, place, work):
    session.set_quota(20 << 20)
    write(work, {"large": random_bytes(30 << 20, 1)})
    with pytest.raises(QuotaExceededError):
        session.run("run-1").track(work)
    assert session.usage().bytes == 0


def test_bytes_that_other_sessions_have_count_and_are_refused_alike(store, session):
    store.session("session-2").run("run-1").put("a", b"y" * 600)
    session.set_quota(500)
    with pytest.raises(QuotaExceededError, match="holds 0 of 500 bytes"):
        session.run("run-1").put("a", b"y" * 600)
    with pytest.raises(QuotaExceededError, match="holds 0 of 500 bytes"):
        session.run("run-1").put("a", b"z" * 600)


def test_a_write_by_url_beyond_the_quota_is_an_error_of_the_disk(session, place):
    session.set_quota(100)
    files = CasFileSystem(**filesystem_options(place))
    with pytest.raises(OSError, match="its quota allows no more") as error:
        files.pipe_file("cas://session-1/run-1/a", b"x" * 200)
    assert error.value.errno == errno.EDQUOT


def test_what_adds_no_bytes_is_recorded_beyond_a_quota(session):
    run = session.run("run-1")
    run.put("a", b"x" * 600)
    run.put("b", b"y" * 600)
    session.set_quota(100)
    run.put("c", b"x" * 600)
    run.remove("a")
    run.tag("best")
    run.set_status("finished")
    assert session.usage().bytes == 1_200


def test_a_fork_beyond_the_quota_is_refused(session):
    run = session.run("run-1")
    run.put("a", b"x" * 600)
    session.set_quota(1_000)
    with pytest.raises(QuotaExceededError):
        run.fork("run-2")
    assert [each.run for each in session.runs()] == ["run-1"]
    session.set_quota(1_200)
    run.fork("run-2")


def test_a_dropped_version_frees_what_only_it_had(session):
    run = session.run("run-1")
    run.put("a", b"x" * 600)
    run.put("a", b"y" * 100)
    run.put("b", b"z" * 50)
    session.set_quota(1_000)
    run.drop("a", version=1, reason="too large")
    assert session.usage().bytes == run.stats().distinct_bytes == 150
    run.put("c", b"w" * 800)


def test_a_sync_beyond_the_quota_of_the_destination_brings_no_bytes(
    stores, tmp_path, store, session
):
    session.run("run-1").put("a", random_bytes(600, 1))
    there = stores.make("sqlite-local", tmp_path / "there")
    with ArtifactStore.open(**there) as destination:
        theirs = destination.session("session-1")
        theirs.set_quota(500)
        before = objects_of(there).names()
        (refused,) = store.sync_to(destination).unsynced
        assert (refused.outcome, refused.versions) == ("failed", 0)
        assert "holds 0 of 500 bytes" in refused.reason
        assert objects_of(there).names() == before
        theirs.set_quota(600)
        store.sync_to(destination)
        assert theirs.usage().bytes == 600


def test_a_run_beyond_the_quota_of_the_destination_keeps_no_other_from_it(
    stores, tmp_path, store, session
):
    session.run("a").put("a", b"small")
    session.run("b").put("a", random_bytes(600, 1))
    store.session("session-2").run("c").put("a", random_bytes(600, 2))
    with ArtifactStore.open(**stores.make("sqlite-local", tmp_path / "there")) as destination:
        destination.session("session-1").set_quota(500)
        for before in ("copied", "unchanged"):
            outcomes = [(run.run, run.outcome) for run in store.sync_to(destination).runs]
            assert outcomes == [("a", before), ("b", "failed"), ("c", before)]
        assert [run.run for run in destination.runs()] == ["a", "c"]
        (refused,) = destination.session("session-1").copy_run(session.run("b")).unsynced
        assert "holds 5 of 500 bytes" in refused.reason


def test_eight_writers_at_once_do_not_pass_the_quota(place, session):
    session.set_quota(10_000)
    refused = []

    def write_until_refused(number):
        with ArtifactStore.open(**place) as store:
            run = store.session("session-1").run(f"run-{number}")
            for n in range(20):
                try:
                    run.put(f"{n}", random_bytes(300, f"{number} {n}"))
                except QuotaExceededError as error:
                    refused.append(error)
                    return

    writers = [threading.Thread(target=write_until_refused, args=(n,)) for n in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert len(refused) == 8
    assert 10_000 - 300 < session.usage().bytes <= 10_000
