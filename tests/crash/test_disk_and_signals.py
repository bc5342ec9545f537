"""A full disk and Ctrl-C, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from places import COMBINATIONS, CORNERS, environment_of, everywhere, on, packs_of
from trees import contents, read, write

from index import ArtifactStore


@pytest.fixture
def command(place):
    """The arguments and environment of the command for this store."""
    words = [sys.executable, "-c", "from index.cli import main; main()"]
    if "root" in place:
        return [*words, "--store", place["root"]], dict(os.environ)
    return words, os.environ | environment_of(place)


@pytest.fixture
def cas(command):
    words, environment = command

    def cas(*arguments, **kwargs):
        return subprocess.run(
            [*words, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            **kwargs,
        )

    return cas


def limited(size):
    """Let the process write no file larger than `size`, which acts like a full disk."""
    import resource

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@everywhere
def test_a_pack_that_finds_no_room_is_one_sentence_and_loses_nothing(cas, place, objects, work):
    write(work, {"a": b"small"})
    assert cas("track", work).returncode == 0
    write(work, {"big": os.urandom(4 << 20)})
    outcome = cas("track", work, preexec_fn=limited(1 << 20))
    assert outcome.returncode == 5
    assert outcome.stderr.startswith("error: storage failed at ")
    assert outcome.stderr.count("\n") == 1
    with ArtifactStore.open(**place) as store:
        assert contents(store.session("default").run("work")) == {"a": b"small"}
        assert len(packs_of(objects)) == 1
        assert objects.leftovers() == []
    assert cas("track", work).returncode == 0
    with ArtifactStore.open(**place) as store:
        assert contents(store.session("default").run("work")) == read(work)


@on(index="sqlite", because="a server's disk is not this process's to fill", every_pair=True)
def test_an_index_that_finds_no_room_is_one_sentence_and_loses_nothing(cas, place, work):
    write(work, {"a": b"small"})
    assert cas("track", work).returncode == 0
    write(work, {f"{n:05d}": b"same" for n in range(6_000)})
    outcome = cas("track", work, preexec_fn=limited(300_000))
    assert outcome.returncode == 5
    assert "can't be used" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    with ArtifactStore.open(**place) as store:
        assert contents(store.session("default").run("work")) == {"a": b"small"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "delay"),
    [(each, 0.15) for each in COMBINATIONS] + [(each, at) for each in CORNERS for at in (0.0, 0.4)],
    indirect=["place"],
)
def test_ctrl_c_in_mid_track_ends_in_one_line_and_a_rescan_completes(
    command, place, objects, work, delay
):
    write(work, {f"d{n % 20}/{n}": os.urandom(3000) for n in range(1000)})
    write(work, {"big": os.urandom(20 << 20)})
    (python, c, code, *options), environment = command
    process = subprocess.Popen(
        [python, c, f"print('ready', flush=True); {code}", *options, "track", work],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(delay)  # where in the scan it lands depends on timing; all must hold
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    # -SIGINT: it came after the command, while the interpreter was ending.
    assert process.returncode in (0, 130, -signal.SIGINT)
    if process.returncode == 130:
        assert errors.strip().splitlines() == ["interrupted; unfinished work was not recorded"]
    with ArtifactStore.open(**place) as store:
        run = store.session("default").run("work")
        run.track(work)
        assert contents(run) == read(work)
        run.put("another", b"write")
    # The next writing process has removed what the interrupted one left.
    assert objects.leftovers() == []
