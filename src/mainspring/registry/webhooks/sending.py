"""Send one notice: signed, to an address that was checked, without following redirects."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import socket
import ssl
from urllib.parse import SplitResult

import msgspec

from mainspring.registry.webhooks.events import Notice
from mainspring.registry.webhooks.targets import TargetRules, check_url, resolve

MAX_ANSWER = 64 << 10
SIGNATURE_VERSION = "v1"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a notice goes and what it is signed with."""

    url: str
    secret: str
    rules: TargetRules
    timeout_s: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the other side said; ``retry_after_s`` if it asked for patience."""

    status: int
    body: str
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the notice was taken."""
        return 200 <= self.status < 300


def sign(secret: str, delivery_id: str, timestamp: str, body: str) -> str:
    """Return the signature as MLflow writes it: ``v1,`` and the base 64 of HMAC-SHA256 over id, time and body."""
    content = f"{delivery_id}.{timestamp}.{body}"
    digest = hmac.new(secret.encode(), content.encode(), hashlib.sha256).digest()
    return f"{SIGNATURE_VERSION},{base64.b64encode(digest).decode()}"


def send(target: Target, notice: Notice, *, delivery_id: str, timestamp: str) -> Answer:
    """Post a notice and return the answer; raise `OSError` or `InvalidInput` if it cannot be delivered."""
    parts = check_url(target.url, target.rules)
    body = msgspec.json.encode(notice).decode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "mainspring-webhook",
        "X-MLflow-Delivery-Id": delivery_id,
        "X-MLflow-Timestamp": timestamp,
    }
    if target.secret:
        headers["X-MLflow-Signature"] = sign(target.secret, delivery_id, timestamp, body)
    connection = _connect(parts, target)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body=body.encode(), headers=headers)
        answer = connection.getresponse()
        text = answer.read(MAX_ANSWER).decode(errors="replace")
        return Answer(status=answer.status, body=text, retry_after_s=_seconds(answer.headers.get("Retry-After")))
    except http.client.HTTPException as error:
        raise OSError(f"The answer is not HTTP: {type(error).__name__}.") from error
    finally:
        connection.close()


def _connect(parts: SplitResult, target: Target) -> http.client.HTTPConnection:
    """Open a connection to the checked address of the host, with TLS for the host's name."""
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    address = resolve(host, port, target.rules)
    connection = http.client.HTTPConnection(host, port, timeout=target.timeout_s)
    plain = socket.create_connection((address, port), timeout=target.timeout_s)
    try:
        secure = parts.scheme == "https"
        connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain
    except OSError:
        plain.close()
        raise
    return connection


def _seconds(text: str | None) -> float | None:
    """Return a Retry-After header in seconds; None if there is none or it is a date."""
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else None
