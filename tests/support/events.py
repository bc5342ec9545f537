"""Record or fail the statements that a database executes, by SQLAlchemy's events."""

from __future__ import annotations

from contextlib import contextmanager

from sqlalchemy import event


def at_lookups(store, *, before=lambda _: None, after=lambda _: None):
    """Call these with the statement of each lookup on SQLite; return what ends that.

    Such a statement goes to the driver directly, and is no event of SQLAlchemy's.
    """
    database = store.context.database
    looked_up = database._looked_up

    def look_up(statement, parameters):
        before(statement)
        rows = looked_up(statement, parameters)
        after(statement)
        return rows

    database._looked_up = look_up
    return lambda: setattr(database, "_looked_up", looked_up)


@contextmanager
def statements(store):
    """Collect the statements that reach the driver inside the block.

    Lookups on SQLite are taken where the database hands them to the driver: events miss them.
    """
    seen = []

    def record(_connection, _cursor, statement, _parameters, _context, _many):
        seen.append(statement)

    engine = store._context.database.engine
    event.listen(engine, "before_cursor_execute", record)
    forget = at_lookups(store, before=seen.append)
    try:
        yield seen
    finally:
        forget()
        event.remove(engine, "before_cursor_execute", record)


def on_statement(store, prefix, act):
    """Act once, before the first such statement reaches the driver."""
    acted = []

    def look(_connection, _cursor, statement, *_):
        if statement.startswith(prefix) and not acted:
            acted.append(statement)
            act()

    event.listen(store.context.database.engine, "before_cursor_execute", look)
    return acted


@contextmanager
def failing_at(store, number=None, error=None, *, after=False):
    """Raise `error` before (or after) the statement of that number, counted from 0, or at COMMIT.

    Yields the list of the points passed, each "statement" or "commit"; "fired" is its last element
    if the error was raised. Without a number it only counts.
    """
    passed = []
    engine = store._context.database.engine

    def count(name):
        passed.append(name)
        if number is not None and len(passed) == number + 1:
            passed.append("fired")
            raise error

    def statement(*_):
        count("statement")

    def commit(*_):
        count("commit")

    listeners = {
        "after_cursor_execute" if after else "before_cursor_execute": statement,
        "commit": commit,
    }
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        yield passed
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)


def telling_points(points, *, every=8):
    """Return the numbers of those points at which a death can leave something of its own.

    The database undoes a transaction that did not commit. So all deaths between two commits leave
    the same rows: those next to a commit are tried, and one in `every` of the others.
    """
    return [
        number
        for number, name in enumerate(points)
        if number % every == 0 or "commit" in (name, points[number - 1])
    ]
