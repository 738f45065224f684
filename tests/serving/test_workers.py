"""Several worker processes behind one port, through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mainspring.serving import read_records
from mainspring.serving.metrics import Metrics, Sample, merge_samples, render_samples
from mainspring.serving.workers import FIRST_DELAY, LONGEST_DELAY, next_delay


@pytest.fixture
def workers(run_endpoint, deploy, tmp_path):
    """Start an endpoint with two workers."""
    deploy(tmp_path)
    return run_endpoint("--workers", "2")


def _pids(process) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process.process.pid)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def _wait(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _ready(process, tmp_path) -> set[int]:
    return {int(path.stem) for path in (tmp_path / "workers").glob("*.ready")}


def test_workers_share_the_port_the_log_and_the_metrics(workers, tmp_path, load):
    _wait(lambda: len(_ready(workers, tmp_path)) == 2)
    clients = load(workers, 12)
    time.sleep(1.5)
    clients.finish()
    assert clients.failures == []
    pids = {path.name.split("-")[1] for path in (tmp_path / "predictions").glob("*.jsonl")}
    assert pids == {str(pid) for pid in _pids(workers)}
    time.sleep(0.7)
    text = workers.get("/metrics")[1].decode()
    count = next(line for line in text.splitlines() if line.startswith("mainspring_requests_total"))
    assert float(count.rpartition(" ")[2]) == len(clients.acknowledged)
    logged = {record.id for record in read_records(tmp_path / "predictions", 0, 2**60)}
    assert set(clients.acknowledged) <= logged


def test_a_dead_worker_is_replaced_and_nothing_acknowledged_is_lost(workers, tmp_path, load):
    _wait(lambda: len(_ready(workers, tmp_path)) == 2)
    before = set(_pids(workers))
    clients = load(workers, 8)
    time.sleep(0.5)
    os.kill(min(before), signal.SIGKILL)
    _wait(lambda: len(_ready(workers, tmp_path)) == 2 and set(_pids(workers)) != before)
    assert workers.get("/v2/health/ready")[0] == 200
    clients.finish()
    assert len(clients.failures) <= 8
    logged = {record.id for record in read_records(tmp_path / "predictions", 0, 2**60)}
    assert set(clients.acknowledged) <= logged
    time.sleep(0.7)
    text = workers.get("/metrics")[1].decode()
    assert "mainspring_requests_total" in text


def test_a_rolling_restart_and_a_stop_under_load_fail_no_request(workers, tmp_path, load):
    _wait(lambda: len(_ready(workers, tmp_path)) == 2)
    before = set(_pids(workers))
    clients = load(workers, 8)
    time.sleep(0.3)
    workers.process.send_signal(signal.SIGHUP)
    _wait(lambda: not before & set(_pids(workers)) and len(_ready(workers, tmp_path)) == 2, 30)
    time.sleep(0.3)
    clients.finish()
    assert clients.failures == []
    clients = load(workers, 16)
    time.sleep(0.4)
    workers.process.send_signal(signal.SIGTERM)
    assert workers.process.wait(60) == 0
    clients.finish()
    assert clients.failures == []
    logged = {record.id for record in read_records(tmp_path / "predictions", 0, 2**60)}
    assert set(clients.acknowledged) <= logged


def test_a_worker_that_hangs_is_replaced(run_endpoint, deploy, tmp_path):
    deploy(tmp_path)
    process = run_endpoint("--workers", "2", "--timeout", "0.5")
    _wait(lambda: len(_ready(process, tmp_path)) == 2)
    time.sleep(1)
    hanging = min(_pids(process))
    os.kill(hanging, signal.SIGSTOP)
    _wait(lambda: hanging not in _pids(process) and len(_ready(process, tmp_path)) == 2, 40)
    assert process.get("/v2/health/ready")[0] == 200


def test_workers_that_cannot_load_their_model_end_the_whole(tmp_path, model_folder):
    command = [sys.executable, "-m", "mainspring.serving", "--endpoint", "e", "--folder", str(tmp_path / "e")]
    command += ["--port", "0", "--workers", "2", "--model", str(tmp_path / "nothing")]
    result = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert result.returncode == 3
    assert "no MLmodel file" in json.loads(result.stderr.splitlines()[-1])["error"]


@pytest.mark.parametrize(("delay", "lived", "expected"), [(0.2, 1, 0.4), (4, 1, LONGEST_DELAY), (4, 60, FIRST_DELAY)])
def test_the_pause_before_a_restart_grows_and_is_forgotten_after_a_steady_run(delay, lived, expected):
    assert next_delay(delay, lived) == expected


def test_numbers_of_workers_add_up_and_gauges_do_not():
    parts = []
    for count in (2, 3):
        metrics = Metrics("e")
        metrics.revision.set(count)
        for _ in range(count):
            metrics.observe("champion", "1", 200, 0.003, 4)
        parts.append(metrics.samples())
    merged = {(sample.name, dict(sample.labels).get("le", "")): sample.value for sample in merge_samples(parts)}
    assert merged["mainspring_requests_total", ""] == 5
    assert merged["mainspring_rows_total", ""] == 20
    assert merged["mainspring_request_seconds_bucket", "0.005"] == 5
    assert merged["mainspring_request_seconds_bucket", "0.0025"] == 0
    assert merged["mainspring_deployment_revision", ""] == 3


def test_metrics_are_what_prometheus_reads():
    from prometheus_client.parser import text_string_to_metric_families

    metrics = Metrics('odd"name\\')
    metrics.observe("champion", "1", 200, 0.003, 4)
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    assert families["mainspring_requests"].type == "counter"
    (sample,) = families["mainspring_requests"].samples
    assert sample.labels["endpoint"] == 'odd"name\\'
    buckets = [one for one in families["mainspring_request_seconds"].samples if one.name.endswith("_bucket")]
    assert buckets[-1].labels["le"] == "+Inf"
    assert buckets[-1].value == 1
    odd = Sample("a", "words", "gauge", "a", (), 1.0)
    assert b"a{} 1.0" in render_samples([odd])


def test_what_the_command_line_refuses(tmp_path):
    command = [sys.executable, "-m", "mainspring.serving", "--endpoint", "e", "--folder", str(tmp_path)]
    for flags, words in (
        (["--workers", "0"], "cannot serve"),
        (["--workers", "2", "--management", "127.0.0.1:0"], "one process"),
        (["--timeout", "0"], "leaves no time"),
    ):
        result = subprocess.run([*command, *flags], capture_output=True, timeout=60, check=False)
        assert result.returncode == 2
        assert words in json.loads(result.stderr.splitlines()[-1])["error"]


def test_numbers_of_ended_workers_are_kept(tmp_path):
    from mainspring.serving.metrics import read_samples, write_samples
    from mainspring.serving.sharing import ENDED, fold, metrics_path

    (tmp_path / "workers").mkdir()
    for pid in (11, 12):
        metrics = Metrics("e")
        metrics.labels.inc(pid)
        metrics.revision.set(3)
        write_samples(metrics_path(tmp_path, pid), metrics.samples())
        fold(tmp_path, pid)
    assert sorted(path.name for path in Path(tmp_path / "workers").iterdir()) == [ENDED]
    ended = {sample.name: sample.value for sample in read_samples(tmp_path / "workers" / ENDED)}
    assert ended["mainspring_labels_total"] == 23
    assert "mainspring_deployment_revision" not in ended
