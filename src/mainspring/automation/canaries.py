"""Bring every endpoint to what its champion alias and its rollout say, and every rollout to its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import reduce

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from mainspring.core import NotFound
from mainspring.core.project import EndpointConfig, MonitorConfig, parse_duration
from mainspring.delivery import (
    Rollout,
    RolloutEvidence,
    active_rollout,
    advance,
    begin_canary,
    deploy,
    latest_deployment,
    list_rollouts,
    save_step,
    start_rollout,
)
from mainspring.lineage import Store
from mainspring.monitoring import frame_labels, join_labels, order_rows, pair_losses, table_frame
from mainspring.registry import ModelVersion, alias_history, get_version, materialise, resolve_alias, set_alias
from mainspring.serving import Variant, has_failures, newest_label, read_labels, read_tables, write_deployment
from mainspring.serving.columnar import record_table

CHAMPION = "champion"
LOOK_EVERY_MS = 60_000


class Rollouts:
    """Moves endpoints and rollouts; remembers only which labels it has seen, to not look at the same twice."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looked: dict[str, tuple[int, tuple[str, int]]] = {}

    def reconcile(self) -> bool:
        """Do what is due for every endpoint; return whether anything changed."""
        changed = [name for name, config in self._store.project.endpoints.items() if self._reconcile(name, config)]
        return bool(changed)

    def _reconcile(self, name: str, config: EndpointConfig) -> bool:
        store = self._store
        with store.database.read() as connection:
            rollout = active_rollout(connection, name)
        moved = False
        if rollout is not None and rollout.state == "CANARY" and self._is_due(rollout):
            moved = look_at_canary(store, rollout)
        return reconcile_endpoint(store, name, config) or moved

    def _is_due(self, rollout: Rollout) -> bool:
        """Say whether there is new evidence: labels, failing answers, or a window gone by without any."""
        now = self._store.clock.now_ms()
        folder = self._store.settings.endpoint_folder(rollout.endpoint)
        labels = newest_label(folder / "labels")
        looked_at, seen = self._looked.get(rollout.id, (rollout.started_at, ("", 0)))
        if now - looked_at < LOOK_EVERY_MS:
            return False
        expired = now - looked_at >= _window(self._store, rollout.endpoint)
        if labels == seen and not expired and not has_failures(folder / "predictions"):
            return False
        self._looked[rollout.id] = (now, labels)
        return True


def adopt_version(store: Store, endpoint: str, version: ModelVersion, *, cause: str | None) -> None:
    """Make a version that passed its gate the champion if there is none, or start its rollout. Safe to repeat.

    A canary that is still under way gives way to the newer version.
    """
    with store.database.read() as connection:
        if _was_tried(connection, endpoint, version):
            return
        running = active_rollout(connection, endpoint)
    if running is not None and running.candidate_version != version.version:
        end_rollout(store, running, f"Version {version.version} passed its gate and takes this canary's place.")
    with store.database.write() as connection:
        champion = resolve_alias(connection, version.name, CHAMPION)
        if champion is None:
            set_alias(
                connection, store.clock, name=version.name, alias=CHAMPION, version=version.version,
                actor=store.actor, reason="The first version that passed the gate.", cause=cause,
            )  # fmt: skip
            return
        start_rollout(
            connection, store.clock, endpoint=endpoint, model=version.name, candidate_version=version.version,
            champion_version=champion.version, reason=version.tags.get("verdict", ""), cause=cause,
        )  # fmt: skip


def _was_tried(connection: sa.Connection, endpoint: str, version: ModelVersion) -> bool:
    """Say whether a version has been rolled out at the endpoint, or been the champion, before."""
    tried = {rollout.candidate_version for rollout in list_rollouts(connection, endpoint=endpoint, limit=10_000)}
    served = {move.to_version for move in alias_history(connection, version.name, alias=CHAMPION)}
    return version.version in tried | served


def look_at_canary(store: Store, rollout: Rollout) -> bool:
    """Gather what is known of a canary, decide, and keep the decision; return whether the rollout ended."""
    step = advance(rollout, gather_evidence(store, rollout), store.project.rollout)
    with store.database.write() as connection:
        event = save_step(connection, store.clock, rollout.id, step)
        if step.action == "promote":
            set_alias(
                connection, store.clock, name=rollout.model, alias=CHAMPION, version=rollout.candidate_version,
                actor=store.actor, reason=step.reason, cause=event,
            )  # fmt: skip
    return step.action != "continue"


def gather_evidence(store: Store, rollout: Rollout) -> RolloutEvidence:
    """Read the canary's records and labels since it started, table by table; of its features, labels' keys only.

    Rows whose label may still be missing are left out: a late flight is labelled later than a punctual one, so the
    labels that are there first are a biased sample.
    """
    folder = store.settings.endpoint_folder(rollout.endpoint)
    now = store.clock.now_ms()
    versions = {"canary": rollout.candidate_version, CHAMPION: rollout.champion_version}
    settled = now - _label_delay(store, rollout.endpoint)
    labels = frame_labels(read_labels(folder / "labels", start_ms=rollout.started_at))
    frames: list[pl.DataFrame] = [table_frame(record_table([]))]
    errors: Counter[str] = Counter()
    for table in read_tables(folder / "predictions", rollout.started_at, now):
        ours = of_versions(table, versions)
        errors.update(count_errors(ours))
        frames.append(table_frame(ours.filter(pc.less(ours.column("received_at"), settled)), labels.key_columns))
    pairs = pair_losses(join_labels(order_rows(frames), labels), "canary", CHAMPION)
    return RolloutEvidence(
        losses=pairs.differences,
        requests=pairs.requests,
        canary_errors=errors["canary"],
        champion_errors=errors[CHAMPION],
        windows=(now - rollout.started_at) // _window(store, rollout.endpoint),
    )


def of_versions(table: pa.Table, versions: Mapping[str, str]) -> pa.Table:
    """Keep the records of the named variants where they are of the named versions."""
    matches = [
        pc.and_(pc.equal(table.column("variant"), variant), pc.equal(table.column("version"), version))
        for variant, version in versions.items()
    ]
    return table.filter(reduce(pc.or_, matches))


def count_errors(table: pa.Table) -> Counter[str]:
    """Count the requests each variant was to answer and failed on; what a client did wrong is not its fault."""
    failed = table.filter(pc.and_(pc.invert(table.column("shadow")), pc.greater_equal(table.column("status"), 500)))
    return Counter(failed.column("variant").to_pylist())


def reconcile_endpoint(store: Store, name: str, config: EndpointConfig) -> bool:
    """Deploy what the champion alias, the rollout and the baseline say; return whether anything changed."""
    with store.database.read() as connection:
        champion = resolve_alias(connection, config.model, CHAMPION)
        if champion is None:
            return False
        rollout = active_rollout(connection, name)
        canary = _find_version(connection, config, rollout.candidate_version) if rollout else None
        baseline = _find_version(connection, config, config.baseline)
        deployed = latest_deployment(connection, name)
    if rollout is not None and (canary is None or champion.version != rollout.champion_version):
        gone = f"Version {rollout.candidate_version} was deleted." if canary is None else ""
        end_rollout(store, rollout, gone or f"@{CHAMPION} was moved to version {champion.version} meanwhile.")
        return True
    percent = store.project.rollout.canary_percent if canary else 0
    wanted = {CHAMPION: (champion, 100 - percent), "canary": (canary, percent), "baseline": (baseline, 0)}
    versions = {
        variant: (version.name, version.version, weight) for variant, (version, weight) in wanted.items() if version
    }
    found = (
        {item.name: (item.model.name, item.model.version, item.weight) for item in deployed.document.variants}
        if deployed
        else {}
    )
    if versions != found:
        _deploy(store, name, champion, canary, baseline, rollout)
    if rollout is not None and rollout.state == "PENDING":
        with store.database.write() as connection:
            begin_canary(connection, rollout.id)
        return True
    return versions != found


def end_rollout(store: Store, rollout: Rollout, reason: str) -> None:
    """End a rollout for a reason that is not its evidence, and keep the evidence there was."""
    step = advance(rollout, gather_evidence(store, rollout), store.project.rollout)
    told = msgspec.structs.replace(step, action="roll_back", reason=f"{reason} {step.reason}")
    with store.database.write() as connection:
        save_step(connection, store.clock, rollout.id, told)


def restore_deployments(store: Store) -> None:
    """Write what a crash or a change by hand has left different: model folders, then the deployment files."""
    for name in store.project.endpoints:
        with store.database.read() as connection:
            kept = latest_deployment(connection, name)
            versions = [_find(connection, item) for item in kept.document.variants] if kept else []
        for version in versions:
            if version is not None:
                materialise(store.blobs, version.digest, store.settings.home / "models")
        if kept is not None:
            write_deployment(store.settings.endpoint_folder(name) / "deployment.json", kept.document)


def _find(connection: sa.Connection, variant: Variant) -> ModelVersion | None:
    try:
        return get_version(connection, variant.model.name, variant.model.version)
    except NotFound:
        return None


def _deploy(
    store: Store,
    name: str,
    champion: ModelVersion,
    canary: ModelVersion | None,
    baseline: ModelVersion | None,
    rollout: Rollout | None,
) -> None:
    deploy(
        store.database,
        store.blobs,
        store.clock,
        endpoint=name,
        endpoint_folder=store.settings.endpoint_folder(name),
        models_folder=store.settings.home / "models",
        champion=champion,
        canary=canary,
        baseline=baseline,
        canary_percent=store.project.rollout.canary_percent,
        actor=store.actor,
        reason=f"canary of version {canary.version}" if canary else f"version {champion.version} is the champion",
        cause=rollout.event if rollout else _champion_event(store, champion),
    )


def _champion_event(store: Store, champion: ModelVersion) -> str | None:
    """Return the event that made a version the champion."""
    with store.database.read() as connection:
        moves = alias_history(connection, champion.name, alias=CHAMPION)
    return next((move.event for move in moves if move.to_version == champion.version), None)


def _find_version(connection: sa.Connection, config: EndpointConfig, version: str) -> ModelVersion | None:
    """Return a version of the endpoint's model; None if none is named, or it is not there (yet, or any more)."""
    if not version:
        return None
    try:
        return get_version(connection, config.model, version)
    except NotFound:
        return None


def _label_delay(store: Store, endpoint: str) -> int:
    return max((parse_duration(m.label_delay) for m in _monitors(store, endpoint)), default=0)


def _window(store: Store, endpoint: str) -> int:
    return min((parse_duration(m.window) for m in _monitors(store, endpoint)), default=7 * 86_400_000)


def _monitors(store: Store, endpoint: str) -> list[MonitorConfig]:
    return [config for config in store.project.monitors.values() if config.endpoint == endpoint]
