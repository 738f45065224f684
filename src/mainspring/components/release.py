"""From a trained model to one that answers: the gate on two reports, the registered version, its deployment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mainspring.automation.canaries import adopt_version
from mainspring.components.artifacts import ArtifactFile
from mainspring.components.estimators import Task
from mainspring.components.evaluation import Report, read_report, values_of
from mainspring.components.verdicts import record_verdict
from mainspring.core import InvalidInput, NotFound
from mainspring.delivery import (
    Evaluation,
    GateCheck,
    GateVerdict,
    SliceEvaluation,
    active_rollout,
    deploy,
    judge_gate,
)
from mainspring.pipelines import current_run_id, task_store
from mainspring.registry import PIPELINE_RUN_TAG, resolve, resolve_alias

if TYPE_CHECKING:
    from mainspring.lineage import Store
    from mainspring.registry import ModelVersion

CHAMPION = "champion"
HOW = ("alias", "rollout", "endpoint")
_LOSSES: dict[Task, str] = {"binary": "log loss", "multiclass": "log loss", "regression": "squared error"}


def gate_reports(
    candidate: ArtifactFile,
    *,
    champion: ArtifactFile | None = None,
    verdict: ArtifactFile,
    model: str,
    min_gain: float = 0.0,
    max_slice_loss: float = 0.02,
) -> bool:
    """Judge the report of a candidate against the champion's on the same rows; write the verdict, say if it passed."""
    ours = read_report(candidate)
    if ours is None:
        raise NotFound("There is no evaluation of the candidate.", hint="Evaluate the model first.")
    theirs = read_report(champion) if champion is not None else None
    judged = judge_reports(ours, theirs, min_gain=min_gain, max_slice_loss=max_slice_loss)
    Path(verdict.path).write_bytes(msgspec.json.encode(judged))
    verdict.metadata.update(passed=judged.passed, reason=judged.reason)
    record_verdict(judged, model=model, candidate_loss=ours.loss, champion_loss=theirs.loss if theirs else None)
    return judged.passed


def judge_reports(
    candidate: Report, champion: Report | None, *, min_gain: float = 0.0, max_slice_loss: float = 0.02
) -> GateVerdict:
    """Judge two reports by the rules of `mainspring.delivery.judge_gate`, on the losses of the task; pure."""
    if champion is None and candidate.task != "binary":
        return _beats_constant(candidate, min_gain)
    if champion is not None and (champion.task, champion.target) != (candidate.task, candidate.target):
        raise InvalidInput(
            f"The champion predicts {champion.target!r} ({champion.task}), "
            f"the candidate {candidate.target!r} ({candidate.task}).",
            hint="Compare models of one target.",
        )
    return judge_gate(
        _as_evaluation(candidate),
        _as_evaluation(champion) if champion is not None else None,
        min_gain=min_gain,
        max_slice_loss=max_slice_loss,
    )


def register_trained(
    name: str, *, run_id: str, verdict: ArtifactFile, evaluation: ArtifactFile, registered: ArtifactFile
) -> str:
    """Register the model of an MLflow run with what monitors need to judge it later; return the version.

    Done again by the same pipeline run, after a kill, it is the same version.
    """
    import mlflow

    client = mlflow.MlflowClient()
    run, report = client.get_run(run_id), read_report(evaluation)
    if not run.outputs.model_outputs:
        raise NotFound(f"Run {run_id} has logged no model.", hint="Train with train_model.")
    tags = {PIPELINE_RUN_TAG: current_run_id(), "verdict": _reason(verdict)}
    if "snapshot" in run.data.tags:
        tags["snapshot"] = run.data.tags["snapshot"]
    if report is not None:
        tags[f"holdout_{'log_loss' if report.task != 'regression' else 'loss'}"] = repr(report.loss)
        tags |= {f"test_{measure}": repr(value) for measure, value in values_of(report).items()}
    try:
        client.create_registered_model(name)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model_id = run.outputs.model_outputs[0].model_id
    known = [found for found in client.search_model_versions(f"name='{name}'") if found.run_id == run_id]
    version = known[0] if known else client.create_model_version(
        name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id
    )  # fmt: skip
    registered.metadata.update(registered=f"models:/{name}/{version.version}", run_id=run_id)
    return str(version.version)


def deploy_version(name: str, version: str, *, how: str = "alias", alias: str = CHAMPION, endpoint: str = "") -> str:
    """Bring a registered version in front of clients; return what was done.

    ``alias`` points the alias to it through MLflow's API, here and elsewhere. ``rollout`` starts a canary at an
    endpoint of this project, which the control loop widens or takes back; the first version of all becomes champion at
    once. ``endpoint`` writes the endpoint's deployment: all requests go to this version.
    """
    if how not in HOW:
        raise InvalidInput(f"{how[:50]!r} is no way to deploy.", hint=f"Use {', '.join(HOW)}.")
    if how == "alias":
        import mlflow

        mlflow.MlflowClient().set_registered_model_alias(name, alias, version)
        return f"{name}@{alias} is version {version}"
    if not endpoint:
        raise InvalidInput(f"To deploy by {how} needs an endpoint.", hint="Pass endpoint=NAME.")
    with task_store() as store:
        with store.database.read() as connection:
            found = resolve(connection, f"models:/{name}/{version}")
        return (_roll_out if how == "rollout" else _put)(store, found, endpoint)


def _roll_out(store: Store, version: ModelVersion, endpoint: str) -> str:
    """Let the version be adopted as the control loop adopts one it has trained; say how it stands afterwards."""
    if endpoint not in store.project.endpoints:
        known = ", ".join(store.project.endpoints) or "none"
        raise NotFound(f"The project has no endpoint {endpoint!r}.", hint=f"Its endpoints: {known}.")
    adopt_version(store, endpoint, version, cause=None)
    with store.database.read() as connection:
        champion = resolve_alias(connection, version.name, CHAMPION)
        running = active_rollout(connection, endpoint)
    if champion is not None and champion.version == version.version:
        return f"{version.name}@{CHAMPION} is version {version.version}"
    if running is not None and running.candidate_version == version.version:
        return f"{endpoint} rolls out version {version.version} against {running.champion_version}"
    return f"{endpoint} has tried version {version.version} before; it is not rolled out again"


def _put(store: Store, version: ModelVersion, endpoint: str) -> str:
    kept = deploy(
        store.database,
        store.blobs,
        store.clock,
        endpoint=endpoint,
        endpoint_folder=store.settings.endpoint_folder(endpoint),
        models_folder=store.settings.home / "models",
        champion=version,
        actor=store.actor,
        reason=version.tags.get("verdict", "") or f"Pipeline run {current_run_id()}",
    )
    return f"{endpoint} answers with version {version.version} (revision {kept.revision})"


def _as_evaluation(report: Report) -> Evaluation:
    return Evaluation(
        rows=report.rows,
        log_loss=report.loss,
        loss_name=_LOSSES[report.task],
        auc=report.measures["auc"].value if "auc" in report.measures else None,
        base_rate=report.base_rate,
        losses=report.losses,
        slices=[SliceEvaluation(name=part.name, rows=part.rows, log_loss=part.loss) for part in report.slices],
    )


def _beats_constant(candidate: Report, min_gain: float) -> GateVerdict:
    gain = candidate.constant_loss - candidate.loss
    detail = (
        f"{_LOSSES[candidate.task]} {candidate.loss:.4f} against {candidate.constant_loss:.4f}"
        f" of the best constant prediction on {candidate.rows:,} rows"
    )
    check = GateCheck(
        name="better than a constant", passed=gain > min_gain, value=gain, threshold=min_gain, detail=detail
    )
    said = f"Passed: {check.name}, {detail}." if check.passed else f"Refused: {check.name} failed, {detail}."
    return GateVerdict(passed=check.passed, reason=said, checks=[check])


def _reason(verdict: ArtifactFile) -> str:
    return msgspec.json.decode(Path(verdict.path).read_bytes(), type=GateVerdict).reason
