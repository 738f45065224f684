"""What was logged without a server reaches the store when somebody opens it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mainspring import client
from mainspring.exchange import absorb_spools
from mainspring.tracking import find_run, get_run, metric_history, read_run_artifact


def test_a_run_logged_without_a_server_keeps_its_id(new_store: Callable, tmp_path: Path) -> None:
    store = new_store()
    (tmp_path / "a.txt").write_text("a")
    with client.start_run(experiment="alone", name="n", params={"lr": 1}, home=store.settings.home) as run:
        for step in range(2500):
            run.log_metric("loss", step / 2, step=step)
        run.log_metric("odd", math.nan)
        run.set_tag("team", "x")
        run.log_artifact(tmp_path / "a.txt")
        assert absorb_spools(store).waiting == 1  # it is still being written
    shipped = absorb_spools(store)
    assert (shipped.spools, shipped.records, shipped.refused) == (1, 2504, 0)
    assert absorb_spools(store).spools == 0
    with store.database.read() as connection:
        found = get_run(connection, run.id)
        assert (found.name, found.status, found.params[0].value, found.tags["team"]) == ("n", "FINISHED", "1", "x")
        history = metric_history(connection, find_run(connection, run.id).number, "loss")
        assert [metric.value for metric in history] == [step / 2 for step in range(2500)]
        assert read_run_artifact(connection, store.blobs, run.id, "a.txt") == b"a"


def test_what_belongs_to_a_server_is_left_for_it(new_store: Callable) -> None:
    store = new_store()
    with client.start_run(home=store.settings.home, url="http://127.0.0.1:9"):
        client.log_metric("loss", 1.0)
    assert absorb_spools(store).waiting == 1


def test_what_was_meant_for_the_homes_own_server_does_not_depend_on_its_port(new_store: Callable) -> None:
    """The engine starts a server for a pipeline run on a free port; a spool left behind outlives that port."""
    store = new_store()
    (store.settings.home / "server.json").write_text('{"url": "http://127.0.0.1:9", "pid": 1}')
    with client.start_run(home=store.settings.home, url="http://localhost:9") as run:
        client.log_metric("loss", 1.0)
    (store.settings.home / "server.json").unlink()
    assert absorb_spools(store).spools == 1
    with store.database.read() as connection:
        assert get_run(connection, run.id).status == "FINISHED"


def test_a_run_that_cannot_be_made_does_not_hold_up_the_others(new_store: Callable, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "404")
    store = new_store()
    spools = store.settings.home / "spool"
    for environment in ("404", "0"):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", environment)
        with client.start_run(home=store.settings.home):
            client.log_metric("loss", 1.0)
    shipped = absorb_spools(store)
    assert (shipped.spools, shipped.waiting) == (1, 1)
    assert len(list(spools.glob("*.spool"))) == 1


def test_taking_in_twice_changes_nothing(new_store: Callable) -> None:
    store = new_store()
    with client.start_run(home=store.settings.home) as run:
        run.log_metric("loss", 1.0, step=1)
    lines = run.spool.read_bytes()
    for _ in range(2):
        run.spool.write_bytes(lines)
        assert absorb_spools(store).refused == 0
    with store.database.read() as connection:
        assert len(metric_history(connection, find_run(connection, run.id).number, "loss")) == 1


def test_a_server_takes_in_what_was_spooled_before_it_started(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with client.start_run(experiment="alone", home=home) as run:
        run.log_metric("loss", 0.5)
    broken = run.spool.with_name("broken.1.spool")
    broken.write_bytes(b"no spool\n")
    command = [sys.executable, "-m", "mainspring", "server", "--port", "0", "--home", str(home)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 90
        while run.spool.exists():
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, "the spool is still there"
            time.sleep(0.05)
        url = json.loads((home / "server.json").read_bytes())["url"]
        with client.Client(url) as reader:
            assert (reader.run(run.id).status, reader.run(run.id).metrics) == ("FINISHED", {"loss": 0.5})
    finally:
        server.terminate()
        assert server.wait(60) == 0
    assert (tmp_path / "log").read_text().count("broken.1.spool") == 1
    assert broken.exists()
