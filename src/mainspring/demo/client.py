"""What the outside world does to an endpoint: ask for predictions, and say later what was true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from time import sleep
from urllib.parse import urlsplit

import msgspec

from mainspring.core import Unavailable


class EndpointClient:
    """One keep-alive connection to an endpoint; it counts what failed instead of hiding it."""

    def __init__(self, url: str, endpoint: str) -> None:
        address = urlsplit(url)
        self._connection = HTTPConnection(address.hostname or "127.0.0.1", address.port or 80, timeout=30)
        self._endpoint = endpoint
        self.requests = 0
        self.predictions = 0
        self.failed = 0

    def predict(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, id: str) -> str | None:
        """Ask for one prediction per row; return the request's id, or None if the request failed."""
        body = msgspec.json.encode({"dataframe_split": {"columns": columns, "data": rows}})
        self.requests += 1
        status, headers, answer = self._send("POST", "/invocations", body, {"x-request-id": id})
        if status != 200 or len(msgspec.json.decode(answer)["predictions"]) != len(rows):
            self.failed += 1
            return None
        self.predictions += len(rows)
        return headers["x-request-id"]

    def send_labels(self, labels: Sequence[dict[str, object]]) -> None:
        """Tell the endpoint what turned out to be true."""
        path = f"/v1/endpoints/{self._endpoint}/labels"
        status, _, answer = self._send("POST", path, msgspec.json.encode({"labels": labels}))
        if status != 200:
            raise Unavailable(f"The endpoint answered {status} to labels: {answer[:200]!r}")

    def wait_for_revision(self, revision: int, seconds: float = 30.0) -> None:
        """Wait until the endpoint serves this revision of its deployment."""
        for _ in range(round(seconds / 0.02)):
            status, _, answer = self._send("GET", "/v2/health/ready", None)
            if status == 200 and msgspec.json.decode(answer).get("revision", 0) >= revision:
                return
            sleep(0.02)
        raise Unavailable(f"The endpoint {self._endpoint} did not load revision {revision} in {seconds:.0f} s.")

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        typed = {"Content-Type": "application/json"} if body else {}
        try:
            self._connection.request(method, path, body, {**typed, **(headers or {})})
            response = self._connection.getresponse()
            return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            return 0, {}, str(error).encode()
