"""Faults of S3 and of the network, while the command tracks and restores.

Nothing is lost and nothing is visible in part. A passing fault is not noticed. A lasting one is one
sentence that says what to do; after it, the same command completes.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import PurePath

import pytest
from fault_proxy import Fault
from forged import assert_sound
from places import environment_of, on, packs_of, through
from trees import contents, read, write

from cas.backends.retrying import Retrying
from index import ArtifactStore
from index.cli import main

OLD = {"kept": b"as it was", "changed": b"before"}
NEW = {"kept": b"as it was", "changed": b"after", "new/large": os.urandom(30_000)}

PASSING = [Fault.INTERNAL_ERROR, Fault.BAD_GATEWAY, Fault.SLOW_DOWN, Fault.RESET, Fault.HANG]
"""Faults that may pass, in both directions."""

ON_THE_WAY_THERE = [*PASSING, Fault.LOST_ANSWER, Fault.CORRUPTED]
ON_THE_WAY_BACK = [*PASSING, Fault.TRUNCATED, Fault.SHORT, Fault.CORRUPTED]

LASTING = {
    Fault.EXPIRED_TOKEN: "have expired; renew them and run the command again",
    Fault.NO_BUCKET: "there is no bucket s3://runcas; create it",
}
AGAIN_LATER = "it may help to run the command again later"

pytestmark = on(
    index="sqlite",
    blobs="s3",
    because="a local directory has no network to it, and no index sees the faults",
)


@pytest.fixture
def passing(proxy, monkeypatch):
    """Let a fault happen to one or two requests; hanging ones time out soon."""

    @contextmanager
    def passing(fault, **where):
        # If bytes do not match, a reader fetches them once more.
        times = 1 if fault is Fault.CORRUPTED else 2
        with monkeypatch.context() as patch, proxy.fault(fault, times=times, **where):
            if fault is Fault.HANG:
                patch.setattr("cas.backends.remote._PATIENCE_S", 4)
            yield

    return passing


@pytest.fixture
def lasting(proxy, monkeypatch):
    """Let a fault happen to every request; the retries end soon."""

    def quick(**_settings):
        return Retrying(deadline=0.3, first_wait=0.001, longest_wait=0.02)

    @contextmanager
    def lasting(fault, **where):
        with monkeypatch.context() as patch, proxy.fault(fault, times=None, **where):
            patch.setattr("cas.backends.retrying.Retrying", quick)
            if fault is Fault.HANG:
                patch.setattr("cas.backends.remote._PATIENCE_S", 4)
            yield

    return lasting


@pytest.fixture
def cas(place, proxy, monkeypatch, capfd):
    """Run the command through the proxy; return exit code, output and errors."""
    for name, value in environment_of(through(place, proxy)).items():
        monkeypatch.setenv(name, value)

    def cas(*arguments):
        with pytest.raises(SystemExit) as done:
            main([*map(str, arguments), "--run", "r"])
        return done.value.code, *capfd.readouterr()

    return cas


@pytest.fixture
def tracked(cas, work):
    """A work directory that has changed since it was tracked."""
    write(work, OLD)
    assert cas("track", work)[0] == 0
    write(work, NEW)
    return work


@pytest.fixture
def seen(place):
    """Return a function that reads the run at each snapshot, without the proxy."""

    def seen():
        with ArtifactStore.open(**place) as store:
            run = store.session("default").run("r")
            return [contents(run, at=snapshot.number) for snapshot in run.snapshots()]

    return seen


def assert_whole(objects):
    for name in packs_of(objects):
        assert_sound(PurePath(name).stem, objects.read(name))
    assert objects.leftovers() == []


@pytest.mark.parametrize("fault", ON_THE_WAY_THERE, ids=lambda fault: fault.name)
def test_what_passes_while_tracking_is_not_noticed(cas, tracked, passing, objects, seen, fault):
    with passing(fault, method="PUT"):
        code, _, err = cas("track", tracked)
    assert (code, [line for line in err.splitlines() if not line.startswith("waiting for")]) == (
        0,
        [],
    )
    assert seen() == [OLD, NEW]
    assert_whole(objects)


@pytest.mark.parametrize("fault", [*ON_THE_WAY_THERE, *LASTING], ids=lambda fault: fault.name)
def test_what_lasts_while_tracking_is_told_and_a_rescan_completes(
    cas, tracked, lasting, objects, seen, fault
):
    with lasting(fault, method="PUT"):
        code, out, err = cas("track", tracked)
    assert (code, out, err.count("\n")) == (5, "", 1)
    assert LASTING.get(fault, AGAIN_LATER) in err
    assert seen() == [OLD]
    assert_whole(objects)
    assert cas("track", tracked)[0] == 0
    assert seen() == [OLD, NEW]
    assert_whole(objects)


@pytest.mark.parametrize("fault", ON_THE_WAY_BACK, ids=lambda fault: fault.name)
def test_what_passes_while_restoring_is_not_noticed(cas, tracked, passing, tmp_path, fault):
    assert cas("track", tracked)[0] == 0
    with passing(fault, method="GET", path="/packs/"):
        code, _, err = cas("restore", "--to", tmp_path / "out")
    assert (code, [line for line in err.splitlines() if not line.startswith("waiting for")]) == (
        0,
        [],
    )
    assert read(tmp_path / "out") == NEW


@pytest.mark.parametrize("fault", [*ON_THE_WAY_BACK, *LASTING], ids=lambda fault: fault.name)
def test_what_lasts_while_restoring_is_told_and_leaves_no_part_of_a_file(
    cas, tracked, lasting, tmp_path, fault
):
    assert cas("track", tracked)[0] == 0
    with lasting(fault, method="GET", path="/packs/"):
        code, out, err = cas("restore", "--to", tmp_path / "out")
    if fault is Fault.CORRUPTED:  # bytes that are always wrong look like damaged ones
        assert (code, out, err.count("\n")) == (3, "", 1)
        assert "hash to" in err
    else:
        assert (code, out, err.count("\n")) == (5, "", 1)
        assert LASTING.get(fault, AGAIN_LATER) in err
    assert read(tmp_path / "out").items() <= NEW.items()
    assert cas("restore", "--to", tmp_path / "out")[0] == 0
    assert read(tmp_path / "out") == NEW


@pytest.mark.parametrize("fault", [Fault.INTERNAL_ERROR, *LASTING], ids=lambda fault: fault.name)
def test_a_store_that_cannot_be_opened_says_so(cas, tracked, lasting, seen, fault):
    with lasting(fault, method="GET", path="/cas.json"):
        code, out, err = cas("track", tracked)
    assert (code, out, err.count("\n")) == (5, "", 1)
    assert LASTING.get(fault, AGAIN_LATER) in err
    assert seen() == [OLD]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_one_upload_of_several_that_fails_records_nothing(
    cas, tracked, proxy, objects, seen, monkeypatch, failing
):
    monkeypatch.setattr("cas.packs.packer.PACK_SIZE", 100_000)
    write(tracked, {f"more/{n}": os.urandom(100_000) for n in range(3)})
    with proxy.fault(Fault.EXPIRED_TOKEN, method="PUT", skip=failing):
        code, _, err = cas("track", tracked)
    assert (code, LASTING[Fault.EXPIRED_TOKEN] in err) == (5, True)
    assert seen() == [OLD]
    assert_whole(objects)
    assert cas("track", tracked)[0] == 0
    assert seen() == [OLD, read(tracked)]
