"""The server as an ASGI application: MLflow's protocol, events, health, metrics, and the routes of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from mainspring import __version__
from mainspring.api.boundary import explain_failure
from mainspring.api.errors import UnknownEndpoint
from mainspring.api.events import get_events, stream_events
from mainspring.api.guard import Guard, is_loopback
from mainspring.api.meters import CONTENT_TYPE, Metering, Meters
from mainspring.api.mlflow import ENDPOINTS, ArtifactRoute, MlflowRoute
from mainspring.lineage import Store
from mainspring.tracking import ensure_default_experiment


def create_app(store: Store, extra_routes: Sequence[BaseRoute] = (), *, host: str = "") -> Starlette:
    """Build the application for a server bound to ``host`` (default: the one in the settings)."""
    with store.database.write() as connection:
        ensure_default_experiment(connection, store.clock)
    meters = Meters()
    settings = store.settings.values
    loopback = is_loopback(host or settings.host)
    return Starlette(
        routes=[*routes(store, meters), *extra_routes],
        middleware=[
            Middleware(Metering, meters=meters),
            Middleware(Guard, token=settings.token, loopback=loopback),
        ],
        exception_handlers={HTTPException: _answer_http_exception, Exception: _answer_failure},
    )


def routes(store: Store, meters: Meters | None = None) -> list[BaseRoute]:
    """Return the routes of this room."""
    found = meters or Meters()
    return [
        MlflowRoute(store, ENDPOINTS),
        ArtifactRoute(store),
        Route("/health", _say("OK"), methods=["GET"]),
        Route("/version", _say(__version__), methods=["GET"]),
        Route("/metrics", lambda _: Response(found.render(), media_type=CONTENT_TYPE), methods=["GET"]),
        Route("/api/v1/events", partial(get_events, store), methods=["GET"]),
        Route("/api/v1/events/stream", partial(stream_events, store), methods=["GET"]),
    ]


def _say(text: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return PlainTextResponse(text)

    return answer


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    what = f"No API found for '{request.method} {request.url.path[:200]}'."
    status, body = explain_failure(UnknownEndpoint(what, hint="MLflow's protocol is below /api/2.0/mlflow/."))
    if isinstance(error, HTTPException) and error.status_code != 404:
        status = error.status_code
    return Response(body, status, media_type="application/json")


async def _answer_failure(_: Request, error: Exception) -> Response:
    status, body = explain_failure(error)
    return Response(body, status, media_type="application/json")
