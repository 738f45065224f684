"""MLflow's webhook endpoints."""

from __future__ import annotations

import msgspec

from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.wire import Int64, Required, Wire, set_fields
from mainspring.core import InvalidInput, MainspringError, new_hex_id, to_iso
from mainspring.lineage import Store
from mainspring.registry import webhooks
from mainspring.registry.webhooks import Notice, SecretBox, Target, TargetRules, Webhook

_STATUS_NUMBERS = {"1": "ACTIVE", "2": "DISABLED"}


class Event(msgspec.Struct):
    """One kind of event: ``MODEL_VERSION`` and ``CREATED``."""

    entity: Required
    action: Required

    @property
    def name(self) -> str:
        """The event in our words: ``model_version.created``."""
        return f"{self.entity.lower()}.{self.action.lower()}"


class CreateWebhook(msgspec.Struct):
    """Make a webhook."""

    name: Required
    url: Required
    events: list[Event]
    description: str | None = None
    secret: str | None = None
    status: str | int | None = None


class WebhookId(msgspec.Struct):
    """Name a webhook."""

    webhook_id: Required


class ListWebhooks(msgspec.Struct):
    """List webhooks."""

    max_results: Int64 | None = None
    page_token: str | None = None


class UpdateWebhook(msgspec.Struct):
    """Change a webhook."""

    webhook_id: Required
    name: str | None = None
    url: str | None = None
    events: list[Event] | None = None
    description: str | None = None
    secret: str | None = None
    status: str | int | None = None


class TestWebhook(msgspec.Struct):
    """Send an example to a webhook."""

    webhook_id: Required
    event: Event | None = None


def create(store: Store, request: CreateWebhook) -> Wire:
    """Answer POST webhooks."""
    if not request.events:
        raise InvalidInput("Missing value for required parameter 'events'.")
    rules = webhooks.rules_of(store)
    webhooks.check_url(request.url, rules)
    sealed = SecretBox(store.settings.home).seal(request.secret or "")
    with store.database.write() as connection:
        made = webhooks.create_webhook(
            connection, store.clock, rules, name=request.name, url=request.url, sealed_secret=sealed,
            events=[event.name for event in request.events], description=request.description or None,
            status=_status(request.status) or "ACTIVE",
        )  # fmt: skip
    return {"webhook": webhook_message(made)}


def list_(store: Store, request: ListWebhooks) -> Wire:
    """Answer GET webhooks."""
    with store.database.read() as connection:
        page = webhooks.list_webhooks(
            connection, max_results=100 if request.max_results is None else request.max_results,
            page_token=request.page_token,
        )  # fmt: skip
    return set_fields(
        webhooks=[webhook_message(found) for found in page.webhooks], next_page_token=page.next_page_token
    )


def get(store: Store, request: WebhookId) -> Wire:
    """Answer GET webhooks/{id}."""
    with store.database.read() as connection:
        return {"webhook": webhook_message(webhooks.get_webhook(connection, request.webhook_id))}


def update(store: Store, request: UpdateWebhook) -> Wire:
    """Answer PATCH webhooks/{id}."""
    sealed = None if request.secret is None else SecretBox(store.settings.home).seal(request.secret)
    with store.database.write() as connection:
        changed = webhooks.update_webhook(
            connection, store.clock, webhooks.rules_of(store), request.webhook_id, name=request.name or None,
            url=request.url or None, events=[event.name for event in request.events] if request.events else None,
            description=request.description, sealed_secret=sealed, status=_status(request.status),
        )  # fmt: skip
    return {"webhook": webhook_message(changed)}


def delete(store: Store, request: WebhookId) -> Wire:
    """Answer DELETE webhooks/{id}."""
    with store.database.write() as connection:
        webhooks.delete_webhook(connection, request.webhook_id)
    return {}


def test(store: Store, request: TestWebhook) -> Wire:
    """Answer POST webhooks/{id}/test: send an example now and say what came of it."""
    with store.database.read() as connection:
        hook = webhooks.get_webhook(connection, request.webhook_id)
        sealed = webhooks.read_secret(connection, hook.id)
    event = request.event.name if request.event is not None else hook.events[0]
    if event not in webhooks.event_names():
        raise InvalidInput(f"Unknown webhook event {event[:50]!r}.")
    return {"result": _send_example(store, hook, event, sealed, webhooks.rules_of(store))}


def webhook_message(webhook: Webhook) -> Wire:
    """Return MLflow's Webhook."""
    return set_fields(
        webhook_id=webhook.id,
        name=webhook.name,
        description=webhook.description,
        url=webhook.url,
        events=[_event_message(event) for event in webhook.events],
        status=webhook.status,
        creation_timestamp=webhook.created_at,
        last_updated_timestamp=webhook.updated_at,
    )


def _send_example(store: Store, hook: Webhook, event: str, sealed: str, rules: TargetRules) -> Wire:
    entity, _, action = event.partition(".")
    now = store.clock.now_ms()
    notice = Notice(entity=entity, action=action, timestamp=to_iso(now), data=webhooks.example_of(event))
    try:
        target = Target(
            url=hook.url, secret=SecretBox(store.settings.home).reveal(sealed), rules=rules,
            timeout_s=float(store.settings.values.webhook_timeout),
        )  # fmt: skip
        answer = webhooks.send(target, notice, delivery_id=new_hex_id(), timestamp=str(now // 1000))
    except (OSError, MainspringError) as error:
        return {"success": False, "error_message": f"Failed to test webhook: {error}"}
    return {"success": answer.is_success, "response_status": answer.status, "response_body": answer.body}


def _event_message(event: str) -> Wire:
    entity, _, action = event.partition(".")
    return {"entity": entity.upper(), "action": action.upper()}


def _status(status: str | int | None) -> str | None:
    return None if status is None else _STATUS_NUMBERS.get(str(status), str(status))


_ONE = "webhooks/{webhook_id}"
ENDPOINTS = (
    Endpoint(method="POST", path="webhooks", request=CreateWebhook, handle=create),
    Endpoint(method="GET", path="webhooks", request=ListWebhooks, handle=list_),
    Endpoint(method="GET", path=_ONE, request=WebhookId, handle=get),
    Endpoint(method="PATCH", path=_ONE, request=UpdateWebhook, handle=update),
    Endpoint(method="DELETE", path=_ONE, request=WebhookId, handle=delete),
    Endpoint(method="POST", path=_ONE + "/test", request=TestWebhook, handle=test),
)
