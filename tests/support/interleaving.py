"""Doing something in the middle of something else, at a statement that a number says."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from sqlalchemy import event

_CHANGES = ("INSERT", "UPDATE", "DELETE")
_RUNS = ("INSERT INTO cas_runs", "UPDATE cas_runs", "DELETE FROM cas_runs")
_PATIENCE_S = 3
"""How long to wait for what may itself wait for a lock of whom it interrupts."""


class Interruption:
    """Acts once, in a thread of its own, before a statement of a store; then it goes on."""

    def __init__(self, store, number, action, *, while_writing):
        self.fired = False
        self._database = store.context.database
        self._left = number
        self._action = action
        self._while_writing = while_writing and self._database.is_server
        self._writing = threading.local()
        self._closed = False
        self._thread = None
        self._error = None

    def look(self, _connection, _cursor, statement, *_):
        is_writing = getattr(self._writing, "now", False)
        if not self.fired and not self._closed and (self._while_writing or not is_writing):
            if self._left == 0:
                self._fire()
            self._left -= 1
        begins = statement.startswith("BEGIN IMMEDIATE")
        if self._database.is_server:
            begins = statement.startswith(_CHANGES) or " FOR " in statement
        if begins:
            self._writing.now = True
        if not self._while_writing and statement.startswith(_RUNS):
            self._closed = True

    def ended(self, _connection):
        self._writing.now = False

    def _fire(self):
        self.fired = True

        def act():
            try:
                self._action()
            except BaseException as error:  # noqa: BLE001 - raised again by `join`
                self._error = error

        self._thread = threading.Thread(target=act)
        self._thread.start()
        self._thread.join(_PATIENCE_S)

    def join(self):
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error


@contextmanager
def at_statement(store, number, action, *, while_writing=False):
    """Do something through another store before a statement of this one, counted from 0.

    Statements within a transaction that writes are passed over: SQLite has one writer at a time.
    So is what comes after a run's row was touched, so that the action is always first.

    Parameters
    ----------
    while_writing
        Also within a transaction of PostgreSQL, for what waits for no row.
    """
    engine = store.context.database.engine
    interruption = Interruption(store, number, action, while_writing=while_writing)
    hooks = {
        "before_cursor_execute": interruption.look,
        "commit": interruption.ended,
        "rollback": interruption.ended,
    }
    for name, hook in hooks.items():
        event.listen(engine, name, hook)
    try:
        yield interruption
    finally:
        for name, hook in hooks.items():
            event.remove(engine, name, hook)
        interruption.join()
