from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring import registry
from mainspring.core import Corrupt, FixedClock, InvalidInput, NotFound
from mainspring.core.project import Project
from mainspring.core.settings import resolve_settings
from mainspring.lineage import Store, list_events, open_store
from mainspring.registry import webhooks
from mainspring.registry.webhooks import Answer, SecretBox, TargetRules
from mainspring.registry.webhooks.deliverer import judge

OPEN = TargetRules(schemes=("http", "https"), allows_private=True)


@dataclass
class Receiver:
    """An address that takes notices and answers with the statuses it was given, then with 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.calls.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
            status = found.statuses.pop(0) if found.statuses else 200
            self.send_response(status)
            for key, value in found.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    flags = {"webhook_private": "allow", "webhook_schemes": "http,https", "webhook_retries": 2, "webhook_timeout": 5}
    opened = open_store(resolve_settings(tmp_path, flags=flags), Project(project="test"))
    clock = FixedClock()
    made = Store(
        settings=opened.settings, project=opened.project, database=opened.database, blobs=opened.blobs, clock=clock,
        actor="ada",
    )  # fmt: skip
    yield made
    opened.close()


def subscribe(store: Store, url: str, *events: str, secret: str = "") -> str:
    with store.database.write() as connection:
        return webhooks.create_webhook(
            connection, store.clock, OPEN, name="hook", url=url, events=events,
            sealed_secret=SecretBox(store.settings.home).seal(secret),
        ).id  # fmt: skip


def waiting(store: Store) -> int:
    from mainspring.db.tables.webhooks import webhook_delivery

    with store.database.read() as connection:
        return len(connection.execute(webhook_delivery.select()).all())


def test_every_model_event_is_announced_with_mlflows_payload(store: Store, receiver: Receiver) -> None:
    names = [f"{entity}.{action}" for entity, actions in webhooks.EVENTS.items() for action in actions]
    subscribe(store, receiver.url, *names)
    with store.database.write() as connection:
        clock = store.clock
        registry.create_model(connection, clock, "m", description="d", tags={"k": "v"})
        registry.create_version(connection, store.blobs, clock, name="m", source="s3://b/x", tags={"a": "b"})
        registry.set_version_tag(connection, clock, "m", "1", "k", "v")
        registry.delete_version_tag(connection, clock, "m", "1", "k")
        registry.set_alias(connection, clock, name="m", alias="a", version="1", actor="ada", reason="r")
        registry.delete_alias(connection, clock, name="m", alias="a", actor="ada", reason="r")
        registry.create_model(connection, clock, "p", tags={"mlflow.prompt.is_prompt": "true", "t": "1"})
        registry.set_model_tag(connection, clock, "p", "k", "v")
    assert webhooks.deliver_due(store) == 8
    bodies = [json.loads(body) for _, _, body in receiver.calls]
    seen = {(body["entity"], body["action"]): body["data"] for body in bodies}
    assert seen == {
        ("registered_model", "created"): {"name": "m", "description": "d", "tags": {"k": "v"}},
        ("model_version", "created"): {
            "name": "m", "version": "1", "source": "s3://b/x", "run_id": None, "description": None, "tags": {"a": "b"},
        },
        ("model_version_tag", "set"): {"name": "m", "version": "1", "key": "k", "value": "v"},
        ("model_version_tag", "deleted"): {"name": "m", "version": "1", "key": "k"},
        ("model_version_alias", "created"): {"name": "m", "alias": "a", "version": "1"},
        ("model_version_alias", "deleted"): {"name": "m", "alias": "a"},
        ("prompt", "created"): {"name": "p", "description": "", "tags": {"t": "1"}},
        ("prompt_tag", "set"): {"name": "p", "key": "k", "value": "v"},
    }  # fmt: skip
    assert waiting(store) == 0


def test_only_what_was_asked_for_and_committed_is_announced(store: Store, receiver: Receiver) -> None:
    id = subscribe(store, receiver.url, "model_version.created")

    def register_and_fail() -> None:
        with store.database.write() as connection:
            registry.create_model(connection, store.clock, "m")
            registry.create_version(connection, store.blobs, store.clock, name="m", source="s3://b/x")
            registry.get_model(connection, "nobody")

    with pytest.raises(NotFound):
        register_and_fail()
    assert waiting(store) == 0
    with store.database.write() as connection:
        webhooks.update_webhook(connection, store.clock, OPEN, id, status="DISABLED")
        registry.create_model(connection, store.clock, "m")
        registry.create_version(connection, store.blobs, store.clock, name="m", source="s3://b/x")
    assert waiting(store) == 0


def test_notice_is_signed_as_mlflow_signs(store: Store, receiver: Receiver) -> None:
    subscribe(store, receiver.url, "registered_model.created", secret="s3cret")
    with store.database.write() as connection:
        registry.create_model(connection, store.clock, "m")
    webhooks.deliver_due(store)
    ((path, headers, body),) = receiver.calls
    signed = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.{body.decode()}"
    digest = hmac.new(b"s3cret", signed.encode(), hashlib.sha256).digest()
    assert path == "/hook"
    assert headers["x-mlflow-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_passing_failures_are_tried_again_and_lasting_ones_are_not(store: Store, receiver: Receiver) -> None:
    subscribe(store, receiver.url, "registered_model.created")
    receiver.statuses = [500, 429]
    receiver.headers = {"Retry-After": "7"}
    with store.database.write() as connection:
        registry.create_model(connection, store.clock, "m")
    assert [webhooks.deliver_due(store), webhooks.deliver_due(store)] == [1, 0]
    for _ in range(2):
        store.clock.advance(7_000)
        assert webhooks.deliver_due(store) == 1
    ids = {headers["x-mlflow-delivery-id"] for _, headers, _ in receiver.calls}
    assert (len(receiver.calls), len(ids), waiting(store)) == (3, 1, 0)
    receiver.statuses = [404]
    with store.database.write() as connection:
        registry.create_model(connection, store.clock, "other")
    webhooks.deliver_due(store)
    with store.database.read() as connection:
        (event,) = list_events(connection, types=("webhook.given_up",))
    assert (event.data["reason"], event.data["attempts"], waiting(store)) == ("HTTP 404", 1, 0)


def test_unreachable_target_is_given_up_after_the_retries(store: Store) -> None:
    subscribe(store, "http://127.0.0.1:9/x", "registered_model.created")
    with store.database.write() as connection:
        registry.create_model(connection, store.clock, "m")
    attempts = 0
    while waiting(store):
        attempts += webhooks.deliver_due(store)
        store.clock.advance(60_000)
    assert attempts == 3


@given(attempt=st.integers(1, 20), retries=st.integers(0, 10), status=st.integers(100, 599), jitter=st.floats(0, 1))
def test_judgement_ends_and_never_waits_too_long(attempt: int, retries: int, status: int, jitter: float) -> None:
    outcome = judge(Answer(status=status, body=""), "", attempt=attempt, retries=retries, jitter=jitter)
    assert outcome.is_taken == (200 <= status < 300)
    if outcome.delay_s is not None:
        assert attempt <= retries
        assert status in (429, 500, 502, 503, 504)
        assert 0 <= outcome.delay_s <= 60


PRIVATE = [
    "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::1", "fe80::1",
    "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "255.255.255.255",
]  # fmt: skip


def test_private_addresses_are_private_however_they_are_wrapped() -> None:
    assert [address for address in PRIVATE if webhooks.is_public(address)] == []
    assert webhooks.is_public("93.184.216.34")
    assert webhooks.is_public("2606:2800:220:1:248:1893:25c8:1946")


REFUSED_URLS = [
    *(f"https://[{address}]/x" if ":" in address else f"https://{address}/x" for address in PRIVATE),
    "https://localhost/x", "https://LOCALHOST./x", "https://a.localhost/x", "https://2130706433/x", "https://127.1/x",
    "https://0x7f000001/x", "https://0177.0.0.1/x", "http://example.com/x", "ftp://example.com", "https:///x", "  ",
    "https://user:pw@example.com/x", "https://[invalid", "file:///etc/passwd", "https://exa mple.com/", "https://h:99999/",
    "https://metadata.google.internal/x", "https://h/" + "x" * 3000,
]  # fmt: skip


def test_urls_that_lead_inside_are_refused() -> None:
    for url in REFUSED_URLS:
        with pytest.raises(InvalidInput):
            pytest.fail(webhooks.check_url(url, TargetRules()).geturl())
    assert webhooks.check_url("https://example.com/hook", TargetRules()).hostname == "example.com"


def test_name_that_turns_private_later_is_not_connected_to(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(receiver.url.rpartition(":")[2].partition("/")[0])
    strict = TargetRules(schemes=("http",))
    target = webhooks.Target(url=f"http://rebound.example:{port}/hook", secret="", rules=strict, timeout_s=1)
    answers = [(2, 1, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr("mainspring.registry.webhooks.targets.socket.getaddrinfo", lambda *_, **__: answers)
    notice = webhooks.Notice(entity="e", action="a", timestamp="t", data={})
    with pytest.raises(InvalidInput, match="non-public"):
        webhooks.send(target, notice, delivery_id="1", timestamp="1")
    assert receiver.calls == []


def test_redirects_are_not_followed(store: Store, receiver: Receiver) -> None:
    receiver.statuses, receiver.headers = [302], {"Location": "http://127.0.0.1:9/inside"}
    target = webhooks.Target(url=receiver.url, secret="", rules=OPEN, timeout_s=2)
    notice = webhooks.Notice(entity="e", action="a", timestamp="t", data={})
    answer = webhooks.send(target, notice, delivery_id="1", timestamp="1")
    assert (answer.status, answer.is_success, len(receiver.calls)) == (302, False, 1)


def test_secret_is_encrypted_with_a_key_only_its_owner_can_read(tmp_path: Path) -> None:
    box = SecretBox(tmp_path)
    sealed = box.seal("s3cret")
    assert "s3cret" not in sealed
    assert SecretBox(tmp_path).reveal(sealed) == "s3cret"
    assert (tmp_path / "webhook.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "webhook.key").unlink()
    with pytest.raises(Corrupt):
        box.reveal(sealed)


def test_webhooks_are_listed_changed_and_deleted(store: Store) -> None:
    ids = []
    for number in range(3):
        store.clock.advance(1)
        ids.append(subscribe(store, f"https://example.com/{number}", "prompt.created"))
    with store.database.write() as connection:
        page = webhooks.list_webhooks(connection, max_results=2)
        rest = webhooks.list_webhooks(connection, max_results=2, page_token=page.next_page_token)
        assert [hook.id for hook in (*page.webhooks, *rest.webhooks)] == ids[::-1]
        assert rest.next_page_token is None
        changed = webhooks.update_webhook(connection, store.clock, OPEN, ids[0], name="other", description="d")
        assert (changed.name, changed.description, changed.url) == ("other", "d", "https://example.com/0")
        for bad in ({"name": "-x"}, {"name": "x" * 64}, {"events": ["prompt.deleted"]}, {"status": "NO"}, {"url": "x"}):
            with pytest.raises(InvalidInput):
                webhooks.update_webhook(connection, store.clock, OPEN, ids[0], **bad)
        webhooks.delete_webhook(connection, ids[0])
        with pytest.raises(NotFound, match=f"Webhook with ID {ids[0]} not found"):
            webhooks.get_webhook(connection, ids[0])
