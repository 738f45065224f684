"""One keep-alive HTTP connection to a server that speaks MLflow's protocol, and its errors as ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

from mainspring.core import AlreadyExists, Conflict, InvalidInput, MainspringError, NotFound, Refused, Unavailable

_ERRORS: dict[str, type[MainspringError]] = {
    kind.code: kind for kind in (InvalidInput, NotFound, AlreadyExists, Conflict, Refused)
}
_RETRY = (408, 425, 429)


class Connection:
    """Keeps one connection open and opens it again when the server closed it; not for several threads."""

    def __init__(self, url: str, *, token: str = "", timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"{url!r} is not the address of a server.", hint="Use http://HOST:PORT.")
        self.url = url.rstrip("/")
        self._base = parts.path.rstrip("/")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, query: Mapping[str, object] | None = None) -> bytes:
        """GET an endpoint and return the body of the answer."""
        text = f"?{urlencode(query, doseq=True)}" if query else ""
        return self._request("GET", path + text, None)

    def post(self, path: str, document: object) -> bytes:
        """POST a JSON document and return the body of the answer."""
        body = json.dumps(document, separators=(",", ":")).encode()
        return self._request("POST", path, body, {"Content-Type": "application/json"})

    def put_file(self, path: str, file: IO[bytes], size: int) -> None:
        """PUT the bytes of an open file."""
        self._request("PUT", path, file, {"Content-Length": str(size), "Content-Type": "application/octet-stream"})

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        self._connection.close()

    def _request(
        self, method: str, path: str, body: bytes | IO[bytes] | None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Send a request, once more if the server had closed an idle connection; raise what a refusal means."""
        is_reused = self._connection.sock is not None
        try:
            answer = self._exchange(method, path, body, headers or {})
        except (HTTPException, OSError) as error:
            self.close()
            if not is_reused or isinstance(error, TimeoutError):
                raise self._gone(error) from error
            if body is not None and not isinstance(body, bytes):
                body.seek(0)
            try:
                answer = self._exchange(method, path, body, headers or {})
            except (HTTPException, OSError) as again:
                self.close()
                raise self._gone(again) from again
        status, content = answer
        if status >= 300:
            raise explain(status, content, self.url)
        return content

    def _exchange(
        self, method: str, path: str, body: bytes | IO[bytes] | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        self._connection.request(method, self._base + path, body=body, headers={**self._headers, **headers})
        answer: HTTPResponse = self._connection.getresponse()
        return answer.status, answer.read()

    def _gone(self, error: Exception) -> Unavailable:
        return Unavailable(f"The server at {self.url} does not answer: {error}.", hint="Start it with: mainspring up")


def explain(status: int, content: bytes, url: str) -> MainspringError:
    """Return the error that an answer stands for; `Unavailable` means that trying again can help."""
    try:
        document: dict[str, Any] = json.loads(content)
        code, message = str(document["error_code"]), str(document["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "", content[:200].decode(errors="replace")
    if status >= 500 or status in _RETRY:
        return Unavailable(f"The server at {url} answered {status}: {message}")
    if status in (401, 403):
        return Refused(f"The server at {url} refused: {message}", hint="Set MAINSPRING_TOKEN to its token.")
    return _ERRORS.get(code, NotFound if status == 404 else InvalidInput)(message or f"{url} answered {status}.")
