"""From an id or name that somebody pasted to the page of the thing."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import msgspec
import sqlalchemy as sa

from mainspring.console.views.head import Head, head_of
from mainspring.console.views.links import to
from mainspring.console.views.predictions import find_prediction
from mainspring.core import NotFound
from mainspring.lineage import Store, get_event
from mainspring.pipelines import get_run
from mainspring.registry import get_model
from mainspring.tracking import get_run as get_tracking_run

_REQUEST = re.compile(r"[A-Za-z0-9._-]{1,64}(:\d{1,9})?")
"""What the id of a request or of one of its rows looks like; nothing else is looked for in the logs."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page that has the id or name."""

    kind: str
    name: str
    href: str


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, and the pages that have it."""

    head: Head
    wanted: str
    found: list[Found]


def show_search(store: Store, wanted: str, found: list[Found]) -> Search:
    """Show the pages that were found."""
    return Search(head=head_of(store.clock, f"Find {wanted}", ""), wanted=wanted, found=found)


def find_pages(store: Store, wanted: str) -> list[Found]:
    """Return the pages of everything with this id or name."""
    if not wanted:
        return []
    named = {
        "endpoint": wanted in store.project.endpoints,
        "monitor": wanted in store.project.monitors,
        "model": _is_there(store, get_model, wanted),
        "run": _is_there(store, get_run, wanted),
    }
    found = [Found(kind=kind, name=wanted, href=to(f"{kind}s", wanted)) for kind, there in named.items() if there]
    with store.database.read() as connection:
        if get_event(connection, wanted):
            found.append(Found(kind="event", name=wanted, href=f"/events?cause={quote(wanted)}"))
    if _is_there(store, get_tracking_run, wanted):
        found.append(Found(kind="tracking run", name=wanted, href=to("tracking", wanted)))
    if not found and _REQUEST.fullmatch(wanted) and find_prediction(store, wanted.partition(":")[0]):
        found.append(Found(kind="prediction", name=wanted, href=to("predictions", wanted)))
    return found


def _is_there(store: Store, get: Callable[[sa.Connection, str], object], id: str) -> bool:
    try:
        with store.database.read() as connection:
            get(connection, id)
    except NotFound:
        return False
    return True
