"""Histories over the wire: whole, of several runs, and sampled."""

from __future__ import annotations

import pytest


@pytest.fixture
def runs(server) -> list[str]:
    made = [server.new_run() for _ in range(2)]
    for run_id, count in zip(made, (200, 3), strict=True):
        points = [{"key": "m", "value": step, "timestamp": 1000 + step, "step": step} for step in range(count)]
        assert server.mlflow("POST", "runs/log-batch", {"run_id": run_id, "metrics": points})[0] == 200
    nan = {"run_id": made[1], "key": "m", "value": "NaN", "timestamp": 1, "step": 7}
    assert server.mlflow("POST", "runs/log-metric", nan)[0] == 200
    return sorted(made, key=lambda run: made.index(run))


def test_history_comes_in_pages_in_the_order_of_time(server, runs) -> None:
    found, token = [], ""
    while True:
        path = f"metrics/get-history?run_id={runs[0]}&metric_key=m&max_results=60&page_token={token}"
        page = server.mlflow("GET", path)[1]
        found += page.get("metrics", [])
        token = page.get("next_page_token", "")
        if not token:
            break
    assert [point["step"] for point in found] == list(range(200))
    assert found[5] == {"key": "m", "value": 5.0, "timestamp": 1005, "step": 5}
    assert server.mlflow("GET", f"metrics/get-history?run_id={runs[1]}&metric_key=m")[1]["metrics"][0]["value"] == "NaN"
    assert server.mlflow("GET", f"metrics/get-history?run_id={runs[0]}&metric_key=none") == (200, {})
    for unknown in ("unknown", "%00"):
        assert server.mlflow("GET", f"metrics/get-history?run_id={unknown}&metric_key=m") == (200, {})


def test_sampled_history_keeps_both_ends_of_every_run(server, runs) -> None:
    both = "&".join(f"run_ids={run}" for run in runs)
    status, found = server.mlflow("GET", f"metrics/get-history-bulk-interval?{both}&metric_key=m&max_results=10")
    assert status == 200
    steps = {run: [point["step"] for point in found["metrics"] if point["run_id"] == run] for run in runs}
    assert (len(steps[runs[0]]), steps[runs[0]][0], steps[runs[0]][-1]) == (10, 0, 199)
    assert steps[runs[1]] == [0, 1, 2, 7]
    unknown = server.mlflow(
        "GET", f"metrics/get-history-bulk-interval?{both}&run_ids=unknown&metric_key=m&max_results=10"
    )
    assert unknown == (200, found)
    few = server.mlflow("GET", f"metrics/get-history-bulk-interval?{both}&metric_key=m&max_results=3")[1]["metrics"]
    assert [point["step"] for point in few] == [0, 67, 199, 0, 2, 7]
    within = f"metrics/get-history-bulk-interval?run_ids={runs[0]}&metric_key=m&start_step=10&end_step=12"
    assert [point["step"] for point in server.mlflow("GET", within)[1]["metrics"]] == [10, 11, 12]


def test_bulk_history_goes_through_the_runs_by_id(server, runs) -> None:
    both = "&".join(f"run_id={run}" for run in [*runs, "unknown"])
    status, _, found = server.call("GET", f"/ajax-api/2.0/mlflow/metrics/get-history-bulk?{both}&metric_key=m")
    assert status == 200
    assert len(found["metrics"]) == 204
    assert [point["run_id"] for point in found["metrics"]] == sorted(point["run_id"] for point in found["metrics"])
    few = server.call("GET", f"/ajax-api/2.0/mlflow/metrics/get-history-bulk?{both}&metric_key=m&max_results=2")[2]
    assert len(few["metrics"]) == 2


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("get-history-bulk-interval?metric_key=m", 400),
        ("get-history-bulk-interval?run_ids=x&metric_key=m&max_results=0", 400),
        ("get-history-bulk-interval?run_ids=x&metric_key=m&start_step=1", 400),
        ("get-history-bulk-interval?run_ids=x", 400),
        ("get-history-bulk-interval?" + "&".join(f"run_ids={number}" for number in range(101)) + "&metric_key=m", 400),
        ("get-history-bulk?metric_key=m", 400),
        ("get-history-bulk?run_id=x", 400),
        ("get-history?metric_key=m", 400),
    ],
)
def test_what_cannot_be_read_is_refused(server, query: str, status: int) -> None:
    found, body = server.mlflow("GET", "metrics/" + query)
    assert (found, set(body)) == (status, {"error_code", "message"})
