from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import pytest

from mainspring.datasets import infer_schema, profile_frame
from mainspring.lineage import list_events
from mainspring.monitoring import (
    Signal,
    Window,
    WindowReport,
    due_windows,
    expected_loss,
    get_window,
    last_window_end,
    list_windows,
    measure_window,
    read_signals,
    save_report,
    signals_of,
)

WINDOW = Window(start=0, end=1000)


def training_frame() -> pl.DataFrame:
    random = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "carrier": random.choice(["AA", "UA"], 1000).tolist(),
            "seats": random.integers(50, 300, 1000).tolist(),
            "temp": random.normal(50, 10, 1000).tolist(),
            "flight_id": list(range(1000)),
            "late": random.integers(0, 2, 1000).tolist(),
        }
    )


@pytest.fixture
def window(predict, label):
    """1,000 rows like the training data but hotter, every second one labelled; canary answers a fifth."""
    random = np.random.default_rng(1)
    records, labels = [], []
    for request in range(100):
        id, at = f"r{request}", request * 10
        inputs = {
            "carrier": random.choice(["AA", "UA"], 10).tolist(),
            "seats": [float(n) for n in random.integers(50, 300, 10)],
            "temp": random.normal(70, 10, 10).tolist(),
        }
        canary = request % 5 == 0
        for variant, version, score in (("champion", "1", 0.4), ("canary", "2", 0.5), ("baseline", "1", 0.4)):
            shadow = variant != ("canary" if canary else "champion")
            records.append(
                predict(id, [score] * 10, at=at, variant=variant, version=version, shadow=shadow, inputs=inputs)
            )
        labels += [label(f"{id}:{row}", row % 4 == 0, at=at + 500) for row in range(0, 10, 2)]
    return records, labels


def measure(window, **options) -> WindowReport:
    profile = profile_frame(training_frame())
    schema = infer_schema(profile, label="late")
    return measure_window(WINDOW, *window, reference=profile, schema=schema, **options)


def test_volume_counts_requests_refusals_and_answered_rows(window, predict):
    records, labels = window
    refused = [predict("bad", None, status=400, rows=7), predict("late", [0.5], at=1000)]
    volume = measure((records + refused, labels)).volume
    assert (volume.requests, volume.refused, volume.rows) == (101, 1, 1000)


def test_label_coverage_and_lag_are_those_of_the_answers(window):
    labels = measure(window).labels
    assert (labels.labelled, labels.coverage, labels.lag_median, labels.lag_p90) == (500, 0.5, 500.0, 500.0)


def test_each_version_is_measured_on_all_it_predicted_and_the_answers_as_served(window):
    report = measure(window)
    found = {(v.variant, v.version): (v.rows, v.answered, v.labelled) for v in report.variants}
    assert found == {
        ("baseline", "1"): (1000, 0, 500),
        ("canary", "2"): (1000, 200, 500),
        ("champion", "1"): (1000, 800, 500),
    }
    losses = {v.variant: v.performance.log_loss.value for v in report.variants if v.performance}
    share = 0.6  # rows 0, 4 and 8 of each five labelled ones are positive
    of_champion = -share * np.log(0.4) - (1 - share) * np.log(0.6)
    assert losses == pytest.approx({"champion": of_champion, "baseline": of_champion, "canary": np.log(2)})
    assert report.served is not None
    assert report.served.log_loss.value == pytest.approx(0.8 * of_champion + 0.2 * np.log(2))
    assert report.answered_by == {"1": 400, "2": 100}


def test_a_version_that_took_over_within_the_window_has_its_own_line(predict, label):
    records = [predict("a", [0.5], at=1), predict("b", [0.5], at=2, version="2")]
    report = measure_window(WINDOW, records, [label("a:0", 1)])
    assert [(v.version, v.labelled) for v in report.variants] == [("1", 1), ("2", 0)]


def test_only_the_column_that_moved_drifts(window):
    drift = measure(window).drift
    assert drift is not None
    psi = {column.column: column.psi for column in drift.columns}
    assert set(psi) == {"carrier", "seats", "temp"}
    assert psi["temp"] > 1
    assert max(psi["carrier"], psi["seats"]) < 0.1


def test_importances_weigh_the_drift(window):
    drift = measure(window, importances={"temp": 3.0, "carrier": 1.0}).drift
    assert drift is not None
    psi = {column.column: column.psi for column in drift.columns}
    assert drift.weighted_psi == pytest.approx((3 * psi["temp"] + psi["carrier"]) / 4)
    assert measure(window, importances={"other": 1.0}).drift.weighted_psi is None


def test_scores_are_compared_with_their_reference(window, predict):
    first = measure(window)
    assert first.drift is not None
    assert first.drift.score_psi is None
    same = measure(window, score_reference=first.scores)
    assert same.drift.score_psi == pytest.approx(0.0, abs=1e-9)
    moved = [msgspec.structs.replace(record, outputs=[0.9] * 10) for record in window[0]]
    assert measure((moved, []), score_reference=first.scores).drift.score_psi > 1


def test_anomalies_are_those_of_the_features_and_whole_numbers_stay_integers(window):
    records, labels = window
    assert {anomaly.type for anomaly in measure(window).anomalies} == {"FLOAT_TYPE_BIG_FLOAT"}
    texts = [msgspec.structs.replace(r, inputs={**r.inputs, "temp": ["hot"] * 10}) for r in records]
    broken = measure((texts, labels))
    assert [(a.type, a.path) for a in broken.anomalies if a.severity == "ERROR"] == [("UNEXPECTED_DATA_TYPE", "temp")]
    missing = measure(window, features=["carrier", "seats", "temp", "flight_id"])
    assert ("SCHEMA_MISSING_COLUMN", "flight_id") in [(a.type, a.path) for a in missing.anomalies]


def test_unusable_labels_and_scores_are_set_aside_and_reported(predict, label):
    records = [predict("a", [0.5, 0.5, 7.0, float("nan"), None, 0.5])]
    labels = [label(f"a:{row}", value) for row, value in enumerate((1, 2.5, 1, 1, 1))]
    report = measure_window(WINDOW, records, labels)
    assert (report.labels.labelled, report.labels.unusable, report.served.n) == (1, 4, 1)
    assert find(read_signals(report), "labels.unusable").state == "attention"
    msgspec.json.encode(report)


def test_an_empty_window_is_measured_too():
    report = measure(([], []))
    assert (report.volume.rows, report.labels.coverage, report.served, report.variants) == (0, 0.0, None, [])
    assert report.drift is None
    assert {s.name: s.state for s in read_signals(report)}["volume.rows"] == "attention"


def test_a_report_survives_json(window):
    report = measure(window)
    assert msgspec.json.decode(msgspec.json.encode(report), type=WindowReport) == report


def find(signals: list[Signal], name: str, subject: str = "") -> Signal:
    (found,) = [signal for signal in signals if (signal.name, signal.subject) == (name, subject)]
    return found


def test_signals_say_what_needs_attention(window):
    report = measure(window)
    signals = read_signals(report, expected_log_loss={"1": 0.3, "2": 5.0})
    assert find(signals, "drift.psi", "temp").state == "attention"
    assert find(signals, "drift.psi", "seats").state == "ok"
    assert find(signals, "labels.coverage").state == "ok"
    assert find(signals, "performance.calibration_gap", "served").state == "attention"
    assert find(read_signals(report, min_label_coverage=0.6), "labels.coverage").state == "attention"


def test_a_loss_needs_attention_when_it_is_noticeably_above_the_expected_one(window):
    report = measure(window)
    loss, error = report.served.log_loss.value, report.served.log_loss.standard_error
    for expected, state in ((loss - 3 * error - 0.01, "attention"), (loss - 3 * error + 0.01, "ok"), (5.0, "ok")):
        signals = read_signals(report, expected_log_loss={"1": expected, "2": expected})
        assert find(signals, "performance.log_loss", "served").state == state
    assert find(signals, "performance.log_loss", "served").threshold == pytest.approx(5.0 + max(0.02, 3 * error))
    assert find(read_signals(report), "performance.log_loss", "served").state == "ok"


def test_a_variant_that_only_shadows_never_needs_attention(window):
    signals = read_signals(measure(window), expected_log_loss={"1": 0.1, "2": 0.1})
    assert find(signals, "performance.log_loss", "champion@1").state == "attention"
    assert find(signals, "performance.log_loss", "canary@2").state == "attention"
    assert find(signals, "performance.log_loss", "baseline@1").state == "ok"


def test_the_expected_loss_weighs_the_versions_it_knows():
    assert expected_loss({"1": 300, "2": 100, "9": 50}, {"1": 0.4, "2": 0.8}) == pytest.approx(0.5)
    assert expected_loss({"9": 50}, {"1": 0.4}) is None
    assert expected_loss({}, {}) is None


def test_measured_windows_are_kept_with_their_signals_and_event(database, clock, window):
    report = measure(window)
    signals = read_signals(report)
    with database.write() as connection:
        saved = save_report(connection, clock, monitor="m", endpoint="e", report=report, signals=signals)
    with database.read() as connection:
        assert get_window(connection, saved.id) == saved
        assert list_windows(connection, "m") == [saved]
        assert list_windows(connection, "other") == []
        assert signals_of(connection, saved.id) == signals
        (event,) = list_events(connection, types=("monitor.window.measured",))
    assert (event.id, event.subject, event.data["rows"]) == (saved.event, "m", 1000)
    assert "drift.psi" in event.data["attention"]


def test_a_window_measured_again_is_listed_once_as_measured_last(sqlite_database, clock, window):
    records, labels = window
    with sqlite_database.write() as connection:
        for known in (labels[:100], labels):
            report = measure((records, known))
            save_report(connection, clock, monitor="m", endpoint="e", report=report, signals=[])
    with sqlite_database.read() as connection:
        (found,) = list_windows(connection, "m")
    assert (found.measurement, found.labelled) == (2, 500)


def test_windows_are_listed_oldest_first_and_say_where_to_go_on(sqlite_database, clock):
    with sqlite_database.write() as connection:
        assert last_window_end(connection, "m") is None
        for span in due_windows(start_ms=0, window_ms=10, last_end_ms=None, now_ms=30, delay_ms=0):
            save_report(connection, clock, monitor="m", endpoint="e", report=measure_window(span, [], []), signals=[])
        assert last_window_end(connection, "m") == 30
        assert [w.end_ms for w in list_windows(connection, "m")] == [10, 20, 30]
        assert [w.end_ms for w in list_windows(connection, "m", after_ms=10)] == [20, 30]
        assert [w.end_ms for w in list_windows(connection, "m", limit=1)] == [30]
