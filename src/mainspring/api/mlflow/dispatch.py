"""From an address to the function that answers it: one table lookup, one decode, one thread, one encode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic

import anyio.to_thread
import msgspec
from starlette.routing import BaseRoute, Match

from mainspring.api.boundary import ROUTE, ClientGone, Receive, Scope, Send, explain_failure, read_body, send_json
from mainspring.api.errors import UnknownEndpoint
from mainspring.api.mlflow.wire import T, Wire, convert, decode, encode, read_json, read_query
from mainspring.core import InvalidInput
from mainspring.lineage import Store

PREFIXES = tuple(f"/{root}/{version}/mlflow/" for root in ("api", "ajax-api") for version in ("2.0", "3.0"))
MAX_BODY = 32 << 20


class Endpoint(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One method and path of the protocol; ``{name}`` parts of the path are fields of the request too."""

    method: str
    path: str
    request: type[T]
    handle: Callable[[Store, T], Wire]
    max_body: int = MAX_BODY


class MlflowRoute(BaseRoute):
    """Everything below ``/api/2.0/mlflow/`` and its twins; an address nobody knows gets MLflow's own error."""

    def __init__(self, store: Store, endpoints: Iterable[Endpoint[Any]]) -> None:
        self._store = store
        self._exact: dict[tuple[str, str], Endpoint[Any]] = {}
        self._templates: list[tuple[list[str], Endpoint[Any]]] = []
        for endpoint in endpoints:
            if "{" in endpoint.path:
                self._templates.append((endpoint.path.split("/"), endpoint))
            else:
                self._exact[endpoint.method, endpoint.path] = endpoint

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match every HTTP request below the prefixes."""
        if scope["type"] == "http" and scope["path"].startswith(PREFIXES):
            return Match.FULL, {}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            endpoint, parts = self._find(scope["method"], scope["path"].split("/mlflow/", 1)[1])
            scope[ROUTE] = "/api/2.0/mlflow/" + endpoint.path
            body = await read_body(receive, endpoint.max_body)
            request = _decode(endpoint, scope["query_string"], body, parts)
            answer = await anyio.to_thread.run_sync(self._answer, endpoint, request)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - the request boundary
            status, answer = explain_failure(error)
            await send_json(send, status, answer)
            return
        await send_json(send, 200, answer)

    def _answer(self, endpoint: Endpoint[Any], request: msgspec.Struct) -> bytes:
        return encode(endpoint.handle(self._store, request))

    def _find(self, method: str, path: str) -> tuple[Endpoint[Any], dict[str, str]]:
        found = self._exact.get((method, path))
        if found is not None:
            return found, {}
        given = path.split("/")
        for template, endpoint in self._templates:
            if endpoint.method == method and len(template) == len(given):
                parts = {part[1:-1]: value for part, value in zip(template, given, strict=True) if part[0] == "{"}
                if all(part[0] == "{" or part == value for part, value in zip(template, given, strict=True)):
                    return endpoint, parts
        raise UnknownEndpoint(
            f"No API found for '{method} /{path[:200]}'.",
            hint="Tracing and other GenAI features of MLflow are not supported here.",
        )


def _decode(endpoint: Endpoint[Any], query: bytes, body: bytes, parts: dict[str, str]) -> msgspec.Struct:
    request: msgspec.Struct
    if endpoint.method != "GET" and not parts:
        request = decode(body, endpoint.request)
        return request
    document = read_query(query, endpoint.request) if endpoint.method == "GET" else read_json(body)
    if not isinstance(document, dict):
        raise InvalidInput("The request body is not a JSON object.", hint="Send one JSON object, in UTF-8.")
    request = convert({**document, **parts}, endpoint.request)
    return request
