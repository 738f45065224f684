"""The server as an ASGI application: metering, the guard, then whoever has the address.

Health, and MLflow's protocol as far as runs log to it, are there at once. Everything else (the rest of the protocol,
artifacts, events, pages) is imported when it is first asked for, in a thread, so that the server is up early and small.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from mainspring import __version__
from mainspring.api.boundary import ROUTE, App, Receive, Scope, Send, send_text
from mainspring.api.guard import Guard, is_loopback
from mainspring.api.meters import Metering, Meters
from mainspring.api.mlflow import MlflowRoute, histories, logging, runs
from mainspring.api.mlflow.dispatch import PREFIXES, Endpoint
from mainspring.api.writing import LoopWriter
from mainspring.tracking import ensure_default_experiment

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.routing import BaseRoute

    from mainspring.lineage import Store

ExtraRoutes: TypeAlias = Union["Sequence[BaseRoute]", "Callable[[], Sequence[BaseRoute]]"]
"""Routes of others, or how to get them when they are needed."""

_TEXTS = {"/health": "OK", "/version": __version__}


class Application:
    """One server's application."""

    def __init__(self, store: Store, extra_routes: ExtraRoutes = (), *, host: str = "") -> None:
        """Build the application for a server bound to ``host`` (default: the one in the settings)."""
        settings = store.settings.values
        self._store = store
        self._extra_routes = extra_routes
        self._meters = Meters()
        self._writer = LoopWriter(store.database)
        hot = (*logging.ENDPOINTS, *runs.ENDPOINTS, *histories.ENDPOINTS)
        self._mlflow = MlflowRoute(store, self._writer, hot, _other_endpoints)
        self._loading = asyncio.Lock()
        self._own: Starlette | None = None
        self._whole: Starlette | None = None
        guard = Guard(self._choose, token=settings.token, loopback=is_loopback(host or settings.host))
        self._entrance: App = Metering(guard, meters=self._meters)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; slashes before the first part of its path count as one, as MLflow's clients expect."""
        if scope["type"] == "http" and scope["path"].startswith("//"):
            scope = {**scope, "path": "/" + scope["path"].lstrip("/")}
        await self._entrance(scope, receive, send)

    def close(self) -> None:
        """Commit what was asked for; no more requests may come."""
        self._writer.close()

    async def _choose(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path in _TEXTS and scope["method"] in ("GET", "HEAD"):
                scope[ROUTE] = path
                await send_text(send, "" if scope["method"] == "HEAD" else _TEXTS[path])
                return
            if path.startswith(PREFIXES) and await self._mlflow.answer(scope, receive, send):
                return
        app = await self._find_app(scope)
        await app(scope, receive, send)

    async def _find_app(self, scope: Scope) -> Starlette:
        """Return the application with this address: our own routes, or those with the routes of others."""
        async with self._loading:
            if self._own is None:
                self._own = await asyncio.to_thread(self._load, ())
        if self._whole is not None or any(route.matches(scope)[0].value for route in self._own.routes):
            return self._whole or self._own
        async with self._loading:
            if self._whole is None:
                self._whole = await asyncio.to_thread(self._load, self._extra_routes)
        return self._whole

    def _load(self, extra: ExtraRoutes) -> Starlette:
        from mainspring.api.rest import make_app, routes  # imports Starlette

        return make_app([*routes(self._store, self._meters), *(extra() if callable(extra) else extra)])


def _other_endpoints() -> Sequence[Endpoint[Any]]:
    from mainspring.api.mlflow.endpoints import ENDPOINTS  # imports SQLAlchemy and every room behind the protocol

    return ENDPOINTS


def create_app(store: Store, extra_routes: ExtraRoutes = (), *, host: str = "") -> Application:
    """Make the default experiment if the store is new, and build the application."""
    with store.database.write_session() as session:
        ensure_default_experiment(session, store.clock, artifact_root=store.settings.values.artifact_root)
    return Application(store, extra_routes, host=host)
