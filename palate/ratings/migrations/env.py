"""Alembic runs this to reach the database. `palate.ratings.versions` gives it an open connection."""

from __future__ import annotations

from alembic import context

from palate.ratings.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
