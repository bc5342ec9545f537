"""Statements that a database executes, recorded or failed, by SQLAlchemy's own events."""

from __future__ import annotations

from contextlib import contextmanager

from sqlalchemy import event


@contextmanager
def statements(store):
    """Collect the statements that reach the driver inside the block."""
    seen = []

    def record(_connection, _cursor, statement, _parameters, _context, _many):
        seen.append(statement)

    engine = store._context.database.engine
    event.listen(engine, "before_cursor_execute", record)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", record)


def on_statement(store, prefix, act):
    """Act once, before a statement that begins so reaches the driver."""
    acted = []

    def look(_connection, _cursor, statement, *_):
        if statement.startswith(prefix) and not acted:
            acted.append(statement)
            act()

    event.listen(store.context.database.engine, "before_cursor_execute", look)
    return acted


@contextmanager
def failing_at(store, number, error, *, after=False):
    """Raise `error` before (or after) the statement of that number, counted from 0, or at COMMIT.

    Yields a list whose length is the number of points passed; `fired` is its last element then.
    """
    passed = []
    engine = store._context.database.engine

    def count(*_):
        passed.append("point")
        if len(passed) == number + 1:
            passed.append("fired")
            raise error

    names = ["after_cursor_execute" if after else "before_cursor_execute", "commit"]
    for name in names:
        event.listen(engine, name, count)
    try:
        yield passed
    finally:
        for name in names:
            event.remove(engine, name, count)
