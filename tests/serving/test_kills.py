"""kill -9 under load: what was acknowledged is in the log, nothing torn is read. Long with MAINSPRING_LONG_TESTS=1."""

from __future__ import annotations

import os
import signal
import time

from mainspring.serving import read_records

LONG = os.environ.get("MAINSPRING_LONG_TESTS") == "1"
KILLS, REQUESTS = (10, 30_000) if LONG else (2, 2_000)


def test_no_acknowledged_prediction_is_missing_after_kills(run_endpoint, deploy, tmp_path, load):
    deploy(tmp_path, 1, champion=(90, True, "1"), baseline=(10, True, "2"))
    acknowledged: list[str] = []
    for kill in range(1, KILLS + 1):
        process = run_endpoint()
        clients = load(process, 16)
        end = time.monotonic() + 60
        while len(acknowledged) + len(clients.acknowledged) < REQUESTS * kill // KILLS and time.monotonic() < end:
            time.sleep(0.01)
        process.process.kill()
        process.process.wait()
        clients.finish()
        acknowledged += clients.acknowledged
    logged = [record.id for record in read_records(tmp_path / "predictions", 0, 2**60) if not record.shadow]
    print(f"{KILLS} kills: {len(acknowledged)} acknowledged, {len(logged)} logged")
    assert len(acknowledged) >= REQUESTS * 0.95
    assert len(set(acknowledged)) == len(acknowledged)
    assert set(acknowledged) <= set(logged)
    assert len(set(logged)) == len(logged)


def test_a_sigterm_at_any_moment_fails_no_request_of_16_busy_clients(run_endpoint, deploy, tmp_path, load):
    deploy(tmp_path)
    for round_ in range(5 if LONG else 2):
        process = run_endpoint()
        clients = load(process, 16)
        time.sleep(0.4 + 0.07 * round_)
        process.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.process.wait(60) == 0
        assert time.monotonic() - began < 10
        clients.finish()
        assert clients.failures == []
        logged = {record.id for record in read_records(tmp_path / "predictions", 0, 2**60)}
        assert set(clients.acknowledged) <= logged
