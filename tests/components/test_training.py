from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from mainspring.components import (
    evaluate_folder,
    fit_columns,
    predict_table,
    read_report,
    read_table,
    split_rows,
    train_model,
    tune_model,
)
from mainspring.components.estimators import ALLOWED, load_function, make_estimator
from mainspring.components.tuning import Trial, assign_folds, read_space
from mainspring.core import InvalidInput, Unavailable

FEATURES = ["fee", "tenure"], ["contract", "region"]
OWN = """
from sklearn.linear_model import LogisticRegression

def fit(matrix, labels, settings, seed):
    return LogisticRegression(**settings, random_state=seed).fit(matrix, labels)

def nothing(matrix, labels, settings, seed):
    return 7
"""


@pytest.fixture
def parts(churned, table):
    train, test = split_rows(churned(600), method="random", test_fraction=0.3)
    return table("train", train), table("test", test)


@pytest.mark.parametrize(
    ("estimator", "style", "target", "task", "settings", "bar"),
    [
        ("lightgbm", "codes", "churn", "binary", {"n_estimators": 20, "num_leaves": 5}, ("auc", 0.65)),
        ("sklearn.linear_model.LogisticRegression", "standard", "plan", "multiclass", {}, ("accuracy", 0.75)),
        ("xgboost", "codes", "bill", "regression", {"n_estimators": 40, "max_depth": 3}, ("r2", 0.8)),
        ("function:own_learner:fit", "standard", "churn", "binary", {"C": 0.5}, ("auc", 0.65)),
    ],
    ids=["lightgbm binary", "sklearn multiclass of texts", "xgboost regression", "own function"],
)
def test_a_learner_is_trained_logged_evaluated_and_predicts(
    parts, file, tracking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    estimator: str, style: str, target: str, task: str, settings, bar,
) -> None:  # fmt: skip
    """The model takes raw columns, with gaps in them, whatever library made it; all run serving's code."""
    import mlflow

    (tmp_path / "own_learner.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    train, test = parts
    transform, model, evaluation = file("transform"), file("model"), file("evaluation")
    fit_columns(train, transform=transform, numeric=FEATURES[0], categorical=FEATURES[1], style=style)
    run_id = train_model(
        train, transform=transform, target=target, task=task, estimator=estimator, settings=settings,
        experiment="training", model=model,
    )  # fmt: skip
    report = evaluate_folder(test, model=model, evaluation=evaluation, slices=["region"], run_id=run_id)

    name, least = bar
    found = report.measures[name]
    assert found.value > least
    assert found.low is not None
    assert found.low < found.value < found.high
    assert read_report(evaluation) == report
    assert [part.name for part in report.slices] == ["region=north", "region=south"]
    assert sum(part.rows for part in report.slices) == report.rows == len(report.losses)

    run = mlflow.get_run(run_id)
    assert run.data.params["estimator"] == estimator
    assert run.data.metrics[f"test_{name}"] == found.value
    assert run.data.metrics[f"test_{name}_low"] == found.low
    assert len(run.outputs.model_outputs) == 1

    predictions = file("predictions")
    summary = predict_table(test, predictions=predictions, model=model, output=str(tmp_path / "out.jsonl"))
    assert (summary.rows, summary.problems) == (report.rows, 0)
    predicted = read_table(predictions)
    assert predicted.drop("prediction").equals(read_table(test))
    assert pl.read_ndjson(tmp_path / "out.jsonl")["prediction"].to_list() == predicted["prediction"].to_list()
    loaded = mlflow.pyfunc.load_model(model.path).predict(
        read_table(test).select(*FEATURES[0], *FEATURES[1]).to_pandas()
    )
    answered = predicted["prediction"]
    if task == "multiclass":
        assert answered.to_list() == report_classes(report, loaded)
    else:
        np.testing.assert_allclose(np.asarray(loaded, dtype=float).ravel(), answered.to_numpy(), rtol=1e-5)


def report_classes(report, predicted) -> list[object]:
    """Predictions are the places of the classes."""
    assert report.classes == ["large", "medium", "small"]
    return [int(place) for place in predicted]


def test_the_same_seed_gives_the_same_model(parts, file, tracking: Path) -> None:
    transform = file("transform")
    fit_columns(parts[0], transform=transform, numeric=FEATURES[0], categorical=FEATURES[1])
    boosters = []
    for name in ("one", "two"):
        model = file(name)
        train_model(
            parts[0], transform=transform, target="churn", task="binary", estimator="lightgbm",
            settings={"n_estimators": 5, "subsample": 0.5, "subsample_freq": 1}, experiment="training", model=model,
            seed=3,
        )  # fmt: skip
        boosters.append(next(Path(model.path).rglob("booster.txt")).read_bytes())
    assert boosters[0] == boosters[1]


def test_tuning_is_seeded_and_every_trial_is_a_nested_run(parts, file, tracking: Path) -> None:
    import mlflow

    transform = file("transform")
    fit_columns(parts[0], transform=transform, numeric=FEATURES[0], categorical=FEATURES[1])
    space = {
        "num_leaves": {"type": "int", "low": 3, "high": 15},
        "learning_rate": {"type": "float", "low": 0.01, "high": 0.3, "log": True},
        "boosting_type": {"type": "choice", "choices": ["gbdt", "dart"]},
    }
    found = []
    for name in ("one", "two"):
        trials = file(name)
        best = tune_model(
            parts[0], transform=transform, target="churn", task="binary", estimator="lightgbm", space=space,
            settings={"n_estimators": 8}, n_trials=4, folds=2, experiment="tuning", trials=trials, seed=5,
        )  # fmt: skip
        found.append(msgspec.json.decode(Path(trials.path).read_bytes(), type=list[Trial]))
        assert best == min(found[-1], key=lambda trial: trial.loss).settings
        assert best["n_estimators"] == 8
    assert [(trial.settings, trial.loss) for trial in found[0]] == [(trial.settings, trial.loss) for trial in found[1]]
    assert len({trial.loss for trial in found[0]}) > 1
    nested = mlflow.get_run(found[1][2].run_id)
    assert nested.data.tags["mlflow.parentRunId"] == trials.metadata["run_id"]
    assert nested.data.metrics["loss"] == found[1][2].loss


@pytest.mark.parametrize(
    ("space", "error"),
    [
        ({}, "is empty"),
        ({"a": {"type": "int", "low": 5, "high": 5}}, "nothing to choose 'a' from"),
        ({"a": {"type": "float", "low": 0, "high": 1, "log": True}}, "nothing to choose 'a' from"),
        ({"a": {"type": "choice"}}, "nothing to choose 'a' from"),
        ({"a": {"type": "word"}}, "not right"),
        ({"a": 5}, "not right"),
    ],
)
def test_a_space_with_nothing_to_search_is_refused(space, error: str) -> None:
    with pytest.raises(InvalidInput, match=error):
        read_space(space)


def test_folds_are_equally_large() -> None:
    assert np.bincount(assign_folds(11, 3, 0)).tolist() == [4, 4, 3]
    with pytest.raises(InvalidInput, match="cannot be cut"):
        assign_folds(2, 3, 0)


@pytest.mark.parametrize(
    ("estimator", "task", "settings", "error"),
    [
        ("os.system", "binary", {}, "not on the list"),
        ("sklearn.pipeline.Pipeline", "binary", {}, "not on the list"),
        ("sklearn.tree.DecisionTreeClassifier", "regression", {}, "no learner for regression"),
        ("sklearn.linear_model.Ridge", "regression", {"trees": 5}, "no setting 'trees'"),
    ],
)
def test_only_listed_learners_with_their_settings_are_made(estimator, task, settings, error) -> None:
    with pytest.raises(InvalidInput, match=error):
        make_estimator(estimator, task, settings, 0)


def test_every_listed_learner_exists_and_classifiers_give_probabilities() -> None:
    for name in sorted(ALLOWED):
        learner = make_estimator(name, "binary" if name.endswith("Classifier") else "regression", {}, 0)
        assert hasattr(learner, "predict_proba" if name.endswith(("Classifier", "NB", "LogisticRegression")) else "fit")


@pytest.mark.parametrize("name", ["function:nowhere:fit", "function:os", "function:a b:c", "function:os:nothing"])
def test_a_function_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(InvalidInput):
        load_function(name)


@pytest.mark.parametrize(
    ("target", "task", "estimator", "error"),
    [
        ("plan", "binary", "lightgbm", "has 3 classes"),
        ("plan", "regression", "lightgbm", "not numbers"),
        ("nothing", "binary", "lightgbm", "no column 'nothing'"),
        ("churn", "guess", "lightgbm", "is no task"),
        ("churn", "binary", "sklearn.linear_model.LogisticRegression", "style standard"),
        ("churn", "binary", "function:own_learner:nothing", "cannot predict"),
    ],
)
def test_what_cannot_be_learned_says_why(
    parts, file, tmp_path, monkeypatch, target: str, task: str, estimator: str, error: str
) -> None:
    (tmp_path / "own_learner.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    transform = file("transform")
    fit_columns(parts[0], transform=transform, numeric=FEATURES[0], categorical=FEATURES[1])
    with pytest.raises(InvalidInput, match=error):
        train_model(
            parts[0], transform=transform, target=target, task=task, estimator=estimator, settings={},
            experiment="training", model=file("model"),
        )  # fmt: skip


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(Unavailable, match=r"mainspring\[xgboost\]"):
        make_estimator("xgboost", "binary", {}, 0)
