"""Do something in the middle of another operation, before the statement of a given number."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from sqlalchemy import event

_CHANGES = ("INSERT", "UPDATE", "DELETE")
_RUNS = ("INSERT INTO cas_runs", "UPDATE cas_runs", "DELETE FROM cas_runs")
_PATIENCE_S = 3
"""Seconds to wait for the action, which may wait for a lock of the operation it interrupts."""


class Interruption:
    """Acts once, in its own thread, before a statement of a store; then the store continues."""

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

    Statements inside a writing transaction do not count: SQLite has one writer at a time.
    Statements after the first that changes the run's row do not count: the action always comes
    first.

    Parameters
    ----------
    while_writing
        Count statements inside a transaction of PostgreSQL, too. The action must wait for no row.
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
