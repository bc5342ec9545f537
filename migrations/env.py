"""Runs the index's migrations on the connection that `index.db.schema` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="cas_alembic_version",
    target_metadata=context.config.attributes.get("target_metadata"),
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=False,
)
# All revisions run in the caller's transaction: it applies all or none.
context.run_migrations()
