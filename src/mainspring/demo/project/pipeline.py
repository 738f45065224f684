"""Will this flight arrive more than 15 minutes late? An ordinary KFP pipeline, from snapshot to registered version."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

CATEGORICAL = ["carrier", "origin", "dest", "plane_engine"]
NUMERIC = [
    "month", "day_of_week", "sched_dep_minute", "sched_arr_minute", "distance", "plane_age", "plane_seats",
    "temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib", "recent_late_share",
]  # fmt: skip


@dsl.component
def ingest(snapshot: str, data: Output[Dataset]):
    from mainspring.components import use_snapshot

    use_snapshot(snapshot, data)


@dsl.component
def validate(data: Input[Dataset], profile: Output[Artifact], schema: Output[Artifact], anomalies: Output[Artifact]):
    from mainspring.components import validate_dataset

    validate_dataset(
        data, profile=profile, schema=schema, anomalies=anomalies, label="late",
        unbounded=["flight_id", "scheduled_departure", "arrival_known_at"],
    )  # fmt: skip


@dsl.component
def train(
    data: Input[Dataset], profile: Input[Artifact], schema: Input[Artifact], numeric: list, categorical: list,
    holdout_days: float, trees: int, leaves: int, model: Output[Model],
) -> str:  # fmt: skip
    from mainspring.components import train_lightgbm

    return train_lightgbm(
        data, profile=profile, schema=schema, experiment="flights-delay", target="late", numeric=numeric,
        categorical=categorical, time_column="scheduled_departure", holdout_days=holdout_days, model=model,
        settings={"n_estimators": trees, "num_leaves": leaves, "learning_rate": 0.045, "objective": "binary"},
    )  # fmt: skip


@dsl.component
def evaluate(
    data: Input[Dataset], model: Input[Model], run_id: str, holdout_days: float, evaluation: Output[Artifact],
    metrics: Output[Metrics],
):  # fmt: skip
    from mainspring.components import evaluate_model

    evaluate_model(
        data, model=model, run_id=run_id, target="late", slices=["origin", "carrier"],
        time_column="scheduled_departure", holdout_days=holdout_days, evaluation=evaluation, metrics=metrics,
    )  # fmt: skip


@dsl.component
def evaluate_champion(data: Input[Dataset], champion: str, holdout_days: float, evaluation: Output[Artifact]):
    from mainspring.components import evaluate_version

    evaluate_version(
        data, version=champion, target="late", slices=["origin", "carrier"], time_column="scheduled_departure",
        holdout_days=holdout_days, evaluation=evaluation,
    )  # fmt: skip


@dsl.component
def gate(candidate: Input[Artifact], champion: Input[Artifact], min_gain: float, verdict: Output[Artifact]) -> bool:
    from mainspring.components import compare_on_newest_window

    return compare_on_newest_window(candidate, champion, model="flights-delay", min_gain=min_gain, verdict=verdict)


@dsl.component
def register(run_id: str, verdict: Input[Artifact], model: Input[Model]) -> str:
    from mainspring.components import register_model

    return register_model("flights-delay", run_id=run_id, verdict=verdict, model=model)


@dsl.pipeline(name="train-flights", description="Snapshot to registered model version, through a gate.")
def train_flights(
    snapshot: str, champion: str = "", holdout_days: float = 7.0, trees: int = 100, leaves: int = 31,
    min_gain: float = 0.0,
):  # fmt: skip
    data = ingest(snapshot=snapshot)
    checked = validate(data=data.outputs["data"])
    trained = train(
        data=data.outputs["data"], profile=checked.outputs["profile"], schema=checked.outputs["schema"],
        numeric=NUMERIC, categorical=CATEGORICAL, holdout_days=holdout_days, trees=trees, leaves=leaves,
    )  # fmt: skip
    of_candidate = evaluate(
        data=data.outputs["data"], model=trained.outputs["model"], run_id=trained.outputs["Output"],
        holdout_days=holdout_days,
    )  # fmt: skip
    of_champion = evaluate_champion(
        data=data.outputs["data"], champion=champion, holdout_days=holdout_days
    ).after(checked)  # fmt: skip
    judged = gate(
        candidate=of_candidate.outputs["evaluation"], champion=of_champion.outputs["evaluation"], min_gain=min_gain
    )
    judged.set_caching_options(False)  # a gate looks anew, and says so in the journal
    with dsl.If(judged.outputs["Output"] == True, name="passed the gate"):  # noqa: E712
        register(
            run_id=trained.outputs["Output"], verdict=judged.outputs["verdict"], model=trained.outputs["model"]
        ).set_caching_options(False)
