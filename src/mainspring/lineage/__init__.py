"""Artifacts, executions, events and contexts: every other room writes here, one graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainspring.core.lazy import names_of

if TYPE_CHECKING:
    from mainspring.lineage.events import Event, get_event, list_events, record_event, trace_cause
    from mainspring.lineage.graph import (
        FINISHED,
        Artifact,
        Edge,
        EventKind,
        Execution,
        add_edge,
        edges_of,
        end_execution,
        executions_in,
        executions_of,
        find_artifacts,
        get_artifact,
        get_execution,
        put_artifact,
        put_context,
        start_execution,
    )
    from mainspring.lineage.store import Store, open_store

__all__ = [
    "FINISHED",
    "Artifact",
    "Edge",
    "Event",
    "EventKind",
    "Execution",
    "Store",
    "add_edge",
    "edges_of",
    "end_execution",
    "executions_in",
    "executions_of",
    "find_artifacts",
    "get_artifact",
    "get_event",
    "get_execution",
    "list_events",
    "open_store",
    "put_artifact",
    "put_context",
    "record_event",
    "start_execution",
    "trace_cause",
]

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__, ("store",))
