"""Anomalies: the named ways in which a table differs from its schema (TensorFlow Data Validation's names)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from mainspring.core import Refused
from mainspring.datasets.profiles import CategoricalProfile, ColumnProfile, NumericProfile, Profile
from mainspring.datasets.schemas import Environment, Feature, Schema

Severity = Literal["ERROR", "WARNING"]
AnomalyType = Literal[
    "DATASET_LOW_NUM_EXAMPLES",
    "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
    "FEATURE_TYPE_LOW_FRACTION_PRESENT",
    "FEATURE_TYPE_NOT_PRESENT",
    "FLOAT_TYPE_BIG_FLOAT",
    "FLOAT_TYPE_HAS_INF",
    "FLOAT_TYPE_SMALL_FLOAT",
    "INT_TYPE_BIG_INT",
    "INT_TYPE_SMALL_INT",
    "SCHEMA_MISSING_COLUMN",
    "SCHEMA_NEW_COLUMN",
    "UNEXPECTED_DATA_TYPE",
]

FAR_UNDER = 0.5
"""A column whose share of values is less than this part of what the schema asks for is an error."""

_SHOWN_VALUES = 5


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which a column (``path``; empty for the whole table) is not what the schema says."""

    type: AnomalyType
    severity: Severity
    path: str
    short_description: str
    description: str


def find_anomalies(profile: Profile, schema: Schema, *, environment: Environment = "TRAINING") -> list[Anomaly]:
    """Compare a profile with a schema; errors come first, then warnings, each in the schema's order.

    A missing column, a wrong type, a column without any value and one with far too few are errors. A new column,
    unseen texts, numbers out of range, infinite ones and somewhat too few values are warnings.
    """
    if profile.rows == 0:
        return [_error("DATASET_LOW_NUM_EXAMPLES", "", "No rows", "The data has no rows at all.")]
    expected = {feature.name: feature for feature in schema.features if environment not in feature.not_in_environment}
    found = [
        anomaly
        for feature in expected.values()
        for anomaly in _check_feature(feature, profile.columns.get(feature.name), profile.rows)
    ]
    found += [_new_column(name, environment) for name in profile.columns if name not in expected]
    return sorted(found, key=lambda anomaly: anomaly.severity)


def stop_on_errors(anomalies: Sequence[Anomaly]) -> None:
    """Raise `Refused`, listing them, if any of the anomalies is an error."""
    errors = [anomaly for anomaly in anomalies if anomaly.severity == "ERROR"]
    if errors:
        listed = "; ".join(f"{error.path or 'the table'}: {error.type}: {error.description}" for error in errors)
        count = f"{len(errors)} anomalies stop" if len(errors) > 1 else "One anomaly stops"
        raise Refused(
            f"{count} this data from going further. {listed}",
            hint="Repair the data at its source, or change the schema if the data is right.",
        )


def _check_feature(feature: Feature, column: ColumnProfile | None, rows: int) -> Iterator[Anomaly]:
    if column is None:
        yield _error(
            "SCHEMA_MISSING_COLUMN", feature.name, "Column missing", f"The data has no column {feature.name!r}."
        )
        return
    yield from _check_presence(feature, column.count / rows)
    if column.count == 0:
        return  # nothing says what type it would have
    if column.type != feature.type and not (feature.type == "FLOAT" and column.type == "INT"):
        yield _error(
            "UNEXPECTED_DATA_TYPE",
            feature.name,
            f"Expected {feature.type}, got {column.type}",
            f"The schema says {feature.type}, the data is {column.type}.",
        )
    elif isinstance(column, CategoricalProfile):
        yield from _check_domain(feature, column)
    else:
        yield from _check_range(feature, column)


def _check_presence(feature: Feature, fraction: float) -> Iterator[Anomaly]:
    if fraction >= feature.min_fraction:
        return
    if fraction == 0:
        yield _error("FEATURE_TYPE_NOT_PRESENT", feature.name, "No values", "The column has no value in any row.")
        return
    severity: Severity = "ERROR" if fraction < feature.min_fraction * FAR_UNDER else "WARNING"
    yield Anomaly(
        type="FEATURE_TYPE_LOW_FRACTION_PRESENT",
        severity=severity,
        path=feature.name,
        short_description="Too few values",
        description=f"{fraction:.2%} of the rows have a value, the schema asks for {feature.min_fraction:.2%}.",
    )


def _check_domain(feature: Feature, column: CategoricalProfile) -> Iterator[Anomaly]:
    if feature.domain is None:
        return
    domain = set(feature.domain)
    unseen = {value: count for value, count in column.values.items() if value not in domain}
    outside = sum(unseen.values()) + column.other
    if (column.count - outside) / column.count >= feature.min_domain_mass:
        return
    most = sorted(unseen, key=lambda value: (-unseen[value], value))
    shown = ", ".join(repr(value) for value in most[:_SHOWN_VALUES]) + (
        " and more" if len(most) > _SHOWN_VALUES else ""
    )
    yield _warning(
        "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
        feature.name,
        "Unexpected values",
        f"{outside / column.count:.2%} of the values are not in the domain: {shown}.",
    )


def _check_range(feature: Feature, column: NumericProfile) -> Iterator[Anomaly]:
    whole = feature.type == "INT"
    low, high = column.minimum, column.maximum
    if feature.minimum is not None and low is not None and low < feature.minimum:
        yield _warning(
            "INT_TYPE_SMALL_INT" if whole else "FLOAT_TYPE_SMALL_FLOAT",
            feature.name,
            "Value too small",
            f"The smallest value is {low:g}, the schema expects at least {feature.minimum:g}.",
        )
    if feature.maximum is not None and high is not None and high > feature.maximum:
        yield _warning(
            "INT_TYPE_BIG_INT" if whole else "FLOAT_TYPE_BIG_FLOAT",
            feature.name,
            "Value too big",
            f"The biggest value is {high:g}, the schema expects at most {feature.maximum:g}.",
        )
    if column.infinite:
        yield _warning("FLOAT_TYPE_HAS_INF", feature.name, "Infinite values", f"{column.infinite} values are infinite.")


def _new_column(name: str, environment: Environment) -> Anomaly:
    return _warning(
        "SCHEMA_NEW_COLUMN", name, "New column", f"The schema has no column {name!r} in the environment {environment}."
    )


def _error(type: AnomalyType, path: str, short: str, description: str) -> Anomaly:
    return Anomaly(type=type, severity="ERROR", path=path, short_description=short, description=description)


def _warning(type: AnomalyType, path: str, short: str, description: str) -> Anomaly:
    return Anomaly(type=type, severity="WARNING", path=path, short_description=short, description=description)
