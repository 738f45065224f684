"""Alembic's entry point: run the migrations on the connection `mainspring.db.schema` passes in."""

from __future__ import annotations

from alembic import context

from mainspring.db.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
