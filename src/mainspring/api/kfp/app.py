"""The routes of the API. What answers them is imported when the first request comes."""

from __future__ import annotations

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mainspring.api.boundary import ClientGone, explain_failure, read_body
from mainspring.api.kfp.wire import LARGEST_BODY, Call, describe_error
from mainspring.core import MainspringError
from mainspring.lineage import Store

KFP_PREFIX = "/apis/v2beta1"


def kfp_routes(store: Store) -> list[BaseRoute]:
    """Return the routes, most particular first."""
    return [_Endpoint(store, method, path).route for method, path in _table()]


class _Endpoint:
    """One address and method of the API."""

    def __init__(self, store: Store, method: str, path: str) -> None:
        self._store = store
        self._name = (method, path)
        self.route = Route(KFP_PREFIX + path, self._answer, methods=[method])

    async def _answer(self, request: Request) -> Response:
        try:
            body = await read_body(request.receive, LARGEST_BODY)
        except ClientGone:
            return Response(status_code=499)
        except MainspringError as error:
            return _failure(error)
        call = Call(
            path=dict(request.path_params),
            query=dict(request.query_params),
            content_type=request.headers.get("content-type", ""),
            body=body,
        )
        return await run_in_threadpool(self._work, call)

    def _work(self, call: Call) -> Response:
        from mainspring.api.kfp.handlers import HANDLERS

        try:
            document = HANDLERS[self._name](self._store, call)
        except MainspringError as error:
            return _failure(error)
        return Response(msgspec.json.encode(document), media_type="application/json")


def _failure(error: MainspringError) -> Response:
    status, _ = explain_failure(error)
    return Response(msgspec.json.encode(describe_error(error, status)), status, media_type="application/json")


def _table() -> tuple[tuple[str, str], ...]:
    return (
        ("GET", "/healthz"),
        ("POST", "/experiments"),
        ("GET", "/experiments"),
        ("POST", "/experiments/{id}:archive"),
        ("POST", "/experiments/{id}:unarchive"),
        ("GET", "/experiments/{id}"),
        ("DELETE", "/experiments/{id}"),
        ("POST", "/pipelines/upload"),
        ("POST", "/pipelines/upload_version"),
        ("POST", "/pipelines"),
        ("GET", "/pipelines"),
        ("GET", "/pipelines/names/{name}"),
        ("GET", "/pipelines/{id}"),
        ("DELETE", "/pipelines/{id}"),
        ("GET", "/pipelines/{id}/versions"),
        ("GET", "/pipelines/{id}/versions/{version}"),
        ("DELETE", "/pipelines/{id}/versions/{version}"),
        ("POST", "/runs"),
        ("GET", "/runs"),
        ("POST", "/runs/{id}:terminate"),
        ("POST", "/runs/{id}:retry"),
        ("POST", "/runs/{id}:archive"),
        ("POST", "/runs/{id}:unarchive"),
        ("GET", "/runs/{id}"),
        ("DELETE", "/runs/{id}"),
        ("POST", "/recurringruns"),
        ("GET", "/recurringruns"),
        ("POST", "/recurringruns/{id}:enable"),
        ("POST", "/recurringruns/{id}:disable"),
        ("GET", "/recurringruns/{id}"),
        ("DELETE", "/recurringruns/{id}"),
    )
