"""Where things live in the console."""

from __future__ import annotations

from urllib.parse import quote

from mainspring.lineage import Event

_PAGES = {
    "pipeline": "runs",
    "gate": "models",
    "model": "models",
    "rollout": "endpoints",
    "deployment": "endpoints",
    "monitor": "monitors",
}
"""Which page shows the subject of an event, by the first word of its type."""


def to(*parts: str) -> str:
    """Return the address of a page from its parts, each of them quoted.

    >>> to("models", "a b")
    '/models/a%20b'
    """
    return "/" + "/".join(quote(part, safe="@:") for part in parts)


def link_of_event(event: Event) -> str:
    """Return the address of what an event is about, or nothing if it has no page."""
    noun, subject = event.type.partition(".")[0], event.subject
    if noun == "task":
        return f"{to('runs', str(event.data.get('run_id', '')))}?task={quote(str(event.data.get('task', '')), safe='')}"
    if noun == "trigger":
        return "/runs"
    parts = subject.split("/") if noun == "model" else [subject]
    return to(_PAGES[noun], *parts) if noun in _PAGES else ""
