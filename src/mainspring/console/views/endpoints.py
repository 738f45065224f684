"""Endpoints: what answers, with which share, and what a rollout has shown so far."""

from __future__ import annotations

import math

import msgspec

from mainspring.console.charts import Chart
from mainspring.console.views.figures import variant_chart
from mainspring.console.views.head import Head, head_of
from mainspring.console.views.links import to
from mainspring.core import NotFound
from mainspring.core.project import EndpointConfig
from mainspring.delivery import (
    DeploymentRevision,
    Rollout,
    RolloutStatistics,
    latest_deployment,
    list_deployments,
    list_rollouts,
)
from mainspring.lineage import Store
from mainspring.monitoring import VariantPerformance, list_windows


class EndpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, what is deployed there, and its rollout if one is under way."""

    name: str
    model: str
    port: int | None
    deployment: DeploymentRevision | None
    rollout: Rollout | None


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """All endpoints of the project."""

    head: Head
    rows: list[EndpointRow]


class Test(msgspec.Struct, frozen=True, kw_only=True):
    """One sequential test: the strongest evidence so far against what counts as proof (both as e-values)."""

    question: str
    e: float
    threshold: float
    share: float
    """Log evidence as a share of the log threshold, 0 to 1."""


class RolloutRow(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout and its tests."""

    rollout: Rollout
    statistics: RolloutStatistics | None
    tests: list[Test]


class EndpointPage(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint; ``variants`` are the performances of its newest measured window."""

    head: Head
    name: str
    config: EndpointConfig | None
    deployment: DeploymentRevision | None
    variants: list[VariantPerformance]
    window_start: int | None
    window_end: int | None
    performance: Chart
    rollouts: list[RolloutRow]
    history: list[DeploymentRevision]


def show_endpoints(store: Store) -> Endpoints:
    """Show every endpoint with its deployment."""
    rows = []
    with store.database.read() as connection:
        for name, config in store.project.endpoints.items():
            newest = next(iter(list_rollouts(connection, endpoint=name, limit=1)), None)
            rows.append(
                EndpointRow(
                    name=name,
                    model=config.model,
                    port=config.port,
                    deployment=latest_deployment(connection, name),
                    rollout=newest,
                )
            )
    return Endpoints(head=_head(store, "Endpoints", "/endpoints", "latest_deployment(connection, NAME)"), rows=rows)


def show_endpoint(store: Store, name: str) -> EndpointPage:
    """Show one endpoint; raise `NotFound` if neither the project nor the store knows it."""
    config = store.project.endpoints.get(name)
    monitors = [monitor for monitor, found in store.project.monitors.items() if found.endpoint == name]
    with store.database.read() as connection:
        history = list_deployments(connection, name, limit=50)
        rollouts = list_rollouts(connection, endpoint=name, limit=50)
        windows = list_windows(connection, monitors[0], limit=60) if monitors else []
    if config is None and not history:
        raise NotFound(f"There is no endpoint {name}.", hint="Endpoints are declared in mainspring.yaml.")
    last = windows[-1] if windows else None
    return EndpointPage(
        head=_head(store, f"Endpoint {name}", to("endpoints", name), f"latest_deployment(connection, {name!r})"),
        name=name,
        config=config,
        deployment=history[0] if history else None,
        variants=last.report.variants if last else [],
        window_start=last.start_ms if last else None,
        window_end=last.end_ms if last else None,
        performance=variant_chart(windows),
        rollouts=[rollout_row(rollout) for rollout in rollouts],
        history=history,
    )


def rollout_row(rollout: Rollout) -> RolloutRow:
    """Add to a rollout what its tests say."""
    if not rollout.statistics:
        return RolloutRow(rollout=rollout, statistics=None, tests=[])
    found = msgspec.convert(rollout.statistics, RolloutStatistics)
    tests = [
        _test("better?", found.better.peak_log_e, found.log_threshold),
        _test("worse?", found.worse.peak_log_e, found.log_threshold),
        _test("fails more?", found.errors_log_e, found.log_threshold),
    ]
    return RolloutRow(rollout=rollout, statistics=found, tests=tests)


def _test(question: str, log_e: float, log_threshold: float) -> Test:
    return Test(
        question=question,
        e=math.exp(min(log_e, 700.0)),
        threshold=math.exp(log_threshold),
        share=min(1.0, max(0.0, log_e / log_threshold)),
    )


def _head(store: Store, title: str, path: str, call: str) -> Head:
    return head_of(
        store.clock,
        title,
        "endpoints",
        command=f"curl -s {store.settings.server_url}{path}.json",
        python=f"with store.database.read() as connection: {call}",
        live=True,
    )
