from __future__ import annotations

import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Integer, PrimaryKeyConstraint, Table, inspect, text

from index import ArtifactStore, models
from index.db import schema, tables
from index.db.database import Database, sqlite_url
from index.errors import SchemaOutOfDateError


@pytest.fixture
def database(tmp_path):
    made = Database(sqlite_url(tmp_path / "index.db"))
    yield made
    made.close()


def differences(database, metadata):
    with database.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": schema.VERSION_TABLE, "compare_type": True}
        )
        return compare_metadata(context, metadata)


def test_the_migrated_schema_is_the_models(database):
    schema.upgrade(database)
    assert differences(database, models.Base.metadata) == []


def test_that_comparison_can_fail(database):
    schema.upgrade(database)
    changed = tables.metadata.__class__()
    for table in tables.metadata.tables.values():
        table.to_metadata(changed)
    Table("cas_runs", changed, Column("added", Integer), extend_existing=True)
    assert differences(database, changed) != []


def test_every_constraint_and_index_of_the_models_is_in_the_database(database):
    schema.upgrade(database)
    with database.reading() as connection:
        ddl = "\n".join(
            connection.execute(
                text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
            ).scalars()
        )
    for table in tables.metadata.tables.values():
        for thing in (*table.constraints, *table.indexes):
            if not isinstance(thing, PrimaryKeyConstraint):  # AUTOINCREMENT has no room for a name
                assert f"{thing.name}" in ddl
    assert ddl.count("WITHOUT ROWID") == 5
    assert "AUTOINCREMENT" in ddl


def test_the_head_that_the_code_names_is_the_migrations():
    assert ScriptDirectory(schema._environment()).get_heads() == [schema.HEAD]


def test_each_revision_goes_up_down_and_up_again(database):
    from alembic import command

    revisions = [
        script.revision for script in ScriptDirectory(schema._environment()).walk_revisions()
    ]
    for revision in reversed(revisions):
        for way, target in ((command.upgrade, revision), (command.downgrade, "-1")) * 2:
            with database.writing() as connection:
                config = schema._config()
                config.attributes["connection"] = connection
                way(config, target)
        schema.upgrade(database, revision)
    with database.reading() as connection:
        assert "cas_files" in inspect(connection).get_table_names()


def test_upgrading_is_idempotent_and_current_tells_the_revision(database):
    assert schema.current(database) is None
    schema.upgrade(database)
    schema.upgrade(database)
    assert schema.current(database) == schema.HEAD
    schema.check(database)


def test_a_migration_that_fails_leaves_nothing(database, monkeypatch):
    from alembic import op

    original = op.create_table

    def fail(name, *args, **kwargs):
        if name == "cas_files":
            raise RuntimeError("power")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(op, "create_table", fail)
    with pytest.raises(RuntimeError):
        schema.upgrade(database)
    with database.reading() as connection:
        assert inspect(connection).get_table_names() == []
    monkeypatch.undo()
    schema.upgrade(database)


@pytest.mark.parametrize(
    ("revision", "remedy"),
    [("9999", "pip install --upgrade runcas"), (None, "cas --index sqlite:////")],
)
def test_another_schema_is_refused_with_the_exact_command(tmp_path, revision, remedy):
    root = tmp_path / "store"
    ArtifactStore.open(root).close()
    with sqlite3.connect(root / "index.db") as connection:
        if revision is None:
            connection.execute(f"DELETE FROM {schema.VERSION_TABLE}")  # noqa: S608
        else:
            connection.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = ?", [revision])  # noqa: S608
    connection.close()
    with pytest.raises(SchemaOutOfDateError) as caught:
        ArtifactStore.open(root, create=False)
    assert remedy in str(caught.value)
    if revision is None:
        assert str(caught.value).endswith("db upgrade`")


def test_an_older_schema_is_refused_with_the_exact_command(database, monkeypatch):
    schema.upgrade(database)
    monkeypatch.setattr(schema, "HEAD", "0002")
    with pytest.raises(SchemaOutOfDateError) as caught:
        schema.check(database)
    assert str(caught.value).endswith(f"run `cas --index {database.url} db upgrade`")
    assert "has schema 0001, this release works with 0002" in str(caught.value)


def test_a_newer_schema_is_not_downgraded(database):
    schema.upgrade(database)
    with database.writing() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))  # noqa: S608
    with pytest.raises(SchemaOutOfDateError, match="newer"):
        schema.upgrade(database)


def test_our_tables_live_beside_an_applications(database):
    with database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE files (id INTEGER)")
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num TEXT)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('theirs')")
    schema.upgrade(database)
    with database.reading() as connection:
        names = inspect(connection).get_table_names()
        theirs = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    assert theirs == "theirs"
    assert all(n.startswith("cas_") for n in names if n not in ("files", "alembic_version"))


def test_the_mapped_classes_query_the_tables(store):
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    store.session("s").run("r").put("f", b"1", agent="a")
    with Session(store._context.database.engine) as db_session:
        (row,) = db_session.scalars(select(models.FileRow)).all()
        assert (row.path, row.generating_agent, row.size) == ("f", "a", 1)
        assert db_session.get(models.BlobRow, row.digest).size == 1
