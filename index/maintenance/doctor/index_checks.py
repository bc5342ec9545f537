"""Checks of the index: connection, schema, rights, clock, and what maintenance has left."""

from __future__ import annotations

from datetime import timedelta
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas.probe import filesystem_of, is_network
from index.db import schema
from index.db.queries import health, runs
from index.errors import (
    IndexUnavailableError,
    SchemaOutOfDateError,
    StorageClaimedError,
    StoreMismatchError,
)
from index.maintenance.doctor.report import ok, problem, warning
from index.maintenance.doctor.surroundings import check_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from cas.store import StoreSettings
    from index.db.database import Database
    from index.db.queries.health import Upkeep
    from index.maintenance.doctor.report import DoctorFinding

__all__ = ["check_index"]

_SKEW_S: Final = 60.0

_VERIFY_WITHIN: Final = timedelta(days=30)
"""Each byte should be read about once a month."""

_COLLECT_WITHIN: Final = timedelta(days=3)
"""A daily collection removes what was marked within its grace period of a day and one more."""

_MOST_NAMED: Final = 3

_HOURS: Final = 48
"""From here on, ages are shown in days."""

_BACK_UP_WITHIN: Final = timedelta(days=7)


def check_index(
    findings: list[DoctorFinding],
    database: Database,
    settings: StoreSettings | None,
    owner: str | None,
    blobs: str,
    clock: Callable[[], datetime],
) -> None:
    """Check the index of a store, as far as it can be reached.

    Parameters
    ----------
    settings, owner
        Those of the storage; None if it has none.
    blobs
        The place of the blobs, for errors.
    """
    file = None if database.file is None else Path(database.file)
    if not database.exists() or (file is not None and not file.stat().st_size):
        if settings is not None:  # else there is no store at all, which is a finding already
            advice = "give the right place; if it was lost, rebuild it with `index.recover(…)`"
            findings.append(problem("index", f"there is no index at {database.url}", advice))
        return
    revision = schema.current(database)
    if file is None:
        findings += _server(database, clock)
    else:
        findings += _file(database.url, file)
    if revision is None:
        lost = "create the store, or rebuild a lost index with `index.recover(…)`"
        findings.append(problem("schema", f"{database.url} has no tables of runcas", lost))
        return
    try:
        schema.check(database)
    except SchemaOutOfDateError as error:
        findings.append(problem("schema", str(error)))
        return
    findings.append(ok("schema", f"revision {revision}"))
    findings += _rights(database)
    with database.reading() as connection:
        store_id = runs.get_store_id(connection)
        index_id = None if store_id is None else runs.get_index_id(connection)
        upkeep = health.find_upkeep(connection)
    if settings is not None:
        findings.append(_pairing(database.url, blobs, settings, owner, store_id, index_id))
    findings += _upkeep(upkeep, clock())


def _file(url: str, file: Path) -> Iterator[DoctorFinding]:
    kind = filesystem_of(file)
    yield ok("index", f"{url}, on {kind or 'an unknown filesystem'}")
    if is_network(kind):
        yield warning(
            "index",
            f"SQLite can't be shared by several hosts over {kind}",
            "use it from one host only, or put the index on a local disk or on PostgreSQL",
        )


def _server(database: Database, clock: Callable[[], datetime]) -> Iterator[DoctorFinding]:
    with database.reading() as connection:
        state = health.server_state(connection)
        now = clock()
    yield ok("index", f"{database.url}, PostgreSQL {state.version}, {state.encoding}")
    if state.encoding not in ("UTF8", "SQL_ASCII"):
        advice = "create a database with ENCODING 'UTF8', and copy the store into it"
        yield problem("index", f"its encoding {state.encoding} can't hold every name", advice)
    yield check_clock("database", state.time, now, _SKEW_S)


def _rights(database: Database) -> Iterator[DoctorFinding]:
    if not database.is_server:
        try:
            with database.writing():  # takes the lock and gives it back
                pass
        except IndexUnavailableError as error:
            advice = "a user who records must be able to write the file and its directory"
            yield warning("rights", f"the index can't be written: {error.reason}", advice)
        else:
            yield ok("rights", "the index can be read and written")
        return
    with database.reading() as connection:
        reading, recording = health.missing_rights(connection)
    grants = 'grant what docs/deploying.md lists under "Grant permissions"'
    if reading:
        yield problem("rights", f"the role lacks {_few(reading)}", grants)
    elif recording:
        yield warning("rights", f"the role can only read: it lacks {_few(recording)}", grants)
    else:
        yield ok("rights", "the role can read and record")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _pairing(
    url: str,
    blobs: str,
    settings: StoreSettings,
    owner: str | None,
    store_id: str | None,
    index_id: str | None,
) -> DoctorFinding:
    if store_id not in (None, settings.store_id):
        return problem("pairing", str(StoreMismatchError(url, blobs)))
    if owner is None:
        advice = "the next command that can write there writes it again"
        return warning("pairing", "index.json is missing in storage", advice)
    if owner != index_id:
        return problem("pairing", str(StorageClaimedError(url, blobs)))
    return ok("pairing", f"index and storage belong to each other, store {settings.store_id}")


def _upkeep(upkeep: Upkeep, now: datetime) -> Iterator[DoctorFinding]:
    if upkeep.damaged:
        yield problem(
            "verify",
            f"{upkeep.damaged} blobs are marked as damaged",
            "restore them with `store.repair(DIR)`, a directory or store that has them",
        )
    if upkeep.unverified_since is None:
        yield ok("verify", "nothing is stored yet")
    else:
        yield _age(
            "verify",
            "every byte was written or verified in the last",
            now - upkeep.unverified_since,
            _VERIFY_WITHIN,
            "some bytes were not verified in the last",
            "run `store.verify()` with `max_bytes` each night",
        )
    waiting = [at for at in (upkeep.condemned_since, upkeep.pending_since) if at is not None]
    if waiting:
        yield _age(
            "gc",
            "the oldest garbage was marked in the last",
            now - min(waiting),
            _COLLECT_WITHIN,
            "garbage has waited for its removal for",
            "run `store.plan_gc().execute()` each night",
        )
    else:
        yield ok("gc", "no garbage waits for its removal")
    if upkeep.backed_up_at is not None:
        yield _age(
            "backup",
            "the index was copied in the last",
            now - upkeep.backed_up_at,
            _BACK_UP_WITHIN,
            "the index was not copied in the last",
            "run `store.back_up()` each night",
        )
    elif upkeep.unverified_since is not None:
        advice = "run `store.back_up()` each night; recovery then reads little else"
        yield warning("backup", "storage holds no copy of the index", advice)


def _age(
    check: str, done: str, age: timedelta, most: timedelta, late: str, advice: str
) -> DoctorFinding:
    if age > most:
        return warning(check, f"{late} {age.days} days; the limit is {most.days}", advice)
    hours = max(ceil(age / timedelta(hours=1)), 1)  # also if the clock of a writer is ahead
    shown = "hour" if hours == 1 else f"{hours} hours" if hours < _HOURS else f"{hours // 24} days"
    return ok(check, f"{done} {shown}")
