"""Every system call of storage fails once, in every way, during every operation that writes.

After each fault the error is one of ours, in one sentence. Nothing acknowledged is lost, the store
opens and every byte of it is verified, and the operation completes when it is repeated. By default
each call fails in one way, in turn; CAS_FAULT_TURNS=4 lets each fail in all:

    CAS_FAULT_TURNS=4 pytest -s tests/crash/test_system_call_faults.py
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from chunkers import digests_of_chunks
from damage import records_of
from faults import Disk, FaultyCalls, ShortCalls
from garbage import collect
from lost import lose_index
from places import objects_of, packs_of
from trees import contents, write

from cas.digest import Digest
from cas.errors import BackendError, CasError
from index import ArtifactStore, recover
from index.cli.entry_point import EXIT_CODES
from index.errors import ArtifactIndexError

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
TURNS = int(os.environ.get("CAS_FAULT_TURNS", "1"))
WAYS = (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EDQUOT)

DRAW = random.Random(4)
OLD = {"small": b"small", "raw": DRAW.randbytes(9000), "large": DRAW.randbytes(MIB + 99)}
NEW = {**OLD, "raw": DRAW.randbytes(8000), "more": DRAW.randbytes(2 * MIB + 7)}


@dataclass(frozen=True)
class Prepared:
    """A store that holds OLD and garbage, and what an operation also needs."""

    place: dict
    work: Path
    stores: object

    def copy(self, folder):
        return self.stores.copy(self.place, folder)


@pytest.fixture(scope="module")
def prepared(stores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    place = stores.make("sqlite-local", folder)
    write(folder / "work", {**OLD, "dead": DRAW.randbytes(2 * MIB)})
    with ArtifactStore.open(**place) as store:
        deleted = store.session("s").run("deleted")
        deleted.track(folder / "work")
        for path, data in OLD.items():
            store.session("s").run("r").put(path, data)
        deleted.delete()
    shutil.rmtree(folder / "work")
    write(folder / "work", NEW)
    return Prepared(place, folder / "work", stores)


@pytest.fixture(scope="module")
def damaged(prepared, tmp_path_factory):
    """The same store, marked as damaged, with all bytes for its repair in the work directory."""
    place = prepared.copy(tmp_path_factory.mktemp("damaged"))
    work = tmp_path_factory.mktemp("sources")
    write(work, {**OLD, **{f"new-{path}": data for path, data in NEW.items()}})
    objects = objects_of(place)
    wanted = {Digest.of(OLD["raw"]), digests_of_chunks(OLD["large"])[0]}
    for name in packs_of(objects):
        data = bytearray(objects.read(name))
        for _, _, digest, offset, stored, _ in records_of(data):
            if Digest(digest) in wanted:
                data[offset + stored // 2] ^= 1
        objects.write(name, bytes(data))
    with ArtifactStore.open(**place) as store:
        assert len(store.verify(depth="bytes").faults) == 2  # a blob, and a chunk of a large one
    return Prepared(place, work, prepared.stores)


@pytest.fixture(scope="module")
def without_index(prepared, tmp_path_factory):
    place = prepared.copy(tmp_path_factory.mktemp("lost"))
    with ArtifactStore.open(**place) as store:
        store.back_up()
        store.session("s").run("r").put("small", OLD["small"])
    lose_index(place)
    return Prepared(place, prepared.work, prepared.stores)


@pytest.fixture(params=["track", "put", "collect", "repair", "back_up", "recover"])
def operation(request):
    return request.param


@pytest.fixture
def begun(operation, prepared, request):
    """The state in which the operation begins."""
    fixtures = {"repair": "damaged", "recover": "without_index"}
    return request.getfixturevalue(fixtures[operation]) if operation in fixtures else prepared


def do(operation, place, work):
    """Open the store and do the operation."""
    if operation == "recover":
        recover(**place)
        return
    with ArtifactStore.open(**place, create=False) as store:
        run = store.session("s").run("r")
        if operation == "track":
            run.track(work)
        elif operation == "put":
            run.put("large", NEW["more"])
        elif operation == "collect":
            assert collect(store, remove_orphans=True).damaged == ()
        elif operation == "repair":
            assert store.repair(work).is_complete
        else:
            store.back_up()


AFTER = {"track": NEW, "put": {**OLD, "large": NEW["more"]}}


def check(operation, place, work):
    """Check that all acknowledged data is there, and that the operation completes when repeated."""
    if operation != "recover" or (place["root"] / "index.db").exists():
        with ArtifactStore.open(**place, create=False) as store:
            if operation != "repair":
                assert store.verify(depth="bytes").is_sound
                assert contents(store.session("s").run("r")) in (OLD, AFTER.get(operation, OLD))
    if operation != "recover" or not (place["root"] / "index.db").exists():
        do(operation, place, work)
    with ArtifactStore.open(**place, create=False) as store:
        run = store.session("s").run("r")
        assert contents(run) == AFTER.get(operation, OLD)
        assert contents(run, at=3) == OLD
        report = store.verify(depth="bytes")
        assert report.is_sound, report.faults
        store.session("next").run("write").put("x", b"x")  # a writer removes what was left in tmp/
    assert objects_of(place).leftovers() == []
    there = {path.name for path in place["root"].iterdir()}
    assert there <= {"cas.json", "damaged", "index.db", "index.json", "packs", "tmp"}


def refusal(operation, place, work):
    """Do the operation; return the error of ours that ended it, if any."""
    try:
        do(operation, place, work)
    except (CasError, ArtifactIndexError) as error:
        return error
    return None


def exit_code(error):
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


LEAST = {"track": 15, "put": 15, "collect": 35, "repair": 70, "back_up": 20, "recover": 60}


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(TURNS))
def test_any_system_call_fails_once(operation, begun, tmp_path, monkeypatch, turn):
    fired = refused = 0
    met = Counter()
    for number in range(1000):
        place = begun.copy(tmp_path / str(number))
        code = WAYS[(number + turn) % len(WAYS)]
        calls = FaultyCalls(fail_at=number, error=OSError(code, os.strerror(code)))
        with monkeypatch.context() as patched:
            patched.setattr("cas.backends.local.PosixCalls", lambda calls=calls: calls)
            error = refusal(operation, place, begun.work)
        if error is not None:
            refused += 1
            assert exit_code(error) == 5, repr(error)
            assert str(error).isprintable()
            assert os.strerror(code) in str(error) or "no space" in str(error)
        if calls.fired:
            met[calls.calls[number][0]] += 1
        if calls.leaves_more(number):
            check(operation, place, begun.work)
        shutil.rmtree(place["root"])
        if not calls.fired:
            break
        fired += 1
    assert fired >= LEAST[operation]
    assert refused >= fired // 2
    sys.stdout.write(f"\n{operation}: {fired} calls failed, {refused} refused; {dict(met)}\n")


def test_short_writes_and_short_reads_are_gone_on_with(operation, begun, tmp_path, monkeypatch):
    place = begun.copy(tmp_path / "place")
    calls = ShortCalls()
    monkeypatch.setattr("cas.backends.local.PosixCalls", lambda: calls)
    do(operation, place, begun.work)
    assert calls.short >= 2
    monkeypatch.undo()
    check(operation, place, begun.work)


def test_what_was_written_before_a_failed_fsync_is_written_again(
    operation, begun, tmp_path, monkeypatch
):
    """A later successful fsync proves nothing: a power cut would then remove the data."""
    fired = 0
    for number in range(1000):
        place = begun.copy(tmp_path / str(number))
        disk = Disk(fail_at=number)
        with monkeypatch.context() as patched:
            patched.setattr("cas.backends.local.PosixCalls", lambda disk=disk: disk)
            refused = False
            try:
                do(operation, place, begun.work)
            except BackendError:
                refused = True
            assert refused == bool(disk.fired)
            if refused:
                do(operation, place, begun.work)
        disk.cut_power(place["root"])
        check(operation, place, begun.work)
        shutil.rmtree(place["root"])
        if not disk.fired:
            break
        fired += 1
    assert fired >= {"recover": 0, "collect": 1}.get(operation, 1)


COMMANDS = {
    "track": ("track", "{work}", "--session", "s", "--run", "r"),
    "collect": ("gc", "--grace", "0"),
    "repair": ("repair", "--from", "{work}"),
}


@pytest.mark.parametrize("operation", COMMANDS, indirect=True)
def test_the_command_says_it_in_one_line_with_its_exit_code(
    operation, begun, tmp_path, monkeypatch, cas
):
    words = [word.format(work=begun.work) for word in COMMANDS[operation]]
    told = 0
    for number in range(0, 1000, 5):
        place = begun.copy(tmp_path / str(number))
        calls = FaultyCalls(fail_at=number, error=OSError(errno.EIO, os.strerror(errno.EIO)))
        with monkeypatch.context() as patched:
            patched.setattr("cas.backends.local.PosixCalls", lambda calls=calls: calls)
            code, _, err = cas("--store", place["root"], *words)
        assert code in (0, 5)
        if code == 5:
            told += 1
            assert err.startswith("error: storage failed at ")
            assert err.count("\n") == 1
        shutil.rmtree(place["root"])
        if not calls.fired:
            break
    assert told >= 2
