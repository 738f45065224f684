"""The routes of the API. What answers them is imported when the first request comes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mainspring.api.boundary import PRINCIPAL, ClientGone, explain_failure, read_body
from mainspring.api.kfp.wire import LARGEST_BODY, Call, describe_error
from mainspring.core import AlreadyExists, Conflict, MainspringError, NotFound
from mainspring.lineage import Store

KFP_PREFIX = "/apis/v2beta1"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 413: 3, 501: 12, 503: 14}
"""The numbers of gRPC, by HTTP status."""
_FAILED_PRECONDITION = 9


def kfp_routes(store: Store) -> list[BaseRoute]:
    """Return the routes, most particular first; what none of them answers gets an error of this API."""
    rest = Route(KFP_PREFIX + "/{rest:path}", _answer_nothing, methods=_METHODS)
    return [*(_Endpoint(store, method, path).route for method, path in _table()), rest]


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
        return await run_in_threadpool(self._work, self._store_of(request), call)

    def _store_of(self, request: Request) -> Store:
        """Return the store as whoever asks acts on it: under the name their token has, if it has one."""
        principal = request.scope.get(PRINCIPAL)
        return replace(self._store, actor=principal.name) if principal is not None and principal.name else self._store

    def _work(self, store: Store, call: Call) -> Response:
        from mainspring.api.kfp.handlers import HANDLERS

        try:
            document = HANDLERS[self._name](store, call)
        except Exception as error:  # noqa: BLE001 - the request boundary
            return _failure(error)
        return Response(msgspec.json.encode(document), media_type="application/json")


async def _answer_nothing(request: Request) -> Response:
    what = f"The API has no {request.method} {request.url.path[:200]} here."
    return _failure(NotFound(what, hint="It is Kubeflow Pipelines' v2beta1, for kfp.Client."))


def _failure(error: Exception) -> Response:
    status, body = explain_failure(error)
    if isinstance(error, AlreadyExists):
        status = 409
    code = _FAILED_PRECONDITION if isinstance(error, Conflict) else _CODES.get(status, 13)
    found: dict[str, Any] = msgspec.json.decode(body)
    answer = msgspec.json.encode(describe_error(found["message"], code))
    return Response(answer, status, media_type="application/json")


def _table() -> tuple[tuple[str, str], ...]:
    return (
        ("GET", "/healthz"),
        ("GET", "/auth"),
        ("GET", "/artifacts/{id}"),
        ("POST", "/experiments"),
        ("GET", "/experiments"),
        ("POST", "/experiments/{id}:archive"),
        ("POST", "/experiments/{id}:unarchive"),
        ("GET", "/experiments/{id}"),
        ("DELETE", "/experiments/{id}"),
        ("POST", "/pipelines/upload"),
        ("POST", "/pipelines/upload_version"),
        ("POST", "/pipelines/create"),
        ("POST", "/pipelines"),
        ("GET", "/pipelines"),
        ("GET", "/pipelines/names/{name}"),
        ("GET", "/pipelines/{id}"),
        ("PATCH", "/pipelines/{id}"),
        ("DELETE", "/pipelines/{id}"),
        ("POST", "/pipelines/{id}/versions"),
        ("GET", "/pipelines/{id}/versions"),
        ("GET", "/pipelines/{id}/versions/{version}"),
        ("PATCH", "/pipelines/{id}/versions/{version}"),
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
