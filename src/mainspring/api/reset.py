"""A test-only route that empties the store, so that a test suite can use one server for many tests.

It is there only if the operator sets ``MAINSPRING_TEST_RESET=1``; otherwise its address is unknown.
"""

from __future__ import annotations

import anyio.to_thread
import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainspring.db.tables import metadata
from mainspring.lineage import Store
from mainspring.tracking import ensure_default_experiment

PATH = "/_test/reset"


def reset_route(store: Store) -> Route:
    """Return the route that empties this store."""

    async def answer(_: Request) -> Response:
        await anyio.to_thread.run_sync(reset_store, store)
        return Response(b"{}", media_type="application/json")

    return Route(PATH, answer, methods=["POST"])


def reset_store(store: Store) -> None:
    """Remove every record and make the default experiment anew; the bytes stay, nothing leads to them."""
    with store.database.write() as connection:
        if store.database.dialect == "postgresql":
            names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
            connection.execute(sa.text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
        else:
            for table in reversed(metadata.sorted_tables):
                connection.execute(sa.delete(table))
        ensure_default_experiment(connection, store.clock, artifact_root=store.settings.values.artifact_root)
