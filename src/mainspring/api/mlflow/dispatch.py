"""From an address to the function that answers it: one table lookup, one decode, one thread, one encode.

What logs to runs goes to the writer, where requests that arrive together share one transaction; everything else runs in
a thread of the pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

import msgspec

from mainspring.api.boundary import (
    PRINCIPAL,
    ROUTE,
    ClientGone,
    Receive,
    Scope,
    Send,
    explain_failure,
    read_body,
    send_json,
)
from mainspring.api.mlflow.wire import T, Wire, convert, decode, encode, read_json, read_query
from mainspring.api.writing import LoopWriter
from mainspring.core import InvalidInput
from mainspring.db import Session

if TYPE_CHECKING:
    from mainspring.lineage import Store

PREFIXES = tuple(f"/{root}/{version}/mlflow/" for root in ("api", "ajax-api") for version in ("2.0", "3.0"))
MAX_BODY = 32 << 20
THREADS = 16


class Endpoint(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One method and path of the protocol; ``{name}`` parts of the path are fields of the request too.

    It is answered by ``handle``, by ``render``, which returns the bytes itself, or by ``write``, which returns what is
    to be done by the writer, from which point on the request is decoded and within its limits.
    """

    method: str
    path: str
    request: type[T]
    handle: Callable[[Store, T], Wire] | None = None
    render: Callable[[Store, T], bytes] | None = None
    write: Callable[[Store, T], Callable[[Session], object]] | None = None
    max_body: int = MAX_BODY


class MlflowRoute:
    """Everything below ``/api/2.0/mlflow/`` and its twins.

    The ``hot`` endpoints, those that runs log to, are there at once; the others are loaded when one is asked for.
    """

    def __init__(
        self,
        store: Store,
        writer: LoopWriter,
        hot: Iterable[Endpoint[Any]],
        load_others: Callable[[], Iterable[Endpoint[Any]]],
    ) -> None:
        self._load_others = load_others
        self._store = store
        self._writer = writer
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="answer")
        self._exact: dict[tuple[str, str], Endpoint[Any]] = {}
        self._templates: list[tuple[list[str], Endpoint[Any]]] = []
        self._is_complete = False
        self._add(hot)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer one request, or return False if no endpoint has its address."""
        try:
            method, path = scope["method"], scope["path"].split("/mlflow/", 1)[1]
            found = self._find(method, path)
            if found is None and not self._is_complete:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._complete)
                found = self._find(method, path)
            if found is None:
                return False
            endpoint, parts = found
            scope[ROUTE] = "/api/2.0/mlflow/" + endpoint.path
            body = await read_body(receive, endpoint.max_body)
            request = _decode(endpoint, scope["query_string"], body, parts)
            status, answer = 200, await self._answer(endpoint, self._store_of(scope), request)
        except ClientGone:
            return True
        except Exception as error:  # noqa: BLE001 - the request boundary
            status, answer = explain_failure(error)
        await send_json(send, status, answer)
        return True

    def _store_of(self, scope: Scope) -> Store:
        """Return the store as whoever asks acts on it: under the name their token has, if it has one."""
        principal = scope.get(PRINCIPAL)
        return replace(self._store, actor=principal.name) if principal is not None and principal.name else self._store

    async def _answer(self, endpoint: Endpoint[Any], store: Store, request: msgspec.Struct) -> bytes:
        if endpoint.write is not None:
            return msgspec.json.encode(await self._writer.run(endpoint.write(store, request)))
        work = partial(_render, endpoint, store, request)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _complete(self) -> None:
        self._add(self._load_others())
        self._is_complete = True

    def _add(self, endpoints: Iterable[Endpoint[Any]]) -> None:
        for endpoint in endpoints:
            if "{" in endpoint.path:
                self._templates.append((endpoint.path.split("/"), endpoint))
            else:
                self._exact[endpoint.method, endpoint.path] = endpoint

    def _find(self, method: str, path: str) -> tuple[Endpoint[Any], dict[str, str]] | None:
        found = self._exact.get((method, path))
        if found is not None:
            return found, {}
        given = path.split("/")
        for template, endpoint in self._templates:
            if endpoint.method == method and len(template) == len(given):
                parts = {part[1:-1]: value for part, value in zip(template, given, strict=True) if part[0] == "{"}
                if all(part[0] == "{" or part == value for part, value in zip(template, given, strict=True)):
                    return endpoint, parts
        return None


def _render(endpoint: Endpoint[Any], store: Store, request: msgspec.Struct) -> bytes:
    if endpoint.render is not None:
        return endpoint.render(store, request)
    return encode(endpoint.handle(store, request) if endpoint.handle is not None else {})


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
