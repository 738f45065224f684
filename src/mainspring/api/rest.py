"""Everything the server answers with Starlette: artifacts, events, metrics, and the routes of others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mainspring.api.boundary import ClientGone, explain_failure
from mainspring.api.errors import UnknownEndpoint
from mainspring.api.events import get_events, stream_events
from mainspring.api.kfp import kfp_routes
from mainspring.api.meters import Meters
from mainspring.api.mlflow import ArtifactRoute
from mainspring.core import MainspringError
from mainspring.lineage import Store


def routes(store: Store, meters: Meters) -> list[BaseRoute]:
    """Return the routes of this room beside MLflow's protocol."""
    return [
        *kfp_routes(store),
        ArtifactRoute(store),
        Route("/metrics", partial(_render, meters), methods=["GET"]),
        Route("/api/v1/events", partial(get_events, store), methods=["GET"]),
        Route("/api/v1/events/stream", partial(stream_events, store), methods=["GET"]),
    ]


def make_app(found: Sequence[BaseRoute]) -> Starlette:
    """Make an application of routes that answers failures in MLflow's shape."""
    handlers = {
        HTTPException: _answer_http_exception,
        MainspringError: _answer_failure,
        ClientGone: _answer_nobody,
        ClientDisconnect: _answer_nobody,
        Exception: _answer_failure,
    }
    return Starlette(routes=found, exception_handlers=handlers)


def _render(meters: Meters, _: Request) -> Response:
    body, content_type = meters.render()
    return Response(body, media_type=content_type)


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    what = f"No API found for '{request.method} {request.url.path[:200]}'."
    status, body = explain_failure(UnknownEndpoint(what, hint="MLflow's protocol is below /api/2.0/mlflow/."))
    if isinstance(error, HTTPException) and error.status_code != 404:
        status = error.status_code
    return Response(body, status, media_type="application/json")


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # what nginx calls a request whose client has gone


async def _answer_failure(_: Request, error: Exception) -> Response:
    status, body = explain_failure(error)
    return Response(body, status, media_type="application/json")
