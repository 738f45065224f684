"""Webhooks through the client, and what arrives at the other end."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

SECRET = "my-secret"


class Listener(ThreadingHTTPServer):
    """Takes notices: ``/open``; ``/signed`` checks them; ``/flaky`` fails at first; ``/limited`` asks for patience."""

    calls: list[tuple[str, int, dict[str, Any]]]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def wait(self, count: int, seconds: float = 15) -> list[tuple[str, int, dict[str, Any]]]:
        deadline = time.monotonic() + seconds
        while len(self.calls) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(self.calls) == count
        return self.calls


class Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        before = sum(path == self.path for path, *_ in self.server.calls)
        status = self.judge(body, before)
        self.server.calls.append((self.path, status, json.loads(body)))
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def judge(self, body: bytes, before: int) -> int:
        if self.path == "/flaky":
            return 500 if before < 1 else 200
        if self.path == "/limited":
            return 429 if before < 1 else 200
        if self.path == "/signed":
            return self.check(body)
        return 200 if self.path == "/open" else 404

    def check(self, body: bytes) -> int:
        given = self.headers.get("X-MLflow-Signature")
        if given is None:
            return 400
        parts = self.headers["X-MLflow-Delivery-Id"], self.headers["X-MLflow-Timestamp"], body.decode()
        wanted = hmac.new(SECRET.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
        return 200 if given == "v1," + base64.b64encode(wanted).decode() else 401

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def hooks(client: Any) -> Iterator[Any]:
    """The client, without webhooks afterwards."""
    yield client
    for one in client.list_webhooks():
        client.delete_webhook(one.webhook_id)


def test_webhooks_are_made_listed_changed_and_deleted(hooks: Any, mlflow: Any) -> None:
    made = hooks.create_webhook("hook", "https://1.1.1.1/x", ["model_version.created"], description="d", secret=SECRET)
    found = hooks.get_webhook(made.webhook_id)
    assert (found.name, found.url, found.secret, found.description, str(found.status)) == (
        "hook", "https://1.1.1.1/x", None, "d", "ACTIVE",
    )  # fmt: skip
    others = [hooks.create_webhook(f"hook{n}", "https://1.1.1.1/x", ["prompt.created"]).webhook_id for n in range(2)]
    page = hooks.list_webhooks(max_results=2)
    rest = hooks.list_webhooks(max_results=2, page_token=page.token)
    assert {one.webhook_id for one in (*page, *rest)} == {made.webhook_id, *others}
    assert not rest.token
    events = ["registered_model.created", "model_version_tag.set"]
    changed = hooks.update_webhook(made.webhook_id, name="other", events=events, status="DISABLED")
    assert (changed.name, str(changed.status), changed.description, len(changed.events)) == (
        "other",
        "DISABLED",
        "d",
        2,
    )
    assert changed.last_updated_timestamp > made.last_updated_timestamp
    hooks.delete_webhook(made.webhook_id)
    with pytest.raises(mlflow.MlflowException, match=f"Webhook with ID {made.webhook_id} not found"):
        hooks.get_webhook(made.webhook_id)


def test_model_events_arrive(hooks: Any, listener: Listener, name: str) -> None:
    events = [
        "registered_model.created", "model_version.created", "model_version_tag.set", "model_version_tag.deleted",
        "model_version_alias.created", "model_version_alias.deleted",
    ]  # fmt: skip
    hooks.create_webhook("all", listener.url("/open"), events)
    hooks.create_webhook("other", listener.url("/open"), ["prompt.created"])
    hooks.create_registered_model(name, tags={"k": "v"}, description="d")
    hooks.create_model_version(name, "s3://b/m", "1234567890abcdef", tags={"a": "b"}, description="e")
    hooks.set_model_version_tag(name, "1", "x", "y")
    hooks.delete_model_version_tag(name, "1", "x")
    hooks.set_registered_model_alias(name, "al", "1")
    hooks.delete_registered_model_alias(name, "al")
    notices = [notice for _, _, notice in listener.wait(6)]
    assert {f"{notice['entity']}.{notice['action']}": notice["data"] for notice in notices} == {
        "registered_model.created": {"name": name, "tags": {"k": "v"}, "description": "d"},
        "model_version.created": {
            "name": name, "version": "1", "source": "s3://b/m", "run_id": "1234567890abcdef", "tags": {"a": "b"},
            "description": "e",
        },
        "model_version_tag.set": {"name": name, "version": "1", "key": "x", "value": "y"},
        "model_version_tag.deleted": {"name": name, "version": "1", "key": "x"},
        "model_version_alias.created": {"name": name, "version": "1", "alias": "al"},
        "model_version_alias.deleted": {"name": name, "alias": "al"},
    }  # fmt: skip


def test_what_fails_for_a_moment_is_sent_again(hooks: Any, listener: Listener, name: str) -> None:
    for path in ("/flaky", "/limited"):
        hooks.create_webhook(path[1:], listener.url(path), ["registered_model.created"])
    hooks.create_registered_model(name)
    calls = listener.wait(4)
    assert sorted(status for path, status, _ in calls if path == "/flaky") == [200, 500]
    assert sorted(status for path, status, _ in calls if path == "/limited") == [200, 429]


@pytest.mark.parametrize(
    ("path", "secret", "status"),
    [
        ("/open", None, 200),
        ("/signed", SECRET, 200),
        ("/signed", "wrong", 401),
        ("/signed", None, 400),
        ("/no", None, 404),
    ],
)
def test_a_test_says_what_came_back(hooks: Any, listener: Listener, path: str, secret: str | None, status: int) -> None:
    events = ["model_version.created", "model_version_tag.set"]
    made = hooks.create_webhook("tested", listener.url(path), events, secret=secret)
    result = hooks.test_webhook(made.webhook_id)
    assert (result.success, result.response_status, result.error_message) == (status == 200, status, None)
    assert listener.calls[0][2]["data"] == {
        "name": "example_model", "version": "1", "source": "models:/123", "run_id": "abcd1234abcd5678",
        "tags": {"example_key": "example_value"}, "description": "An example model version",
    }  # fmt: skip
    hooks.test_webhook(made.webhook_id, event="model_version_tag.set")
    assert listener.calls[1][2]["data"] == {
        "name": "example_model", "version": "1", "key": "example_key", "value": "example_value",
    }  # fmt: skip
