"""Measure one window of an endpoint's prediction log: a pure function from records and labels to a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa

from mainspring.datasets import (
    Anomaly,
    ColumnDrift,
    Profile,
    Schema,
    find_anomalies,
    measure_drift,
    profile_frame,
)
from mainspring.monitoring.frames import answered_rows, join_labels, labelled_rows
from mainspring.monitoring.gathering import Gathering, Volume
from mainspring.monitoring.performance import Performance, measure_performance
from mainspring.monitoring.truth import frame_labels
from mainspring.monitoring.windows import Window
from mainspring.serving import LabelRecord, PredictionRecord
from mainspring.serving.columnar import record_table

SCORE = "score"
"""Name of the only column of a profile of scores."""


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """How many answered rows have a label, and how long after the request it arrived (ms; None without labels).

    ``unusable`` rows have a label that is neither 0 nor 1, or a score that is no probability; they count nowhere else.
    """

    labelled: int
    unusable: int
    coverage: float
    lag_median: float | None
    lag_p90: float | None


class VariantPerformance(msgspec.Struct, frozen=True, kw_only=True):
    """One model version under one variant name, on every row it predicted, answered or as a shadow."""

    variant: str
    version: str
    rows: int
    answered: int
    labelled: int
    performance: Performance | None


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How far the requests moved from the reference. Evidence for people: nothing is triggered by it.

    ``weighted_psi`` is the PSI averaged with the weights of the features' importance.
    """

    columns: list[ColumnDrift]
    weighted_psi: float | None
    score_psi: float | None


class WindowReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured on one window.

    ``served`` is the performance of the answers clients got, whoever gave them; ``answered_by`` counts the labelled
    ones by version. ``scores`` is the profile of the answers, to compare later windows with.
    """

    window: Window
    volume: Volume
    anomalies: list[Anomaly]
    drift: Drift | None
    labels: Labels
    variants: list[VariantPerformance]
    served: Performance | None
    answered_by: dict[str, int]
    scores: Profile | None


def measure_window(
    window: Window,
    records: Sequence[PredictionRecord],
    labels: Iterable[LabelRecord],
    *,
    reference: Profile | None = None,
    schema: Schema | None = None,
    features: Sequence[str] | None = None,
    importances: Mapping[str, float] | None = None,
    score_reference: Profile | None = None,
) -> WindowReport:
    """Measure a window of records that are in memory; see `measure_tables`."""
    return measure_tables(
        window,
        [record_table(records)],
        labels,
        reference=reference,
        schema=schema,
        features=features,
        importances=importances,
        score_reference=score_reference,
    )


def measure_tables(
    window: Window,
    tables: Iterable[pa.Table],
    labels: Iterable[LabelRecord],
    *,
    reference: Profile | None = None,
    schema: Schema | None = None,
    features: Sequence[str] | None = None,
    importances: Mapping[str, float] | None = None,
    score_reference: Profile | None = None,
) -> WindowReport:
    """Measure a window, read table by table: volume, anomalies, drift, labels, performance.

    ``reference`` and ``schema`` describe the training data; only the columns named in ``features`` (the model's
    inputs; by default what was sent) are looked at. ``score_reference`` is a profile with the one column `SCORE`.
    Records outside the window are left out. Features are profiled as they pass and not kept: in memory are ids,
    scores and labels only.
    """
    truth = frame_labels(labels).within(window.start, window.end)
    gathering = Gathering(window, keys=truth.key_columns, features=features, schema=schema, reference=reference)
    for table in tables:
        gathering.add(table)
    frame = join_labels(gathering.rows(), truth)
    answered = answered_rows(frame)
    labelled = labelled_rows(answered)
    return WindowReport(
        window=window,
        volume=gathering.volume(answered.height),
        anomalies=_find_anomalies(gathering.plain.profile(), schema, gathering.names),
        drift=_measure_drift(gathering, answered, reference, importances=importances, score_reference=score_reference),
        labels=_measure_labels(answered, labelled),
        variants=_measure_variants(frame),
        served=_measure(labelled),
        answered_by=dict(sorted(labelled["version"].value_counts().iter_rows())),
        scores=_profile_scores(answered, score_reference),
    )


def _find_anomalies(inputs: Profile, schema: Schema | None, names: Sequence[str]) -> list[Anomaly]:
    if schema is None or inputs.rows == 0:
        return []
    wanted = Schema(features=[feature for feature in schema.features if feature.name in set(names)])
    return find_anomalies(inputs, wanted, environment="SERVING")


def _measure_drift(
    gathering: Gathering,
    answered: pl.DataFrame,
    reference: Profile | None,
    *,
    importances: Mapping[str, float] | None,
    score_reference: Profile | None,
) -> Drift | None:
    inputs = gathering.compared.profile()
    if inputs.rows == 0 or (reference is None and score_reference is None):
        return None
    columns: list[ColumnDrift] = []
    if reference is not None:
        shared = [name for name in gathering.names if name in reference.columns and name in inputs.columns]
        before = Profile(rows=reference.rows, columns={name: reference.columns[name] for name in shared})
        columns = measure_drift(
            before, Profile(rows=inputs.rows, columns={name: inputs.columns[name] for name in shared})
        )
    return Drift(
        columns=columns,
        weighted_psi=_weigh(columns, importances) if importances else None,
        score_psi=_measure_score_drift(answered, score_reference),
    )


def _weigh(columns: Sequence[ColumnDrift], importances: Mapping[str, float]) -> float | None:
    weighed = [(importances.get(drift.column, 0.0), drift.psi) for drift in columns if drift.psi is not None]
    total = sum(weight for weight, _ in weighed)
    return sum(weight * psi for weight, psi in weighed) / total if total > 0 else None


def _measure_score_drift(answered: pl.DataFrame, reference: Profile | None) -> float | None:
    scores = _profile_scores(answered, reference)
    if reference is None or scores is None:
        return None
    return next((drift.psi for drift in measure_drift(reference, scores) if drift.column == SCORE), None)


def _profile_scores(answered: pl.DataFrame, reference: Profile | None) -> Profile | None:
    return profile_frame(answered.select(SCORE), reference=reference) if answered.height else None


def _measure_labels(answered: pl.DataFrame, labelled: pl.DataFrame) -> Labels:
    lag = (labelled["labelled_at"] - labelled["received_at"]).to_numpy()
    return Labels(
        labelled=labelled.height,
        unusable=answered.height - answered["label"].null_count() - labelled.height,
        coverage=labelled.height / answered.height if answered.height else 0.0,
        lag_median=float(np.median(lag)) if lag.size else None,
        lag_p90=float(np.quantile(lag, 0.9)) if lag.size else None,
    )


def _measure_variants(frame: pl.DataFrame) -> list[VariantPerformance]:
    found = []
    for (variant, version), rows in frame.sort("variant", "received_at").group_by(
        "variant", "version", maintain_order=True
    ):
        labelled = labelled_rows(rows)
        found.append(
            VariantPerformance(
                variant=str(variant),
                version=str(version),
                rows=rows.height,
                answered=int((~rows["shadow"]).sum()),
                labelled=labelled.height,
                performance=_measure(labelled),
            )
        )
    return found


def _measure(labelled: pl.DataFrame) -> Performance | None:
    return measure_performance(labelled[SCORE].to_numpy(), labelled["label"].to_numpy())
