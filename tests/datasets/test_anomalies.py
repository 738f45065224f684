from __future__ import annotations

import polars as pl
import pytest

from mainspring.core import Corrupt, InvalidInput, Refused
from mainspring.datasets import (
    Anomaly,
    Environment,
    Schema,
    find_anomalies,
    infer_schema,
    profile_frame,
    stop_on_errors,
)

FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "carrier": ["UA", "AA", "UA", "B6"],
        "distance": [100, 200, 300, 400],
        "temp": [10.0, None, 20.0, 30.0],
        "late": [0, 1, 0, 1],
    }
)
SCHEMA = infer_schema(profile_frame(FRAME), label="late", unbounded=["id"])


def find(frame: pl.DataFrame, environment: Environment = "TRAINING") -> list[Anomaly]:
    return find_anomalies(profile_frame(frame), SCHEMA, environment=environment)


def kinds(anomalies: list[Anomaly]) -> list[tuple[str, str, str]]:
    return [(anomaly.severity, anomaly.type, anomaly.path) for anomaly in anomalies]


def test_the_data_a_schema_was_inferred_from_has_no_anomalies() -> None:
    assert find(FRAME) == []
    assert find(FRAME.drop("late"), "SERVING") == []


def test_a_schema_survives_json() -> None:
    assert Schema.from_json(SCHEMA.to_json()) == SCHEMA
    with pytest.raises(Corrupt, match="not a schema"):
        Schema.from_json(b"{}")


@pytest.mark.parametrize("column", ["carrier", "late"])
def test_a_missing_column_is_an_error_in_training(column: str) -> None:
    assert kinds(find(FRAME.drop(column))) == [("ERROR", "SCHEMA_MISSING_COLUMN", column)]


def test_a_label_in_serving_data_is_a_new_column() -> None:
    assert kinds(find(FRAME, "SERVING")) == [("WARNING", "SCHEMA_NEW_COLUMN", "late")]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("distance", ["far"] * 4),
        ("distance", [0.5, 1.5, 2.5, 3.5]),
        ("carrier", [1, 2, 3, 4]),
        ("temp", ["10", "20", "30", "40"]),
    ],
)
def test_a_wrong_type_is_an_error(column: str, values: list[object]) -> None:
    frame = FRAME.with_columns(pl.Series(column, values))
    assert kinds(find(frame)) == [("ERROR", "UNEXPECTED_DATA_TYPE", column)]


def test_whole_numbers_do_for_a_column_of_real_ones() -> None:
    assert find(FRAME.with_columns(temp=pl.Series([10, 20, 30, 30]))) == []


def test_few_values_are_a_warning_and_hardly_any_an_error() -> None:
    def with_nulls(present: int) -> pl.DataFrame:
        frame = pl.concat([FRAME] * 25)
        return frame.with_columns(distance=pl.when(pl.int_range(pl.len()) < present).then(pl.col("distance")))

    low = "FEATURE_TYPE_LOW_FRACTION_PRESENT"
    assert kinds(find(with_nulls(99))) == [("WARNING", low, "distance")]
    assert kinds(find(with_nulls(50))) == [("WARNING", low, "distance")]
    assert kinds(find(with_nulls(49))) == [("ERROR", low, "distance")]
    assert kinds(find(with_nulls(0))) == [("ERROR", "FEATURE_TYPE_NOT_PRESENT", "distance")]


@pytest.mark.parametrize(("seen", "expected"), [(4, 1.0), (3, 0.375), (2, 0.25), (1, 0.0), (0, 0.0)])
def test_how_many_values_are_expected_follows_from_how_many_were_seen(seen: int, expected: float) -> None:
    profile = profile_frame(pl.DataFrame({"gust": pl.Series([1.0] * seen + [None] * (4 - seen), dtype=pl.Float64)}))
    assert infer_schema(profile).features[0].min_fraction == expected


def test_a_column_of_only_nulls_without_a_type_is_not_present_rather_than_wrong() -> None:
    frame = FRAME.with_columns(carrier=pl.lit(None))
    assert kinds(find(frame)) == [("ERROR", "FEATURE_TYPE_NOT_PRESENT", "carrier")]


def test_unseen_values_ranges_new_columns_and_infinities_are_warnings() -> None:
    frame = FRAME.with_columns(
        id=pl.col("id") + 1000,
        carrier=pl.Series(["UA", "ZZ", "YY", "YY"]),
        distance=pl.Series([50, 200, 300, 500]),
        temp=pl.Series([5.0, float("inf"), 20.0, 40.0]),
        gate=pl.lit(1),
    )
    found = find(frame)
    assert kinds(found) == [
        ("WARNING", "ENUM_TYPE_UNEXPECTED_STRING_VALUES", "carrier"),
        ("WARNING", "INT_TYPE_SMALL_INT", "distance"),
        ("WARNING", "INT_TYPE_BIG_INT", "distance"),
        ("WARNING", "FLOAT_TYPE_SMALL_FLOAT", "temp"),
        ("WARNING", "FLOAT_TYPE_BIG_FLOAT", "temp"),
        ("WARNING", "FLOAT_TYPE_HAS_INF", "temp"),
        ("WARNING", "SCHEMA_NEW_COLUMN", "gate"),
    ]
    assert found[0].description == "75.00% of the values are not in the domain: 'YY', 'ZZ'."
    stop_on_errors(found)


def test_an_empty_table_is_an_error() -> None:
    assert kinds(find(FRAME.clear())) == [("ERROR", "DATASET_LOW_NUM_EXAMPLES", "")]


def test_errors_stop_and_are_all_listed_before_warnings() -> None:
    found = find(FRAME.drop("late").with_columns(pl.Series("carrier", [1, 2, 3, 4]), gate=pl.lit(1)))
    assert [anomaly.severity for anomaly in found] == ["ERROR", "ERROR", "WARNING"]
    with pytest.raises(Refused, match=r"2 anomalies stop.*carrier: UNEXPECTED_DATA_TYPE.*late: SCHEMA_MISSING") as said:
        stop_on_errors(found)
    assert "gate" not in said.value.message


def test_a_label_the_data_lacks_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no column 'delayed'"):
        infer_schema(profile_frame(FRAME), label="delayed")
