"""Processes that do one operation on a store, say what is done of it, and may be killed in it.

One process imports everything and opens nothing; it forks a victim for each operation, so that a
victim begins its work within milliseconds. What a victim says comes in lines, each written at once:
``ready`` with its process id, one line for all that is done and must therefore stay, and ``done``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from index import ArtifactStore, recover, schema
from index.database import Database


@dataclass(frozen=True)
class Fate:
    """What became of a victim."""

    said: list
    """What it said to be done, without ``ready`` and ``done``."""
    is_done: bool
    seconds: float
    """From ``ready`` to ``done`` or to its end."""
    status: int


class Victims:
    """Starts one victim after the other; a context manager."""

    def __enter__(self):
        self._mother = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *error):
        with self._mother:
            self._mother.stdin.close()

    def run(self, operation, told, *, kill_after=None):
        """Have an operation done; kill the process so many seconds after it began."""
        self._tell({"operation": operation, "told": told})
        word, pid = self._hear().split()
        assert word == "ready", word
        began = time.monotonic()
        if kill_after is not None:
            time.sleep(kill_after)  # where it strikes is left to chance; all of it must hold
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self._tell("reap")
        said, took = [], None
        while not (line := self._hear()).startswith("ended "):
            if line == "done":
                took = time.monotonic() - began
            else:
                said.append(line)
        status = os.waitstatus_to_exitcode(int(line.split()[1]))
        assert status in (0, -signal.SIGKILL), "\n".join(said)
        is_done = took is not None
        return Fate(said, is_done, took or time.monotonic() - began, status)

    def _tell(self, what):
        self._mother.stdin.write(json.dumps(what) + "\n")
        self._mother.stdin.flush()

    def _hear(self):
        return self._mother.stdout.readline().rstrip("\n")


def perform(operation, told, say=lambda _what: None):
    """Do an operation here."""
    _OPERATIONS[operation](say, **told)


@contextmanager
def opened(place, **options):
    with ArtifactStore.open(**place, create=False, **options) as store:
        yield store


def _track(say, *, place, run, folders):
    with opened(place) as store:
        for number, folder in enumerate(folders):
            store.session("s").run(run).track(folder, agent=f"agent-{number}", node_id=run)
            say(number)


def _put(say, *, place, run, folder):
    with opened(place) as store:
        for path in sorted(os.listdir(folder)):
            data = Path(folder, path).read_bytes()
            store.session("s").run(run).put(path, data, agent="putter", meta={"of": path})
            say(path)


def _delete(say, *, place, runs):
    with opened(place) as store:
        there = {summary.run for summary in store.runs()}
        for run in runs:
            if run in there:
                store.session("s").run(run).delete()
            say(run)


def _collect(_say, *, place, compact):
    with opened(place) as store:
        store.plan_gc(grace=timedelta(0), compact=compact, remove_orphans=True).execute()


def _restore(_say, *, place, run, to):
    with opened(place) as store:
        store.session("s").run(run).restore(to, overwrite=True)


def _back_up(say, *, place):
    with opened(place) as store:
        for number in range(2):
            say(f"{number} {store.back_up(keep=2).digest}")


def _recover(_say, *, place):
    recover(**place)


def _migrate(_say, *, index):
    database = Database(index)
    schema.upgrade(database)
    database.close()


def _sync(say, *, place, other):
    with opened(place) as store, opened(other) as destination:
        for summary in store.runs():
            store.sync_to(destination, sessions=[summary.session], runs=[summary.run])
            say(summary.run)


def _repair(_say, *, place, folder):
    with opened(place) as store:
        store.repair(folder)


_OPERATIONS = {
    "track": _track,
    "put": _put,
    "delete": _delete,
    "collect": _collect,
    "restore": _restore,
    "back_up": _back_up,
    "recover": _recover,
    "migrate": _migrate,
    "sync": _sync,
    "repair": _repair,
}


def _say(what):
    os.write(1, f"{what}\n".encode())


def _be_mother():
    """Fork a victim for each line; what comes late is imported now."""
    import alembic.command
    import s3fs

    import index.adoption
    import index.backup
    import index.deletion
    import index.garbage.collecting
    import index.garbage.planning
    import index.recovery.recovering
    import index.repair.repairing
    import index.restore
    import index.sync.syncing
    import index.verification.verifying

    del alembic, s3fs, index
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _be_victim(**asked)
        sys.stdin.readline()
        _, status = os.waitpid(child, 0)
        _say(f"ended {status}")


def _be_victim(operation, told):
    try:
        _say(f"ready {os.getpid()}")
        perform(operation, told, _say)
        _say("done")
    except BaseException:  # noqa: BLE001 - told, and the test fails of it
        _say(traceback.format_exc())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _be_mother()
