"""Rows, columns and settings that are wrong: one line with the value and the remedy, whatever the step."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from mainspring.components import (
    apply_columns,
    evaluate_folder,
    fit_columns,
    gate_reports,
    predict_table,
    profile_table,
    split_data,
    train_model,
    tune_model,
)
from mainspring.core import InvalidInput

WITHOUT = ("churn", "plan", "bill", "customer", "signed")


@pytest.fixture
def rows(churned):
    return churned(120)


@pytest.fixture
def fitted(table, file, rows):
    """Fits a transform on rows, by default on those with nothing wrong."""

    def fit(frame=rows, **options):
        made = file(f"transform{len(list(Path(file('x').path).parent.iterdir()))}")
        fit_columns(table("fit", frame), transform=made, **{"without": WITHOUT, **options})
        return made

    return fit


@pytest.fixture
def trained(table, file, rows, fitted, tracking):
    def train(frame=rows, transform=None, **options):
        wanted = {"target": "churn", "task": "binary", "estimator": "lightgbm", "experiment": "hostile"}
        model = file(f"model{len(list(Path(file('x').path).parent.iterdir()))}")
        settings = options.pop("settings", {"n_estimators": 3})
        train_model(
            table("train", frame), transform=transform or fitted(), model=model, settings=settings,
            **{**wanted, **options},
        )  # fmt: skip
        return model

    return train


@pytest.mark.parametrize(
    ("change", "options", "problem"),
    [
        ({}, {"numeric": ["fee", "fee"]}, "'fee' is named twice"),
        ({}, {"numeric": ["fee"], "categorical": ["fee"]}, "'fee' is named twice"),
        ({}, {"numeric": ["nope"]}, "no column 'nope'"),
        ({}, {"numeric": ["contract"]}, "'contract' is String, not numbers"),
        ({}, {"categorical": ["tenure"]}, "'tenure' is Int64, not text"),
        ({"fee": pl.lit(float("inf"))}, {}, "'fee' has 120 infinite values in 120 rows"),
        ({"fee": pl.concat_list("tenure")}, {"numeric": ["fee"]}, r"'fee' is List\(Int64\), not numbers"),
        ({"fee": pl.lit("2026-01-01").str.to_date()}, {"numeric": ["fee"]}, "'fee' is Date, not numbers"),
    ],
)
def test_columns_that_cannot_be_learned_from_are_named(fitted, rows, change, options, problem):
    for style in ("codes", "standard"):
        with pytest.raises(InvalidInput, match=problem) as caught:
            fitted(rows.with_columns(**change), style=style, **options)
        assert "\n" not in str(caught.value)


def test_no_rows_are_said_by_every_step(table, file, rows, fitted, trained):
    empty = rows.head(0)
    with pytest.raises(InvalidInput, match="no rows to learn a transform from"):
        fitted(empty)
    for method, column in (("random", ""), ("time", "signed"), ("hash", "customer")):
        with pytest.raises(InvalidInput, match="0 rows cannot be split"):
            split_data(table("d", empty), train=file("a"), test=file("b"), method=method, column=column)
    with pytest.raises(InvalidInput, match="No row has a label in 'churn'"):
        trained(empty)
    model = trained()
    with pytest.raises(InvalidInput, match="No row has a label in 'churn'"):
        evaluate_folder(table("d", empty), model=model, evaluation=file("e"))
    assert predict_table(table("d", empty), model=model, predictions=file("p")).rows == 0


@pytest.mark.parametrize(
    ("change", "options", "problem"),
    [
        ({"churn": pl.lit(1)}, {}, "Every row of column 'churn' has the one class 1"),
        ({"churn": pl.lit(None, dtype=pl.Int64)}, {}, "No row has a label in 'churn'"),
        ({"fee": pl.lit("abc")}, {}, "Column 'fee' must hold numbers"),
        ({}, {"target": "fees"}, "no column 'fees'"),
        ({}, {"target": "plan"}, "'plan' has 3 classes, a binary target has 2"),
        ({}, {"settings": {"num_leaves": -3}}, "lightgbm refuses the rows: Check failed"),
        ({}, {"estimator": "xgboost", "settings": {"max_depth": "x"}}, "max_depth.* Check the settings"),
        ({}, {"experiment": ""}, "MLflow takes no experiment ''"),
    ],
)
def test_what_cannot_be_trained_is_told(trained, rows, change, options, problem):
    with pytest.raises(InvalidInput, match=problem):
        trained(rows.with_columns(**change), **options)


def test_the_label_is_no_feature(trained, fitted, table, file, rows):
    leaking = fitted(without=("customer", "signed"))
    with pytest.raises(InvalidInput, match="target 'churn' is one of the transform's columns") as caught:
        trained(transform=leaking)
    assert "without=['churn']" in caught.value.hint
    with pytest.raises(InvalidInput, match="target 'churn' is one of"):
        tune(table("d", rows), leaking, file)


def tune(data, transform, file, **options):
    space = {"num_leaves": {"type": "int", "low": 2, "high": 4}}
    return tune_model(
        data, transform=transform, target="churn", task="binary", estimator="lightgbm", space=space,
        experiment="hostile", trials=file("trials"), **{"n_trials": 1, **options},
    )  # fmt: skip


def test_a_search_needs_a_trial_and_every_class_in_every_fold(table, file, rows, fitted, tracking):
    with pytest.raises(InvalidInput, match="0 trials find nothing"):
        tune(table("d", rows), fitted(), file, n_trials=0)
    rare = rows.with_columns(churn=(pl.int_range(pl.len()) == 0).cast(pl.Int64))
    with pytest.raises(InvalidInput, match="1 of 2 classes have no row left of 120"):
        tune(table("d", rare), fitted(), file)


def test_decimals_and_numbers_beyond_a_long_are_learned_and_evaluated(table, file, rows, trained, fitted):
    odd = rows.with_columns(fee=pl.col("fee").cast(pl.Decimal(10, 2)), tenure=pl.lit(2**64 - 1, dtype=pl.UInt64))
    model = trained(odd, transform=fitted(odd))
    evaluate_folder(table("d", odd), model=model, evaluation=file("e"))
    done = predict_table(table("d", odd.with_columns(tenure=pl.lit(5))), model=model, predictions=file("p"))
    assert (done.rows, done.problems) == (120, 0)


def test_evaluating_rows_of_another_shape_says_it_once(table, file, rows, trained):
    model = trained(rows.with_columns(pl.col("fee").fill_null(0.0)), transform=None)
    with pytest.raises(InvalidInput) as caught:
        evaluate_folder(table("d", rows.drop("tenure")), model=model, evaluation=file("e"))
    assert "tenure" in caught.value.message
    assert len(caught.value.message) < 300
    with pytest.raises(InvalidInput, match=r"'abc' in row 0, and \d+ more like it") as caught:
        evaluate_folder(table("d", rows.with_columns(tenure=pl.lit("abc"))), model=model, evaluation=file("e"))
    assert len(caught.value.message) < 300


def test_files_and_names_that_are_wrong_are_told(table, file, rows, fitted):
    torn = file("torn")
    Path(torn.path).write_text("no table")
    with pytest.raises(InvalidInput, match="is not a Parquet file"):
        profile_table(torn, profile=file("profile"))
    for keep in (["fee"], ["churn", "churn"]):
        with pytest.raises(InvalidInput, match="would be there twice"):
            apply_columns(table("d", rows), transform=fitted(), prepared=file("p"), keep=keep)


def test_xgboost_predicts_a_table_with_categories_and_gaps_it_has_not_seen(table, file, rows, trained):
    """The transform travels with the model: raw columns in, and what is unknown is no error."""
    model = trained(estimator="xgboost")
    strange = rows.with_columns(contract=pl.lit("for life"), fee=pl.lit(None, dtype=pl.Float64), region=pl.lit("west"))
    for method in ("predict", "predict_proba"):
        made = file(f"p-{method}")
        done = predict_table(table("d", pl.concat([rows, strange])), model=model, predictions=made, method=method)
        assert (done.rows, done.problems) == (240, 0)
        assert pl.read_parquet(made.path)["prediction"].null_count() == 0


def test_two_tables_in_one_folder_are_predicted_apart(table, file, rows, trained):
    model = trained()
    for name, frame in (("one", rows), ("two", rows.head(7))):
        made = file(name)
        assert predict_table(table("d", frame), model=model, predictions=made).rows == frame.height
        assert pl.read_parquet(made.path).height == frame.height
    left = [path.name for path in Path(made.path).parent.iterdir() if path.name.startswith(("one", "two"))]
    assert sorted(left) == ["one", "two"]


def test_the_gate_speaks_of_the_loss_it_compares(table, file, rows, trained, tracking, monkeypatch):
    monkeypatch.delenv("MAINSPRING_PROJECT")  # whose journal others read
    found = {}
    for trees in (1, 40):
        model = trained(target="bill", task="regression", settings={"n_estimators": trees})
        found[trees] = file(f"e{trees}")
        evaluate_folder(table("d", rows), model=model, evaluation=found[trees], slices=["region"])
    verdict = file("verdict")
    assert gate_reports(found[40], champion=found[1], verdict=verdict, model="bills")
    said = Path(verdict.path).read_text()
    assert "log loss" not in said
    assert said.count("squared error") == 2
