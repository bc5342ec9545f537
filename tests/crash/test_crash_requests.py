"""The process dies at every request to S3, as it dies at every system call elsewhere.

It is killed while it waits for an answer: either before the request reaches the service, or after
the service has executed it.
"""

from __future__ import annotations

import json
import os
import select

import pytest
from aftermath import NEW, OLD, check_after_crash, prepare
from fault_proxy import Fault
from forks import FORKS
from places import as_json, objects_of, on, through
from trees import contents

import cas.packs.packer
from cas.errors import StorageAccessError
from index import ArtifactStore


def track(place, work):
    """Track in a process of its own, as several packs that are sent at once."""
    cas.packs.packer.PACK_SIZE = 1 << 20
    with ArtifactStore.open(**json.loads(place)) as store:
        store.session("s").run("r").track(work)


with_s3 = on(blobs="s3", because="a local directory gets no request", fixture="prepared")


@pytest.fixture(scope="module")
def prepared(request, stores, tmp_path_factory):
    made = prepare(stores, request.param, tmp_path_factory.mktemp("prepared"))
    yield made
    made.drop(made.place)


def dies_tracking(place, work, proxy, *, at, after):
    """Track in a process that dies at a request; return whether there was such a request."""
    victim = FORKS.Process(target=track, args=(as_json(through(place, proxy)), str(work)))

    def kill():
        ended = os.pidfd_open(victim.pid)
        victim.kill()
        select.select([ended], [], [])
        os.close(ended)

    with proxy.death(kill, at=at, after=after) as died:
        victim.start()
        victim.join()
    assert (victim.exitcode == 0) == (not died)
    return bool(died)


@with_s3
@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_dying_at_any_request(prepared, proxy, tmp_path, after):
    outcomes = []
    died = True
    while died:
        place = prepared.copy(tmp_path / str(len(outcomes)))
        died = dies_tracking(place, prepared.work, proxy, at=len(outcomes), after=after)
        outcomes.append(check_after_crash(place, prepared.work))
        prepared.drop(place)
    assert len(outcomes) > 4  # the settings, and several packs
    assert outcomes[-1] == NEW
    assert all(outcome == OLD for outcome in outcomes[:-1])


on_a_server = on(
    index="postgresql",
    blobs="s3",
    because="with SQLite the same requests are sent in the same order",
    fixture="prepared",
)


@on_a_server
@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_dying_at_any_request_that_creates_the_store(prepared, stores, proxy, tmp_path, after):
    number = 0
    died = True
    while died:
        place = stores.nowhere(prepared.combination)
        died = dies_tracking(place, prepared.work, proxy, at=number, after=after)
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            assert [run.run for run in store.runs()] == ([] if died else ["r"])
            run.track(prepared.work)
            assert contents(run) == NEW
        assert objects_of(place).leftovers() == []
        prepared.drop(place)
        number += 1
    assert number > 5  # read settings, create them, list packs, and send several packs


@on_a_server
def test_any_request_refused_once(prepared, proxy, tmp_path, monkeypatch):
    """A refused request is reported and leaves nothing behind; the next scan completes."""
    monkeypatch.setattr("cas.packs.packer.PACK_SIZE", 1 << 20)
    refused = 0
    reasons = set()
    while True:
        place = prepared.copy(tmp_path / str(refused))
        try:
            with (
                proxy.fault(Fault.EXPIRED_TOKEN, skip=refused, must_fire=False) as planned,
                ArtifactStore.open(**through(place, proxy)) as store,
            ):
                store.session("s").run("r").track(prepared.work)
        except StorageAccessError as error:
            reasons.add(str(error))
        visible = check_after_crash(place, prepared.work)
        prepared.drop(place)
        assert visible == (OLD if planned.fired else NEW)
        if not planned.fired:
            break
        refused += 1
    assert refused >= 4
    assert all("renew them and repeat the call" in reason for reason in reasons)
    assert len(reasons) >= 4  # each error names its object


@on_a_server
@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.LOST_ANSWER], ids=lambda f: f.name)
def test_any_request_failing_once(prepared, proxy, tmp_path, monkeypatch, fault):
    """A passing fault is retried, and the caller does not notice."""
    monkeypatch.setattr("cas.packs.packer.PACK_SIZE", 1 << 20)
    number = 0
    while True:
        place = prepared.copy(tmp_path / str(number))
        with (
            proxy.fault(fault, skip=number, must_fire=False) as planned,
            ArtifactStore.open(**through(place, proxy)) as store,
        ):
            store.session("s").run("r").track(prepared.work)
        assert check_after_crash(place, prepared.work) == NEW
        prepared.drop(place)
        if not planned.fired:
            break
        number += 1
    assert number >= 4
