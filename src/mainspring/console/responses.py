"""Answers: HTML or JSON of the same view, with the security headers every answer carries."""

from __future__ import annotations

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mainspring.console.rendering import View, render
from mainspring.console.views.problem import show_problem
from mainspring.core import Clock, MainspringError

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FOREVER = "public, max-age=31536000, immutable"


class SecurityHeaders:
    """Middleware that adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the headers when the answer starts."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def wants_json(request: Request) -> bool:
    """Tell whether the client asked for the JSON twin: by ``.json``, or by an Accept header without HTML."""
    accept = request.headers.get("accept", "")
    return request.url.path.endswith(".json") or ("application/json" in accept and "text/html" not in accept)


def answer(request: Request, template: str, view: View, *, status: int = 200) -> Response:
    """Answer with a view: as the page the template makes of it, or as JSON."""
    headers = {"Cache-Control": "no-cache", "Vary": "Accept"}
    if wants_json(request):
        return Response(msgspec.json.encode(view), status, headers, "application/json")
    return Response(render(template, view, twin=_twin_of(request)), status, headers, "text/html")


def _twin_of(request: Request) -> str:
    path = "/index.json" if request.url.path == "/" else f"{request.url.path}.json"
    return f"{path}?{request.url.query}" if request.url.query else path


def answer_problem(request: Request, clock: Clock, error: MainspringError) -> Response:
    """Answer with what went wrong and what to do, in the status of the error."""
    return answer(request, "problem.html", show_problem(clock, error), status=error.http_status)
