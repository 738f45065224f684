"""The loop at a glance: every stage, what is in production, and what it gained."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from mainspring.console.charts import Chart
from mainspring.console.views.events import KINDS, Row, row_of, summarise
from mainspring.console.views.figures import MARKED, loss_chart
from mainspring.console.views.head import Head, head_of
from mainspring.console.views.links import link_of_event
from mainspring.console.views.models import Production, production_of
from mainspring.console.views.monitors import WindowRow, window_row
from mainspring.delivery import DeploymentRevision, Rollout, active_rollout, latest_deployment
from mainspring.lineage import Event, Store, list_events
from mainspring.monitoring import list_windows, signals_of

LATEST = 15
TOLD = tuple(f"{kind}." for kind in KINDS if kind != "task")
"""Events of single tasks are on the page of their run."""
STAGES = (
    ("data", "dataset.", "", "/events?type=dataset"),
    ("validate", "task.finished", "validate", "/runs"),
    ("train", "task.finished", "train", "/runs"),
    ("gate", "gate.", "", "/events?type=gate"),
    ("register", "model.version.registered", "", "/models"),
    ("roll out", "rollout.", "", "/endpoints"),
    ("serve", "deployment.", "", "/endpoints"),
    ("monitor", "monitor.", "", "/monitors"),
    ("trigger", "trigger.", "", "/events?type=trigger"),
)
"""Name, prefix of its events, task it is about, and page of each stage of the loop."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A stage of the loop and the last thing that happened there."""

    name: str
    href: str
    event: Event | None
    summary: str


class EndpointNow(msgspec.Struct, frozen=True, kw_only=True):
    """What is in production at an endpoint, who answers, and the newest window."""

    name: str
    production: Production | None
    deployment: DeploymentRevision | None
    rollout: Rollout | None
    monitor: str
    window: WindowRow | None
    performance: Chart


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The whole loop."""

    head: Head
    project: str
    stages: list[Stage]
    endpoints: list[EndpointNow]
    latest: list[Row]


def show_overview(store: Store) -> Overview:
    """Show every stage's last event, what is in production, and the latest events."""
    with store.database.read() as connection:
        latest = list_events(connection, types=TOLD, newest_first=True, limit=LATEST)
        stages = [_stage(connection, *stage) for stage in STAGES]
        marks = list_events(connection, types=tuple(MARKED), limit=1000)
        endpoints = [_endpoint(connection, store, name, marks) for name in store.project.endpoints]
    head = head_of(
        store.clock,
        store.project.project,
        "overview",
        command="mainspring events",
        python="with store.database.read() as connection: list_events(connection, newest_first=True)",
        live=True,
    )
    return Overview(
        head=head,
        project=store.project.project,
        stages=stages,
        endpoints=endpoints,
        latest=[row_of(event) for event in latest],
    )


def _stage(connection: sa.Connection, name: str, prefix: str, task: str, href: str) -> Stage:
    found = list_events(connection, types=(prefix,), newest_first=True, limit=200 if task else 1)
    event = next((event for event in found if _is_about(event, task)), None)
    return Stage(
        name=name,
        href=(link_of_event(event) if event else "") or href,
        event=event,
        summary=summarise(event) if event else "",
    )


def _is_about(event: Event, task: str) -> bool:
    return not task or str(event.data.get("task", "")).rpartition("/")[2] == task


def _endpoint(connection: sa.Connection, store: Store, name: str, marks: Sequence[Event]) -> EndpointNow:
    config = store.project.endpoints[name]
    monitor = next((found for found, watched in store.project.monitors.items() if watched.endpoint == name), "")
    windows = list_windows(connection, monitor) if monitor else []
    last = window_row(windows[-1], signals_of(connection, windows[-1].id)) if windows else None
    return EndpointNow(
        name=name,
        production=production_of(connection, config.model),
        deployment=latest_deployment(connection, name),
        rollout=active_rollout(connection, name),
        monitor=monitor,
        window=last,
        performance=loss_chart(windows, marks),
    )
