"""The Open Inference Protocol over gRPC, in the endpoint's own process and event loop, through the same handler."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio
import msgspec
from google.protobuf.message import DecodeError

from mainspring import __version__
from mainspring.core import Foreign, MainspringError, NotFound, Refused, Unavailable
from mainspring.serving.app import App
from mainspring.serving.calls import make_call
from mainspring.serving.endpoint import Endpoint
from mainspring.serving.faults import BadRequest, Unauthorized
from mainspring.serving.grpc import inference
from mainspring.serving.grpc.messages import METHODS, SERVICE, load_messages
from mainspring.serving.http import is_authorized
from mainspring.serving.protocols import v2
from mainspring.serving.wire import Headers, Reply

_logger = logging.getLogger("mainspring.serving")
_OPEN = ("ServerLive", "ServerReady", "ModelReady")
"""What health probes ask, without a token."""
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Repository(Protocol):
    """What loads and unloads models, where the operator allows it."""

    async def load(self, name: str) -> None:
        """Load a model of the repository folder."""

    async def unload(self, name: str) -> None:
        """Let a model go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcOptions:
    """How the gRPC side listens."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 picks a free one."""
    token: str = ""
    max_message: int = 16 << 20
    """Bytes of one message, both ways."""
    repository: Repository | None = None
    is_shared: bool = False
    """Whether several workers listen on one port."""


@dataclass(frozen=True, slots=True)
class GrpcServer:
    """A gRPC server that runs."""

    server: grpc.aio.Server
    port: int

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls, and finish those that came."""
        await self.server.stop(grace_seconds)


async def start_grpc(app: App, options: GrpcOptions) -> GrpcServer:
    """Serve an application over gRPC; raise `Unavailable` if the port is taken."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", options.max_message),
            ("grpc.max_send_message_length", options.max_message),
            ("grpc.so_reuseport", int(options.is_shared)),
        ]
    )
    server.add_generic_rpc_handlers((_service(_Service(app, options)),))
    host = f"[{options.host}]" if ":" in options.host else options.host
    try:
        port = server.add_insecure_port(f"{host}:{options.port}")
    except RuntimeError as error:
        raise Unavailable(f"gRPC cannot listen on {host}:{options.port}.", hint="Pass another --grpc-port.") from error
    await server.start()
    _logger.info("grpc.listening", extra={"fields": {"host": options.host, "port": port}})
    return GrpcServer(server, port)


def _service(service: _Service) -> grpc.GenericRpcHandler:
    messages = load_messages()
    handlers = {}
    for method in METHODS:
        is_infer = method == "ModelInfer"  # its bytes are read where those of the other protocols are
        handlers[method] = grpc.unary_unary_rpc_method_handler(
            service.answer(method),
            request_deserializer=None if is_infer else messages.by_name[f"{method}Request"].FromString,
            response_serializer=None if is_infer else messages.by_name[f"{method}Response"].SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


class _Service:
    """Answers the calls; every method's own part is one function from request to response."""

    def __init__(self, app: App, options: GrpcOptions) -> None:
        self._app = app
        self._options = options
        self._make = load_messages()
        self._methods: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    def answer(self, method: str) -> Callable[[Any, Any], Awaitable[Any]]:
        """Return the handler of a method: it checks the token, and turns errors into statuses."""
        work = self._methods[method]

        async def handle(request: Foreign, context: Foreign) -> Foreign:  # run-time classes
            try:
                if method not in _OPEN:
                    self._authorize(context)
                return await work(request, context)
            except MainspringError as error:
                await context.abort(_CODES.get(error.http_status, grpc.StatusCode.INTERNAL), str(error))
            except grpc.aio.AbortError:
                raise
            except Exception:
                _logger.exception("request.failed")
                await context.abort(grpc.StatusCode.INTERNAL, "This request failed. The endpoint's log has the reason.")

        return handle

    def _authorize(self, context: Foreign) -> None:
        if not is_authorized(_headers(context), self._options.token):
            raise Unauthorized("A bearer token is needed.", hint="Send the metadata authorization: Bearer TOKEN.")

    async def _infer(self, body: bytes, context: Foreign) -> bytes:
        head = _model_of(body)
        endpoint = self._endpoint(head.name)
        done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def respond(reply: Reply) -> None:
            if not done.done():
                done.set_result(reply)

        headers = _headers(context)
        call = make_call(inference.WIRE, respond, endpoint.clock.now_ms(), headers)
        call.version = head.version
        call.is_gone = context.cancelled
        remaining = context.time_remaining()
        call.seconds = min(call.seconds, remaining if remaining is not None else math.inf)
        endpoint.predict(call, body, headers)
        reply = await done
        context.set_trailing_metadata([(name.decode(), value.decode()) for name, value in reply.headers])
        if reply.status != 200:
            await context.abort(_CODES.get(reply.status, grpc.StatusCode.INTERNAL), reply.body.decode())
        return reply.body

    async def _server_live(self, _: Foreign, __: Foreign) -> Foreign:
        live = not any(endpoint.is_sick for endpoint in self._app.endpoints.values())
        return self._make.ServerLiveResponse(live=live)

    async def _server_ready(self, _: Foreign, __: Foreign) -> Foreign:
        return self._make.ServerReadyResponse(ready=self._app.is_healthy())

    async def _model_ready(self, request: Foreign, _: Foreign) -> Foreign:
        endpoint = self._endpoint(request.name)
        if request.version and endpoint.router is not None:
            endpoint.router.with_version(request.version)
        return self._make.ModelReadyResponse(ready=endpoint.is_ready)

    async def _server_metadata(self, _: Foreign, __: Foreign) -> Foreign:
        extensions = [name for name in v2.EXTENSIONS if name != "binary_tensor_data"]
        return self._make.ServerMetadataResponse(name="mainspring", version=__version__, extensions=extensions)

    async def _model_metadata(self, request: Foreign, _: Foreign) -> Foreign:
        endpoint = self._endpoint(request.name)
        router = endpoint.require_router()
        variant = router.with_version(request.version) if request.version else router.choose("")
        described = msgspec.json.decode(v2.describe(endpoint.name, variant.model, router.versions).body)
        response = self._make.ModelMetadataResponse(
            name=described["name"], versions=described["versions"], platform=described["platform"]
        )
        for side in ("inputs", "outputs"):
            for tensor in described[side]:
                getattr(response, side).add(**tensor)
        return response

    async def _index(self, request: Foreign, _: Foreign) -> Foreign:
        response = self._make.RepositoryIndexResponse()
        for endpoint in self._app.endpoints.values():
            state = "READY" if endpoint.is_ready else "UNAVAILABLE"
            if request.ready and state != "READY":
                continue
            for version in endpoint.router.versions if endpoint.router else [""]:
                response.models.add(name=endpoint.name, version=version, state=state, reason=endpoint.error)
        return response

    async def _load(self, request: Foreign, _: Foreign) -> Foreign:
        await self._repository().load(request.model_name)
        return self._make.RepositoryModelLoadResponse()

    async def _unload(self, request: Foreign, _: Foreign) -> Foreign:
        await self._repository().unload(request.model_name)
        return self._make.RepositoryModelUnloadResponse()

    def _repository(self) -> Repository:
        if self._options.repository is None:
            raise Refused("Models are not loaded here.", hint="Use the management listener: --management HOST:PORT.")
        return self._options.repository

    def _endpoint(self, name: str) -> Endpoint:
        endpoint = self._app.endpoints.get(name)
        if endpoint is None:
            raise NotFound("There is no such model here.", hint=f"Served are {', '.join(self._app.endpoints)[:200]}.")
        return endpoint


def _model_of(body: bytes) -> Foreign:
    """Return the name and version of the model an infer call is for, its first two fields; the wire reads the rest."""
    try:
        return load_messages().ModelReadyRequest.FromString(body)
    except DecodeError as error:
        raise BadRequest("the message is not a ModelInferRequest") from error


def _headers(context: Foreign) -> Headers:
    return {
        name.encode(): value if isinstance(value, bytes) else value.encode("latin-1", "replace")
        for name, value in context.invocation_metadata() or ()
    }
