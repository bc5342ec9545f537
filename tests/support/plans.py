"""How a database answers: the plans of the statements of a call."""

from __future__ import annotations

from sqlalchemy import event

__all__ = ["plans"]


def plans(store, call, prepare=lambda _connection: None):
    """Call something, and return the plan of each SELECT that it ran, as the database says it.

    Parameters
    ----------
    prepare
        What the connection needs that asks for the plans.
    """
    seen = []

    def look(_connection, _cursor, statement, parameters, *_):
        if statement.startswith("SELECT"):
            seen.append((statement, parameters))

    engine = store.context.database.engine
    event.listen(engine, "before_cursor_execute", look)
    call()
    event.remove(engine, "before_cursor_execute", look)
    explain = "EXPLAIN " if store.context.database.is_server else "EXPLAIN QUERY PLAN "
    with store.context.database.reading() as connection:
        prepare(connection)
        return [
            "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + text, values))
            for text, values in seen
        ]
