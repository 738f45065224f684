"""Webhooks: addresses outside that are told, signed and at least once, what happens to models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainspring.core.lazy import names_of

if TYPE_CHECKING:
    from mainspring.registry.webhooks.deliverer import Deliverer, deliver_due, rules_of
    from mainspring.registry.webhooks.events import EVENTS, Notice, announce, event_names, example_of
    from mainspring.registry.webhooks.hooks import (
        Webhook,
        WebhookPage,
        create_webhook,
        delete_webhook,
        get_webhook,
        list_webhooks,
        read_secret,
        update_webhook,
    )
    from mainspring.registry.webhooks.outbox import has_due
    from mainspring.registry.webhooks.secrets import SecretBox
    from mainspring.registry.webhooks.sending import Answer, Target, send, sign
    from mainspring.registry.webhooks.targets import TargetRules, check_url, is_public

__all__ = [
    "EVENTS",
    "Answer",
    "Deliverer",
    "Notice",
    "SecretBox",
    "Target",
    "TargetRules",
    "Webhook",
    "WebhookPage",
    "announce",
    "check_url",
    "create_webhook",
    "delete_webhook",
    "deliver_due",
    "event_names",
    "example_of",
    "get_webhook",
    "has_due",
    "is_public",
    "list_webhooks",
    "read_secret",
    "rules_of",
    "send",
    "sign",
    "update_webhook",
]

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__, ("outbox",))
