"""Who may ask: a token where one is set, no foreign Host on loopback, no writes from other sites' pages."""

from __future__ import annotations

import base64
import binascii
import ipaddress

from mainspring.api.access import LOCAL, Principal, action_of, authorize, find_principal, parse_tokens
from mainspring.api.boundary import PRINCIPAL, Receive, Scope, Send, send_json
from mainspring.api.errors import Unauthenticated, describe_error
from mainspring.core import MainspringError, Refused
from mainspring.core.settings import Settings

OPEN_PATHS = ("/health",)
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_CHALLENGE = ((b"www-authenticate", b'Basic realm="mainspring"'),)


class Guard:
    """Middleware that refuses a request before anything else sees it."""

    def __init__(self, app: object, *, token: str, loopback: bool) -> None:
        self._app = app
        self._grants = parse_tokens(token)
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an allowed request on, answer the others."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except MainspringError as error:
                headers = _CHALLENGE if isinstance(error, Unauthenticated) else ()
                await send_json(send, *describe_error(error), headers)
                return
        await self._app(scope, receive, send)  # type: ignore[operator]

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._loopback and _without_port(host) not in _LOCAL_NAMES:
            raise Refused("Invalid Host header: DNS rebinding is not allowed.", hint="Use localhost or 127.0.0.1.")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            _check_origin(headers, host)
        if scope["path"] in OPEN_PATHS:
            return
        principal = self._identify(headers)
        if principal is None:
            raise Unauthenticated("The token is missing or wrong.", hint="Set MLFLOW_TRACKING_TOKEN.")
        action = action_of(scope["method"], scope["path"])
        if not authorize(principal, action, scope["path"]):
            raise Refused(f"The role {principal.role!r} may not {action} here.", hint="Ask an administrator.")
        scope[PRINCIPAL] = principal

    def _identify(self, headers: dict[bytes, bytes]) -> Principal | None:
        """Return who asks: whom the token belongs to, or anybody on this machine where there is no token."""
        if not self._grants:
            return LOCAL if self._loopback else None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return None
        elif scheme.lower() != b"bearer":
            return None
        return find_principal(self._grants, given)


def is_loopback(host: str) -> bool:
    """Say whether an address to bind to is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_binding(settings: Settings, host: str) -> None:
    """Raise `Refused` if the server would be open to others without a token."""
    if not is_loopback(host) and not settings.token:
        raise Refused(
            f"Binding to {host} opens the server to other machines and needs a token.",
            hint="Set MAINSPRING_TOKEN, or bind to 127.0.0.1.",
        )


def _check_origin(headers: dict[bytes, bytes], host: str) -> None:
    origin = headers.get(b"origin")
    if origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host:
        raise Refused("Cross-origin requests are not allowed.", hint="Send the request from the server's own pages.")
    if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
        raise Refused("Cross-site requests are not allowed.", hint="Send the request from the server's own pages.")


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
