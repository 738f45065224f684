"""Webhooks as records: who wants to hear of what, where."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from mainspring.core import Clock, InvalidInput, NotFound
from mainspring.db.tables import webhooks as tables
from mainspring.registry.webhooks.events import EVENTS
from mainspring.registry.webhooks.targets import TargetRules, check_url
from mainspring.tracking import check_length, check_max_results, next_token, read_offset

STATUSES = ("ACTIVE", "DISABLED")
MAX_RESULTS = 1000
_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)
_table = tables.webhook
_COLUMNS = [
    _table.c[name] for name in ("id", "name", "description", "url", "status", "events", "created_at", "updated_at")
]


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook, without its secret. Times in ms since the epoch; events read ``model_version.created``."""

    id: str
    name: str
    description: str | None
    url: str
    status: str
    events: list[str]
    created_at: int
    updated_at: int


class WebhookPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of webhooks."""

    webhooks: list[Webhook]
    next_page_token: str | None


def create_webhook(
    connection: sa.Connection,
    clock: Clock,
    rules: TargetRules,
    *,
    name: str,
    url: str,
    events: Sequence[str],
    description: str | None = None,
    sealed_secret: str = "",
    status: str = "ACTIVE",
) -> Webhook:
    """Make a webhook; raise `InvalidInput` for a name, URL, event or status that cannot be."""
    id, now = str(uuid.uuid4()), clock.now_ms()
    values = {
        "id": id, "name": _check_name(name), "url": url, "events": _check_events(events),
        "description": description, "secret": sealed_secret, "status": _check_status(status),
        "created_at": now, "updated_at": now,
    }  # fmt: skip
    check_url(url, rules)
    check_length("Description", description or "", 5000)
    connection.execute(sa.insert(_table).values(values))
    return get_webhook(connection, id)


def get_webhook(connection: sa.Connection, id: str) -> Webhook:
    """Return one webhook; raise `NotFound`."""
    row = connection.execute(sa.select(*_COLUMNS).where(_table.c.id == id)).mappings().first()
    if row is None:
        raise NotFound(f"Webhook with ID {id[:100]} not found.")
    return Webhook(**row)


def list_webhooks(connection: sa.Connection, *, max_results: int = 100, page_token: str | None = None) -> WebhookPage:
    """Return webhooks, newest first."""
    limit, offset = check_max_results(max_results, MAX_RESULTS), read_offset(page_token)
    query = sa.select(*_COLUMNS).order_by(_table.c.created_at.desc(), _table.c.id).limit(limit + 1).offset(offset)
    found = [Webhook(**row) for row in connection.execute(query).mappings()]
    return WebhookPage(webhooks=found[:limit], next_page_token=next_token(offset, limit, len(found)))


def update_webhook(
    connection: sa.Connection,
    clock: Clock,
    rules: TargetRules,
    id: str,
    *,
    name: str | None = None,
    url: str | None = None,
    events: Sequence[str] | None = None,
    description: str | None = None,
    sealed_secret: str | None = None,
    status: str | None = None,
) -> Webhook:
    """Change what is given."""
    before = get_webhook(connection, id)
    if url is not None:
        check_url(url, rules)
    check_length("Description", description or "", 5000)
    given = {
        "name": None if name is None else _check_name(name), "url": url, "description": description,
        "events": None if events is None else _check_events(events), "secret": sealed_secret,
        "status": None if status is None else _check_status(status),
    }  # fmt: skip
    values: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    values["updated_at"] = max(clock.now_ms(), before.updated_at + 1)
    connection.execute(sa.update(_table).where(_table.c.id == id).values(values))
    return get_webhook(connection, id)


def delete_webhook(connection: sa.Connection, id: str) -> None:
    """Remove a webhook and what still waits to be sent to it."""
    get_webhook(connection, id)
    delivery = tables.webhook_delivery
    connection.execute(sa.delete(delivery).where(delivery.c.webhook_id == id))
    connection.execute(sa.delete(_table).where(_table.c.id == id))


def read_secret(connection: sa.Connection, id: str) -> str:
    """Return the sealed secret of a webhook, empty if it has none."""
    return str(connection.execute(sa.select(_table.c.secret).where(_table.c.id == id)).scalar() or "")


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"Webhook name {name[:100]!r} is invalid. It must start and end with a letter or digit, be less than 63 "
            "characters long, and contain only letters, digits, dots (.), underscores (_), and hyphens (-)."
        )
    return name


def _check_events(events: Sequence[str]) -> list[str]:
    if not events:
        raise InvalidInput("Webhook events must be a non-empty list of WebhookEvent objects: [].")
    for event in events:
        entity, _, action = event.partition(".")
        if entity not in EVENTS:
            raise InvalidInput(f"Unknown webhook entity {entity[:50]!r}.", hint=f"Known: {', '.join(EVENTS)}.")
        if action not in EVENTS[entity]:
            raise InvalidInput(
                f"Invalid action '{action[:50]}' for entity '{entity}'. Valid actions are: {sorted(EVENTS[entity])}"
            )
    return list(dict.fromkeys(events))


def _check_status(status: str) -> str:
    if status not in STATUSES:
        raise InvalidInput(f"Invalid webhook status {status[:50]!r}.", hint=f"Use {' or '.join(STATUSES)}.")
    return status
