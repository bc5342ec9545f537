"""No value gets into the text of a statement. Only names of our own tables are put together."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

SQL = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|PRAGMA|ALTER|CREATE|DROP|SET|LOCK|TRUNCATE|ATTACH"
    r"|VACUUM|ANALYZE|GRANT|COPY|FROM|WHERE|VALUES|ON CONFLICT|AND|OR|IN|= ANY|BEGIN|SAVEPOINT)\b"
)
"""Beginnings of the text of a statement, or of a part of one."""

PUT_TOGETHER = {
    "index/imports/mlflow_runs.py": {"table"},  # of MLflow's own, one of three
    "index/db/bulk.py": {
        # Names of columns and tables, quoted by the dialect; types; marks for parameters.
        "names", "arrays", "values", "conflicts",
        "preparer.format_table(table)",
        "_type_name(connection, column)", "', '.join(names)", "', '.join(repeat('?', count))",
        "', '.join([*names, *map(preparer.quote, shared)])",
        "', '.join([*(f'r.{name}' for name in names), *constants])",
    },
    # Names of columns.
    "index/db/queries/blobs.py": {"', '.join((f'b.{column.name}' for column in PLACE))"},
    "index/db/queries/verification.py": {"', '.join((column.name for column in PLACE))"},
    "index/db/queries/counts.py": {  # names of columns
        "', '.join((c.name for c in _KEY))", "', '.join(_NUMBERS)",
    },
    "index/db/queries/current.py": {"marks"},  # for parameters
    "index/db/queries/files.py": {"counts.COUNTED"},  # names of columns
    "index/db/engines.py": {"timeout", "round(pause * 1000)"},  # numbers
    "index/db/sqlite.py": {"pragma"},  # of a constant list
    "index/db/schema.py": {"VERSION_TABLE"},
}  # fmt: skip
"""Parts of statements, by module. Review each new one."""

TAKES_TEXT = {
    "text": 0, "exec_driver_sql": 0, "literal_column": 0, "executescript": 0, "run_over": 1,
}  # fmt: skip
"""Functions, and which of their arguments is a statement's text."""

GIVEN_BY_NAME = {
    "index/db/bulk.py": {
        "compiled.string", "statement", "statement(rest)", "statement(at_once)",
        # An argument of `run_over`, with marks for parameters put in.
        "statement.format(wanted=wanted, **marks)",
    },
    "index/db/database.py": {"statement"},  # of a `Lookup`, which SQLAlchemy has compiled
    "index/db/queries/blobs.py": {"_FIND_KNOWN", "_LOCATE", "_TOUCH"},
    "index/db/queries/verification.py": {"_LOCATE"},
    "index/db/queries/counts.py": {"_ADD.format(marks=marks)"},  # for parameters
    "index/db/queries/current.py": {"statement"},
    "index/db/queries/files.py": {"_END"},
    "index/commit/caller_transaction.py": {"_BEGIN_WRITING"},
    "index/db/schema.py": {"f'SELECT version_num FROM {VERSION_TABLE}'"},
    "index/db/table_parts.py": {"where"},
    "migrations/versions/0001_create_tables.py": {"where"},
}  # fmt: skip
"""Texts of statements that are not constants where they are executed, by module."""


def modules():
    for pattern in ("index/**/*.py", "cas/**/*.py", "migrations/**/*.py"):
        for path in sorted(ROOT.glob(pattern)):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def parts_of(node):
    """Return the parts that an f-string, a sum, a % or a format call puts into constant text."""
    if isinstance(node, ast.JoinedStr):
        first = node.values[0]
        text = first.value if isinstance(first, ast.Constant) else ""
        inserted = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        text, inserted = getattr(node.left, "value", ""), [node.right]
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("format", "join"):
        text, inserted = getattr(node.func.value, "value", ""), node.args
    else:
        return set()
    if not isinstance(text, str) or not SQL.match(text):
        return set()
    return {ast.unparse(part) for part in inserted if not isinstance(part, ast.Constant)}


def test_statements_are_put_together_of_names_of_our_own_only():
    found = {}
    for name, tree in modules():
        for node in ast.walk(tree):
            if parts := parts_of(node):
                found.setdefault(name, set()).update(parts)
    assert found == PUT_TOGETHER


def test_statements_as_text_are_constants_where_they_are_run():
    found = {}
    for name, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = ast.unparse(node.func).rpartition(".")[2]
            if called not in TAKES_TEXT:
                continue
            statement = node.args[TAKES_TEXT[called]]
            if not isinstance(statement, ast.Constant):
                found.setdefault(name, set()).add(ast.unparse(statement))
    assert found == GIVEN_BY_NAME
