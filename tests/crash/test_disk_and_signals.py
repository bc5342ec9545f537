"""A full disk and Ctrl-C, in a process of its own."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from fault_proxy import Fault
from places import COMBINATIONS, environment_of, everywhere, on, packs_of, through
from relay import Relay
from sqlalchemy import make_url
from trees import contents, read, write

from index import ArtifactStore
from index.cli.entry_point import KEPT

SECONDS = 30
"""Half of what a wait takes that nothing ends."""


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
    [(each, 0.15) for each in COMBINATIONS] + [("sqlite-local", at) for at in (0.0, 0.4)],
    indirect=["place"],
)
def test_ctrl_c_in_mid_track_ends_in_one_line_and_a_rescan_completes(
    command, place, objects, work, delay
):
    write(work, {f"d{n % 20}/{n}": os.urandom(3000) for n in range(600)})
    write(work, {"big": os.urandom(10 << 20)})
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
        assert errors.strip().splitlines() == [f"interrupted; {KEPT['track']}"]
    with ArtifactStore.open(**place) as store:
        run = store.session("default").run("work")
        run.track(work)
        assert contents(run) == read(work)
        run.put("another", b"write")
    # The next writing process has removed what the interrupted one left.
    assert objects.leftovers() == []


class TestCtrlCDuringAWait:
    """A worker thread waits, up to a minute; the main thread waits for the worker."""

    @pytest.fixture
    def interrupted(self, work):
        """Returns what a command said that got Ctrl-C once `waits` returned."""

        def interrupted(words, environment, waits, command=("track", work)):
            write(work, {"a": b"1"})
            with subprocess.Popen(
                [*words, *command], stderr=subprocess.PIPE, text=True, env=environment
            ) as process:
                try:
                    said = waits(process)
                    process.send_signal(signal.SIGINT)
                    _, more = process.communicate(timeout=SECONDS)
                finally:
                    process.kill()
            assert process.returncode == 130
            return [line for line in (said + more).splitlines() if line]

        return interrupted

    @pytest.fixture
    def nothing_is_lost(self, place, objects, work):
        yield
        with ArtifactStore.open(**place) as store:
            run = store.session("default").run("work")
            assert objects.leftovers() == []
            assert run.track(work).number == 1
            assert contents(run) == read(work)
            assert store.verify().faults == ()

    @on(index="sqlite", because="elsewhere writers lock rows", every_pair=True)
    @pytest.mark.usefixtures("nothing_is_lost")
    def test_for_the_lock_of_another_writer(self, command, place, interrupted):
        file = place["root"] / "index.db" if "root" in place else make_url(place["index"]).database
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            said = interrupted(*command, lambda process: process.stderr.readline())
        assert_two_lines(said, "another writer has its lock")

    @on(index="postgresql", because="SQLite has no server", every_pair=True)
    @pytest.mark.usefixtures("nothing_is_lost")
    def test_for_a_database_that_went_down(self, command, place, interrupted):
        words, environment = command
        url = make_url(place["index"])
        with Relay(url.port) as relay:
            relay.cut_at(b"INSERT INTO cas_packs", deliver=False, for_good=True)
            near = url.set(port=relay.port).update_query_dict({"sslmode": "disable"})
            environment["CAS_INDEX"] = near.render_as_string(hide_password=False)
            said = interrupted(words, environment, lambda process: process.stderr.readline())
        assert_two_lines(said, "onnection")

    @on(blobs="s3", because="a directory has no service", every_pair=True)
    @pytest.mark.usefixtures("nothing_is_lost")
    def test_for_a_service_that_does_not_answer(self, command, place, proxy, interrupted):
        words, _ = command
        with proxy.gate("PUT") as gate:
            environment = os.environ | environment_of(through(place, proxy))
            said = interrupted(words, environment, lambda _process: gate.wait_for(1) or "")
        assert said == [f"interrupted; {KEPT['track']}"]

    @on(blobs="s3", because="a directory has no service", every_pair=True)
    @pytest.mark.usefixtures("nothing_is_lost")
    def test_for_a_service_that_is_down(self, command, place, proxy, interrupted):
        words, _ = command
        with proxy.fault(Fault.INTERNAL_ERROR, method="PUT", times=None):
            environment = os.environ | environment_of(through(place, proxy))
            said = interrupted(words, environment, lambda process: process.stderr.readline())
        assert_two_lines(said, "InternalError")

    @on(blobs="s3", because="a directory has no service")
    @pytest.mark.parametrize("words", ["restore --to {}", "verify --depth bytes"])
    def test_for_a_service_that_a_command_reads_from(
        self, command, cas, place, proxy, interrupted, work, tmp_path, words
    ):
        write(work, {"a": b"1", "b": b"2"})
        assert cas("track", work).returncode == 0
        environment = os.environ | environment_of(through(place, proxy))
        arguments = words.format(tmp_path / "restored").split()
        with proxy.fault(Fault.INTERNAL_ERROR, method="GET", path="/packs/", times=None):
            said = interrupted(
                command[0], environment, lambda process: process.stderr.readline(), arguments
            )
        assert_two_lines(said, "InternalError")


def assert_two_lines(said, reason):
    waiting, end = said
    assert waiting.startswith("waiting for ")
    assert reason in waiting
    assert end in [f"interrupted; {kept}" for kept in KEPT.values()]
