"""Send what waits in the outbox, at least once, with patience; a thread of the server process does it."""

from __future__ import annotations

import logging
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core import MainspringError, to_iso
from mainspring.db.tables import webhooks as tables
from mainspring.lineage import Store, record_event
from mainspring.registry.webhooks.events import Notice
from mainspring.registry.webhooks.outbox import has_due
from mainspring.registry.webhooks.secrets import SecretBox
from mainspring.registry.webhooks.sending import Answer, Target, send
from mainspring.registry.webhooks.targets import TargetRules

POLL_SECONDS = 0.25
MAX_DELAY_S = 60.0
RETRIED = (429, 500, 502, 503, 504)
WORKERS = 8
BATCH = 50

log = logging.getLogger("mainspring.webhooks")
_delivery, _hook = tables.webhook_delivery, tables.webhook


class _Due(msgspec.Struct, frozen=True, kw_only=True):
    """A notice whose time has come, with its webhook."""

    id: str
    event: str
    payload: dict[str, Any]
    attempts: int
    due_at: int
    created_at: int
    name: str
    url: str
    secret: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one attempt: taken, to be tried again after a delay, or given up."""

    is_taken: bool
    delay_s: float | None = None
    reason: str = ""


def judge(answer: Answer | None, error: str, *, attempt: int, retries: int, jitter: float) -> Outcome:
    """Decide what follows from an attempt (the first is 1); the delay doubles each time, ``jitter`` is 0 to 1."""
    if answer is not None and answer.is_success:
        return Outcome(is_taken=True)
    reason = error if answer is None else f"HTTP {answer.status}"
    passing = answer is None or answer.status in RETRIED
    if not passing or attempt > retries:
        return Outcome(is_taken=False, reason=reason)
    asked = answer.retry_after_s if answer is not None and answer.retry_after_s is not None else None
    delay = 2.0 ** (attempt - 1) + jitter if asked is None else asked
    return Outcome(is_taken=False, delay_s=min(delay, MAX_DELAY_S), reason=reason)


class Deliverer:
    """Sends what is due until it is told to stop; runs in a thread of the server process."""

    def __init__(self, store: Store, stopping: threading.Event) -> None:
        self._store = store
        self._stopping = stopping
        self._workers = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="webhook")

    def run(self) -> None:
        """Send until the event is set; what was not sent stays in the outbox."""
        while not self._stopping.wait(POLL_SECONDS):
            try:
                for due in _claim(self._store):
                    self._workers.submit(_attempt, self._store, due)
            except Exception:  # a supervision point: whatever went wrong, the next round tries again
                log.exception("webhooks.round.failed")
        self._workers.shutdown(wait=False, cancel_futures=True)


def deliver_due(store: Store) -> int:
    """Send what is due now, one after the other, and return how many attempts were made."""
    found = _claim(store)
    for due in found:
        _attempt(store, due)
    return len(found)


def rules_of(store: Store) -> TargetRules:
    """Return the operator's rules for targets."""
    values = store.settings.values
    schemes = tuple(part.strip() for part in values.webhook_schemes.split(",") if part.strip())
    return TargetRules(schemes=schemes, allows_private=values.webhook_private == "allow")


def _claim(store: Store) -> list[_Due]:
    """Take the notices that are due; nobody else gets them before this process had time to send them."""
    now = store.clock.now_ms()
    with store.database.session() as session:
        if not has_due(session, now):
            return []
    until = now + 2000 * store.settings.values.webhook_timeout + 1000
    names = [name for name in _Due.__struct_fields__ if name in _delivery.c]
    query = sa.select(*(_delivery.c[name] for name in names), _hook.c.name, _hook.c.url, _hook.c.secret).join(
        _hook, _hook.c.id == _delivery.c.webhook_id
    )
    query = query.where(_delivery.c.due_at <= now).order_by(_delivery.c.due_at, _delivery.c.id).limit(BATCH)
    taken = []
    with store.database.write() as connection:
        for row in connection.execute(query).mappings().all():
            mine = (_delivery.c.id == row["id"], _delivery.c.due_at == row["due_at"])
            if connection.execute(sa.update(_delivery).where(*mine).values(due_at=until)).rowcount:
                taken.append(_Due(**row))
    return taken


def _attempt(store: Store, due: _Due) -> None:
    """Send one notice and write down what became of it."""
    try:
        answer, error = _send(store, due)
        settings = store.settings.values
        outcome = judge(
            answer, error, attempt=due.attempts + 1, retries=settings.webhook_retries, jitter=random.random()  # noqa: S311
        )  # fmt: skip
        _settle(store, due, outcome)
    except Exception:  # a supervision point: the claim runs out and the notice is tried again
        log.exception("webhook.attempt.failed id=%s", due.id)


def _send(store: Store, due: _Due) -> tuple[Answer | None, str]:
    entity, _, action = due.event.partition(".")
    notice = Notice(entity=entity, action=action, timestamp=to_iso(due.created_at), data=due.payload)
    settings = store.settings.values
    try:
        target = Target(
            url=due.url, secret=SecretBox(store.settings.home).reveal(due.secret), rules=rules_of(store),
            timeout_s=float(settings.webhook_timeout),
        )  # fmt: skip
        return send(target, notice, delivery_id=due.id, timestamp=str(store.clock.now_ms() // 1000)), ""
    except (OSError, MainspringError) as error:
        return None, str(error) or type(error).__name__


def _settle(store: Store, due: _Due, outcome: Outcome) -> None:
    mine = _delivery.c.id == due.id
    with store.database.write() as connection:
        if outcome.delay_s is not None:
            due_at = store.clock.now_ms() + int(1000 * outcome.delay_s)
            connection.execute(sa.update(_delivery).where(mine).values(due_at=due_at, attempts=due.attempts + 1))
            return
        connection.execute(sa.delete(_delivery).where(mine))
        if not outcome.is_taken:
            log.error("webhook.given_up name=%s event=%s reason=%s", due.name, due.event, outcome.reason)
            data = {"webhook": due.name, "event": due.event, "attempts": due.attempts + 1, "reason": outcome.reason}
            record_event(connection, store.clock, "webhook.given_up", source="registry", subject=due.name, data=data)
