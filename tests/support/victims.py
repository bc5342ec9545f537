"""Processes that do one operation on a store, report their progress, and may be killed.

One process imports everything and opens nothing. It forks a victim for each operation, so that a
victim begins its work within milliseconds. A victim reports in lines, each written at once:
``ready`` with its process id, ``open`` for each opened store, one line for all that is done and
must therefore stay, and ``done``.
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

from index import ArtifactStore, recover
from index.db import schema
from index.db.database import Database


@dataclass(frozen=True)
class Fate:
    """How a victim ended."""

    said: list
    """The reported steps, without ``ready``, ``open`` and ``done``."""
    is_done: bool
    pauses: list
    """Seconds before each line after ``ready``, until the kill."""
    status: int


_LAST = {"done", "failed"}


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

    def run(self, operation, told, *, kill=None):
        """Have an operation done; kill the process at `kill`.

        Parameters
        ----------
        kill
            After how many lines beyond ``ready``, and how many seconds after the last of them.
        """
        self._tell({"operation": operation, "told": told})
        word, pid = self._hear().split()
        assert word == "ready", word
        heard, pauses, at = [], [], time.monotonic()
        while not heard or heard[-1] not in _LAST:
            if kill is not None and len(heard) == kill[0]:
                time.sleep(kill[1])  # where it lands depends on timing; all must hold
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
                break
            heard.append(self._hear())
            pauses.append(time.monotonic() - at)
            at += pauses[-1]
        self._tell("reap")
        while not (line := self._hear()).startswith("ended "):
            heard.append(line)
        status = os.waitstatus_to_exitcode(int(line.split()[1]))
        assert status in (0, -signal.SIGKILL), "\n".join(heard)
        said = [line for line in heard if line not in {"open", *_LAST}]
        return Fate(said, "done" in heard, pauses, status)

    def _tell(self, what):
        self._mother.stdin.write(json.dumps(what) + "\n")
        self._mother.stdin.flush()

    def _hear(self):
        return self._mother.stdout.readline().rstrip("\n")


def perform(operation, told, say=lambda _what: None):
    """Do an operation in this process."""
    _OPERATIONS[operation](say, **told)


@contextmanager
def opened(say, place):
    with ArtifactStore.open(**place, create=False) as store:
        say("open")
        yield store


def _track(say, *, place, run, folders):
    with opened(say, place) as store:
        for number, folder in enumerate(folders):
            store.session("s").run(run).track(folder, agent=f"agent-{number}", node_id=run)
            say(number)


def _put(say, *, place, run, folder):
    with opened(say, place) as store:
        for path in sorted(os.listdir(folder)):
            data = Path(folder, path).read_bytes()
            store.session("s").run(run).put(path, data, agent="putter", meta={"of": path})
            say(path)


def _delete(say, *, place, runs):
    with opened(say, place) as store:
        there = {summary.run for summary in store.runs()}
        for run in runs:
            if run in there:
                store.session("s").run(run).delete()
            say(run)


def _collect(say, *, place, compact):
    with opened(say, place) as store:
        store.plan_gc(grace=timedelta(0), compact=compact, remove_orphans=True).execute()


def _restore(say, *, place, run, to):
    with opened(say, place) as store:
        store.session("s").run(run).restore(to, overwrite=True)


def _back_up(say, *, place):
    with opened(say, place) as store:
        for number in range(2):
            say(f"{number} {store.back_up(keep=2).digest}")


def _recover(_say, *, place):
    recover(**place)


def _migrate(_say, *, index):
    database = Database(index)
    schema.upgrade(database)
    database.close()


def _sync(say, *, place, other):
    with opened(say, place) as store, opened(say, other) as destination:
        for summary in store.runs():
            store.sync_to(destination, sessions=[summary.session], runs=[summary.run])
            say(summary.run)


def _repair(say, *, place, folder):
    with opened(say, place) as store:
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
    """Fork a victim for each line. Import now what the library imports late."""
    import alembic.command
    import s3fs

    import index.commit.delete
    import index.maintenance.backup
    import index.maintenance.gc.collect
    import index.maintenance.gc.plan
    import index.maintenance.recover.rebuild
    import index.maintenance.repair.repair
    import index.maintenance.verify.verify
    import index.reading.restore
    import index.transfer.adopt
    import index.transfer.sync

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
    except BaseException:  # noqa: BLE001 - reported, and fails the test
        _say(f"{traceback.format_exc()}\nfailed")
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _be_mother()
