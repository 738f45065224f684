"""A small store with everything the pages show: some weeks of a loop, written through the rooms' own functions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mainspring.automation import attach_run, claim_next, enqueue, finish
from mainspring.blobs import LocalBlobs
from mainspring.core import FixedClock
from mainspring.core.project import EndpointConfig, MonitorConfig, PipelineConfig, Project
from mainspring.core.settings import resolve_settings
from mainspring.datasets import profile_frame
from mainspring.db import open_database
from mainspring.delivery import RolloutEvidence, advance, begin_canary, save_deployment, save_step, start_rollout
from mainspring.lineage import Store, record_event
from mainspring.monitoring import Window, measure_window, read_signals, save_report
from mainspring.pipelines import ArtifactValue, PipelineRun, TaskRun, Values
from mainspring.pipelines.records import insert_run
from mainspring.registry import ModelVersion, create_model, create_version, list_models, set_alias
from mainspring.serving import Deployment, LabelRecord, ModelReference, PredictionRecord, Variant
from mainspring.serving.log import SegmentLog
from mainspring.tracking import (
    Metric,
    Param,
    create_experiment,
    create_run,
    ensure_default_experiment,
    log_batch,
    path_of_uri,
    put_file,
    update_run,
)

WEEK = 7 * 86_400_000
HOUR = 3_600_000
MODEL = "flights-delay"
HOSTILE = '<img src=x onerror="alert(1)">'
NUMERIC = ("month", "sched_dep_minute", "distance", "temp", "humid", "wind_speed", "precip", "pressure", "visib")
REQUESTS, ROWS = 20, 25
STEPS = (("ingest", ()), ("validate", ("ingest",)), ("train", ("ingest", "validate")),
         ("evaluate", ("ingest", "train")), ("evaluate-champion", ("ingest", "validate")),
         ("gate", ("evaluate", "evaluate-champion")), ("condition/register", ("gate", "train")))  # fmt: skip


def make_store(folder: Path) -> Store:
    """Open an empty store of a project with one endpoint and one monitor."""
    settings = resolve_settings(folder, flags={"actor": "ada"})
    settings.home.mkdir(parents=True)
    project = Project(
        project="flights",
        endpoints={MODEL: EndpointConfig(model=MODEL, baseline="1")},
        monitors={MODEL: MonitorConfig(endpoint=MODEL)},
        pipelines={"train": PipelineConfig(file="pipeline.py", function="train_flights")},
    )
    return Store(
        settings=settings,
        project=project,
        database=open_database(settings.database_url),
        blobs=LocalBlobs(settings.blobs_path),
        clock=FixedClock(),
        actor="ada",
    )


def fill_store(store: Store, weeks: int) -> None:
    """Let ``weeks`` weeks of the loop have happened; every fourth retrains, every eighth is refused."""
    assert isinstance(store.clock, FixedClock)
    register(store)
    for week in range(weeks):
        store.clock.advance(WEEK)
        with store.database.write() as connection:
            data = {"snapshot": f"sha256:{week:064x}", "rows": 6500 * (week + 1), "new_rows": 6500}
            record_event(
                connection, store.clock, "dataset.snapshot.created", source="datasets", subject="flights", data=data
            )
        store.clock.advance(12 * HOUR)
        measured = _measure(store, week)
        if week % 4 == 3:
            _retrain(store, week, measured)
    _log_prediction(store)
    _track(store)


def _measure(store: Store, week: int) -> str:
    """Measure a week of made-up flights: the champion knows what makes them late, the baseline less and less."""
    end = store.clock.now_ms() - 12 * HOUR
    window = Window(start=end - WEEK, end=end)
    random = np.random.default_rng(week)
    records, labels = [], []
    for request in range(REQUESTS):
        at = window.start + request * (WEEK // REQUESTS)
        features = _features(random, week)
        risk = 1 / (1 + np.exp(-random.normal(-1.2, 1.0, ROWS)))
        blur = random.normal(0, 0.3 + 0.05 * week, ROWS)
        for variant, version, scores in (
            ("champion", str(_champion(week)), risk),
            ("baseline", "1", np.clip(risk + 0.3 * blur, 0.01, 0.99)),
        ):
            records.append(_record(f"w{week}-{request}", at, variant, version, features, scores.tolist()))
        late = random.random(ROWS) < risk
        labels += [
            LabelRecord(id=f"w{week}-{request}:{row}", label=float(late[row]), time=at + HOUR, received_at=at + HOUR)
            for row in range(ROWS - 1)
        ]
    report = measure_window(window, records, labels, reference=profile_frame(_training_data()))
    with store.database.write() as connection:
        signals = read_signals(report)
        kept = save_report(connection, store.clock, monitor=MODEL, endpoint=MODEL, report=report, signals=signals)
    return kept.event


def _features(random: np.random.Generator, week: int) -> dict[str, list[object]]:
    season = math.sin(week / 8)
    numbers = {name: random.normal(season * index / 8, 1.0, ROWS) for index, name in enumerate(NUMERIC)}
    return {
        "carrier": random.choice(["UA", "AA", "DL"], ROWS).tolist(),
        **{name: values.tolist() for name, values in numbers.items()},
    }


def _training_data() -> pl.DataFrame:
    random = np.random.default_rng(99)
    return pl.concat([pl.DataFrame(_features(random, 0)) for _ in range(REQUESTS)])


def _record(
    id: str, at: int, variant: str, version: str, inputs: dict[str, list[object]], outputs: list[object]
) -> PredictionRecord:
    return PredictionRecord(
        id=id, received_at=at, latency_ms=1.5, endpoint=MODEL, revision=1, variant=variant,
        shadow=variant != "champion", model=MODEL, version=version, digest="sha256:" + "2" * 64, protocol="mlflow",
        status=200, rows=len(outputs), inputs=inputs, outputs=outputs,
    )  # fmt: skip


def _champion(week: int) -> int:
    """Every eighth week, from the fourth on, brings a new version."""
    return 1 + (week + 4) // 8


def _retrain(store: Store, week: int, cause: str) -> None:
    refused = week % 8 == 7
    with store.database.write() as connection:
        trigger = enqueue(
            connection, store.clock, kind="schedule", pipeline="train", policy=MODEL, cause=cause,
            reason="4 windows of 4 since the last training.",
        )  # fmt: skip
        assert trigger is not None
        claim_next(connection, store.clock)
    run = _run(store, week, trigger.event, refused)
    with store.database.write() as connection:
        gate = record_event(
            connection, store.clock, "gate.refused" if refused else "gate.passed", source="pipelines", subject=MODEL,
            cause=trigger.event, data={"reason": f"log loss 0.471 against 0.47{'0' if refused else '9'}"},
        )  # fmt: skip
        attach_run(connection, trigger.id, run)
        finish(connection, store.clock, trigger.id, "DONE", run_id=run)
    if not refused:
        version = register(store, pipeline_run=run, cause=gate)
        _roll_out(store, _champion(week), version, gate)


def register(store: Store, *, pipeline_run: str = "", cause: str | None = None) -> ModelVersion:
    """Register a version from the artifacts of a new tracking run; the first one becomes the champion."""
    with store.database.write() as connection:
        first = not list_models(connection)
        if first:
            create_model(connection, store.clock, MODEL)
            ensure_default_experiment(connection, store.clock)
        run = create_run(connection, store.clock, "0", user="ada", tags={"mainspring.pipeline_run_id": pipeline_run})
        log_batch(connection, run.id, params=[Param("trees", "150")])
        for name, data in (("MLmodel", b"flavors: {}\n"), ("booster.txt", run.id.encode())):
            path = f"{path_of_uri(run.artifact_uri)}/model/{name}"
            put_file(connection, store.clock, path, digest=store.blobs.put(data), size=len(data))
        tags = {"holdout_log_loss": "0.4712345", "verdict": "log loss 0.471 against 0.479"}
        version = create_version(
            connection, store.blobs, store.clock, name=MODEL, source=f"runs:/{run.id}/model", run_id=run.id, tags=tags,
            actor="ada", cause=cause,
        )  # fmt: skip
        if first:
            set_alias(connection, store.clock, name=MODEL, alias="champion", version="1", actor="ada", reason=HOSTILE)
    return version


def _run(store: Store, week: int, cause: str, refused: bool) -> str:
    run_id = f"01RUN{week:021d}"
    tasks, at = [], store.clock.now_ms()
    for position, (address, upstream) in enumerate(STEPS):
        state = "SKIPPED" if refused and "register" in address else "CACHED" if address == "ingest" else "COMPLETE"
        artifact = ArtifactValue(
            id=f"a{position}", name=f"{address}-out", type="system.Dataset", schema_version="0.0.1", kind="file",
            digest=f"sha256:{position:064x}", uri="blob:x", metadata={},
        )  # fmt: skip
        tasks.append(TaskRun(
            run_id=run_id, address=address, position=position, name=address.rpartition("/")[2], state=state, attempt=1,
            failures=0, execution_id=None, cached_from="x" if state == "CACHED" else None,
            cache_key=None, component_digest="sha256:" + "0" * 64, error="", started_at=at + position * 900,
            ended_at=at + position * 900 + 800, upstream=upstream, inputs=Values(parameters={"trees": 150}),
            outputs=Values(artifacts={"out": artifact} if state != "SKIPPED" else {}),
        ))  # fmt: skip
    run = PipelineRun(
        id=run_id, pipeline="train", name=HOSTILE, state="COMPLETE", actor="ada", cause=cause,
        ir_digest="sha256:" + "1" * 64, use_cache=True, execution_id=None, started_event=None, error="", created_at=at,
        started_at=at, ended_at=at + 6300, parameters={"snapshot": "dataset://flights/latest", "note": HOSTILE},
        code={"commit": "0123456789abcdef"}, outputs=Values(), warnings=(),
    )  # fmt: skip
    with store.database.write() as connection:
        insert_run(connection, run, tasks)
        for task in tasks:
            record_event(connection, store.clock, "task.finished", source="pipelines/train", cause=cause,
                         subject=f"{run_id}/{task.address}",
                         data={"run_id": run_id, "task": task.address, "state": task.state})  # fmt: skip
    log = store.settings.home / "work" / run_id / "train" / "attempt-1" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text(f"[1] training {HOSTILE}\n[150] valid log loss 0.4711\n")
    store.clock.advance(6300)
    return run_id


def _roll_out(store: Store, before: int, version: ModelVersion, cause: str) -> None:
    with store.database.write() as connection:
        rollout = start_rollout(
            connection, store.clock, endpoint=MODEL, model=MODEL, cause=cause, candidate_version=version.version,
            champion_version=str(before), reason="passed the gate",
        )  # fmt: skip
        begin_canary(connection, rollout.id)
    store.clock.advance(24 * HOUR)
    losses = [-0.02 + 0.1 * math.sin(n) for n in range(3000)]
    step = advance(rollout, RolloutEvidence(losses=losses), store.project.rollout)
    with store.database.write() as connection:
        event = save_step(connection, store.clock, rollout.id, step)
        set_alias(
            connection, store.clock, name=MODEL, alias="champion", version=version.version, actor="delivery",
            reason=step.reason, cause=event,
        )  # fmt: skip
        variants = [_variant("champion", 80, str(before)), _variant("canary", 20, version.version)]
        document = Deployment(endpoint=MODEL, revision=before, variants=[*variants, _variant("baseline", 0, "1")])
        save_deployment(connection, store.clock, document, actor="ada", reason=step.reason, cause=event)


def _variant(name: str, weight: int, version: str) -> Variant:
    model = ModelReference(name=MODEL, version=version, digest=f"sha256:{int(version):064x}", folder="/nowhere")
    return Variant(name=name, weight=weight, mirror=True, model=model)


def _track(store: Store) -> None:
    with store.database.write() as connection:
        experiment = create_experiment(connection, store.clock, HOSTILE)
        for trees in (100, 150):
            run = create_run(connection, store.clock, experiment, name=f"trees-{trees}", user="ada")
            now = store.clock.now_ms()
            losses = [Metric(key="log_loss", value=0.7 - 0.2 * (1 - math.exp(-step / 30)), timestamp=now, step=step)
                      for step in range(trees)]  # fmt: skip
            params = [Param("trees", str(trees)), Param("leaves", "31"), Param("note", HOSTILE)]
            log_batch(
                connection, run.id, metrics=[*losses, Metric(key="auc", value=0.71, timestamp=now)], params=params
            )
            update_run(connection, run.id, status="FINISHED", end_time=now + 4200)


def _log_prediction(store: Store) -> None:
    folder = store.settings.endpoint_folder(MODEL) / "predictions"
    inputs: dict[str, list[object]] = {"carrier": ["UA", HOSTILE], "month": [1, None]}
    records = [
        _record("req-1", store.clock.now_ms(), variant, version, inputs, [0.25, 0.75])
        for variant, version in (("champion", "2"), ("baseline", "1"))
    ]
    SegmentLog(folder, store.clock).append(records)


@pytest.fixture
def empty_store(tmp_path: Path) -> Store:
    """A store in which nothing has happened."""
    return make_store(tmp_path / "empty")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with nine weeks of the loop."""
    made = make_store(tmp_path_factory.mktemp("console"))
    fill_store(made, 9)
    return made
