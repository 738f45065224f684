"""Which events there are, what is said of each, and the outbox they wait in."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core import Clock
from mainspring.db.tables import webhooks as tables

EVENTS: dict[str, tuple[str, ...]] = {
    "registered_model": ("created",),
    "model_version": ("created",),
    "model_version_tag": ("set", "deleted"),
    "model_version_alias": ("created", "deleted"),
    "prompt": ("created",),
    "prompt_version": ("created",),
    "prompt_tag": ("set", "deleted"),
    "prompt_version_tag": ("set", "deleted"),
    "prompt_alias": ("created", "deleted"),
}
"""The actions of each entity, in MLflow's words."""

_TAGS = {"example_key": "example_value"}
_KEY = {"key": "example_key"}
_SET = {**_KEY, "value": "example_value"}
_ALIAS = {"alias": "example_alias"}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "registered_model.created": {"tags": _TAGS, "description": "An example registered model"},
    "model_version.created": {
        "version": "1",
        "source": "models:/123",
        "run_id": "abcd1234abcd5678",
        "tags": _TAGS,
        "description": "An example model version",
    },
    "model_version_tag.set": {"version": "1", **_SET},
    "model_version_tag.deleted": {"version": "1", **_KEY},
    "model_version_alias.created": {**_ALIAS, "version": "1"},
    "model_version_alias.deleted": _ALIAS,
    "prompt.created": {"tags": _TAGS, "description": "An example prompt"},
    "prompt_version.created": {
        "version": "1",
        "template": "Hello {{name}}!",
        "tags": _TAGS,
        "description": "An example prompt version",
    },
    "prompt_tag.set": _SET,
    "prompt_tag.deleted": _KEY,
    "prompt_version_tag.set": {"version": "1", **_SET},
    "prompt_version_tag.deleted": {"version": "1", **_KEY},
    "prompt_alias.created": {**_ALIAS, "version": "1"},
    "prompt_alias.deleted": _ALIAS,
}


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent: entity, action, time (ISO 8601) and data."""

    entity: str
    action: str
    timestamp: str
    data: dict[str, Any]


def announce(connection: sa.Connection, clock: Clock, event: str, data: Mapping[str, Any]) -> None:
    """Put a notice of ``entity.action`` into the outbox for everybody who wants it, in the caller's transaction."""
    hook, delivery = tables.webhook, tables.webhook_delivery
    query = sa.select(hook.c.id, hook.c.events).where(hook.c.status == "ACTIVE")
    now = clock.now_ms()
    rows = [
        {
            "id": str(uuid.uuid4()), "webhook_id": id, "event": event, "payload": dict(data), "attempts": 0,
            "due_at": now, "created_at": now,
        }
        for id, events in connection.execute(query)
        if event in events
    ]  # fmt: skip
    if rows:
        connection.execute(sa.insert(delivery), rows)


def event_names() -> frozenset[str]:
    """Return all events as ``entity.action``."""
    return frozenset(f"{entity}.{action}" for entity, actions in EVENTS.items() for action in actions)


def example_of(event: str) -> dict[str, Any]:
    """Return the data a test of this event sends."""
    return {"name": "example_prompt" if event.startswith("prompt") else "example_model", **_EXAMPLES[event]}
