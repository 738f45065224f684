"""``mainspring up``: one supervised process tree."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from mainspring.automation import Trigger, enqueue, list_triggers
from mainspring.core import FixedClock
from mainspring.db import open_database
from mainspring.pipelines import list_tasks


def until(true: Callable[[], object], seconds: float = 90.0) -> bool:
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        if true():
            return True
        sleep(0.05)
    return False


def fetch(url: str, body: object = None) -> tuple[int, bytes]:
    request = Request(url, json.dumps(body).encode() if body else None, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except (URLError, OSError) as error:
        return getattr(error, "code", 0), b""


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    home = folder / ".mainspring"
    for name in ("server.json", "endpoints/flights-delay/endpoint.json"):
        (home / name).unlink(missing_ok=True)
    config = folder / "mainspring.yaml"
    config.write_text(re.sub(r"port: \d+", "port: 0", config.read_text()))
    command = [sys.executable, "-m", "mainspring", "--project", str(folder), "--port", "0", "up"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        endpoint_file = home / "endpoints/flights-delay/endpoint.json"
        assert until(lambda: (home / "server.json").exists() and endpoint_file.exists())
        server = json.loads((home / "server.json").read_bytes())["url"]
        endpoint = json.loads(endpoint_file.read_bytes())["url"]
        assert until(lambda: fetch(f"{endpoint}/v2/health/ready")[0] == 200)
        yield process, server, endpoint
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)


def test_everything_starts_answers_and_stops_together(own_demo: Any) -> None:
    with running(own_demo.folder) as (process, server, _):
        tree = children_of(process.pid)
        assert len(tree) == 3
        assert fetch(f"{server}/health")[0] == 200
        status, page = fetch(f"{server}/")
        assert status == 200
        assert b"flights-delay" in page
    assert process.returncode == 0
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in tree), 5)


def test_a_crashed_endpoint_comes_back_and_has_lost_nothing(own_demo: Any) -> None:
    home = own_demo.folder / ".mainspring"
    with running(own_demo.folder):
        pid = json.loads((home / "endpoints/flights-delay/endpoint.json").read_bytes())["pid"]
        os.kill(pid, signal.SIGKILL)

        def back() -> bool:
            now = json.loads((home / "endpoints/flights-delay/endpoint.json").read_bytes())
            return bool(now["pid"] != pid and fetch(f"{now['url']}/v2/health/ready")[0] == 200)

        assert until(back)
    done = subprocess.run(
        [sys.executable, "-m", "mainspring", "--project", str(own_demo.folder), "why", own_demo.prediction_id],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_two_trees_cannot_run_one_project(own_demo: Any) -> None:
    with running(own_demo.folder):
        done = subprocess.run(
            [sys.executable, "-m", "mainspring", "--project", str(own_demo.folder), "--port", "0", "up"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 4
    assert "up already" in done.stderr


def test_a_training_that_was_killed_goes_on_when_mainspring_is_up_again(own_demo: Any) -> None:
    database = open_database(f"sqlite:///{own_demo.folder}/.mainspring/mainspring.db")

    def newest() -> Trigger:
        with database.read() as connection:
            return list_triggers(connection, limit=1)[0]

    def training_runs() -> bool:
        trigger = newest()
        if trigger.id != queued.id or trigger.run_id is None:
            return False
        with database.read() as connection:
            states = {task.name: task.state for task in list_tasks(connection, trigger.run_id)}
        return states["train"] == "RUNNING"

    with running(own_demo.folder) as (process, _, _):
        tree = [process.pid, *children_of(process.pid)]
        with database.write() as connection:
            queued = enqueue(connection, FixedClock(2_000_000_000_000), kind="on_demand", pipeline="train", reason="t")
        assert queued is not None
        assert until(training_runs, 60)
        for pid in tree:
            os.kill(pid, signal.SIGKILL)
        process.wait()
    assert newest().state == "RUNNING"

    with running(own_demo.folder):
        assert until(lambda: newest().state != "RUNNING", 90)
    ended = newest()
    assert (ended.id, ended.state) == (queued.id, "DONE")
    with database.read() as connection:
        tasks = {task.name: task for task in list_tasks(connection, str(ended.run_id))}
    assert tasks["train"].attempt == 2
    assert tasks["validate"].attempt == 1
    database.close()


def test_every_page_of_the_console_has_a_json_twin(own_demo: Any) -> None:
    with running(own_demo.folder) as (_, server, _):
        for page in ("/runs", "/models", "/models/flights-delay", "/endpoints", "/endpoints/flights-delay",
                     "/monitors", "/monitors/flights-delay", "/events"):  # fmt: skip
            status, html = fetch(server + page)
            assert status == 200, page
            assert html.lstrip().lower().startswith(b"<!doctype html>"), page
            status, twin = fetch(f"{server}{page}.json")
            assert status == 200, page
            assert json.loads(twin), page
