"""Logging through a real server: what was acknowledged arrives, whatever happens to the server or to us."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mainspring import client
from mainspring.client import shipper, spool
from mainspring.core import Conflict, InvalidInput, NotFound, Unavailable

LONG = os.environ.get("MAINSPRING_LONG_TESTS") == "1"
DEAD = "http://127.0.0.1:9"


def test_everything_logged_can_be_read_back(server: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("seen")
    with client.start_run(
        experiment="all", name="one", params={"lr": 0.1}, tags={"team": "a"}, home=server.home
    ) as run:
        client.log_metric("loss", 0.5, step=1, timestamp=1000)
        client.log_metric("loss", 0.25, step=2, timestamp=2000)
        client.log_metric("loss", 0.25, step=2, timestamp=2000)
        client.log_metrics({"nan": math.nan, "up": math.inf, "down": -math.inf, "größe/µ": np.float32(2.0)}, step=3)
        client.log_params({"depth": 8})
        client.set_tags({"note": 'with "quotes"\nand lines'})
        client.log_artifact(tmp_path / "notes.txt", "texts")
        (tmp_path / "notes.txt").write_text("changed later")
    with server.read() as reader:
        found = reader.run(run.id)
        assert (found.name, found.status, found.params) == ("one", "FINISHED", {"lr": "0.1", "depth": "8"})
        assert math.isnan(found.metrics.pop("nan"))
        biggest = 1.7976931348623157e308
        assert found.metrics == {"loss": 0.25, "up": biggest, "down": -biggest, "größe/µ": 2.0}
        assert found.tags["note"] == 'with "quotes"\nand lines'
        assert found.tags["team"] == "a"
        history = reader.metric_history(run.id, "loss")
        assert [(point.step, point.value, point.timestamp) for point in history] == [(1, 0.5, 1000), (2, 0.25, 2000)]
        assert [found.id for found in reader.runs("all", filter="metrics.loss < 0.3")] == [run.id]
        frame = reader.runs_frame("all")
        assert frame["metrics.loss"].to_list() == [0.25]
        content = reader._connection.get(
            f"/api/2.0/mlflow-artifacts/artifacts/{found.experiment_id}/{run.id}/artifacts/texts/notes.txt"
        )
        assert content == b"seen"
    assert not list((server.home / "spool").iterdir())


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda run: run.log_metric("a/../b", 1.0), "a/../b"),
        (lambda run: run.log_metric("m", "0.5"), "text"),
        (lambda run: run.log_metrics({"good": 1.0, "bad": None}), "'bad'"),
        (lambda run: run.log_metric("m", 1.0, step=2**70), "64 bits"),
        (lambda run: run.log_metric("m", 1.0, step=1.5), "whole number"),
        (lambda run: run.log_param("p", "x" * 6001), "6001"),
        (lambda run: run.log_params({"lr": 2}), "lr"),
        (lambda run: run.set_tag("t", "x" * 8001), "8001"),
        (lambda run: run.set_tag("t", "half \ud800"), "surrogate"),
        (lambda run: run.log_artifact("/nowhere"), "/nowhere"),
        (lambda run: run.end("DONE"), "DONE"),
    ],
)
def test_what_is_wrong_is_said_at_the_call_and_not_spooled(tmp_path: Path, call, named: str) -> None:
    with client.start_run(home=tmp_path, params={"lr": 1}) as run:
        before = run.spool.read_bytes()
        with pytest.raises((InvalidInput, NotFound), match=named):
            call(run)
        assert run.spool.read_bytes() == before


def test_there_is_one_current_run_unless_nested(server: Any) -> None:
    with pytest.raises(Conflict, match="No run is active"):
        client.log_metric("loss", 1.0)
    with client.start_run(home=server.home) as parent:
        with pytest.raises(Conflict, match="nested"):
            client.start_run(home=server.home)
        with client.start_run(home=server.home, nested=True) as child:
            assert client.active_run() is child
        assert client.active_run() is parent
    with pytest.raises(Conflict, match="has ended"):
        parent.log_metric("late", 1.0)
    with server.read() as reader:
        assert reader.run(child.id).tags["mlflow.parentRunId"] == parent.id


def test_a_run_goes_on_under_its_id(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with client.start_run(home=server.home) as first:
        client.log_metric("a", 1.0)
    monkeypatch.setenv("MLFLOW_RUN_ID", first.id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    with client.start_run(home=server.home) as second:
        client.log_metric("b", 2.0)
    with server.read() as reader:
        assert second.id == first.id
        assert reader.run(first.id).metrics == {"a": 1.0, "b": 2.0}
    with pytest.raises(NotFound):
        client.start_run(run_id="0" * 32, home=server.home)


def test_a_task_of_a_pipeline_marks_its_run(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "MLFLOW_RUN_CONTEXT", json.dumps({"mainspring.pipeline_run_id": "01abc", "mainspring.event": ""})
    )
    monkeypatch.setenv("MAINSPRING_HOME", str(server.home))
    with client.start_run() as run:
        pass
    with server.read() as reader:
        assert reader.run(run.id).tags["mainspring.pipeline_run_id"] == "01abc"


def test_an_exception_fails_the_run(server: Any) -> None:
    with pytest.raises(ZeroDivisionError), client.start_run(home=server.home) as run:
        raise ZeroDivisionError
    with server.read() as reader:
        assert reader.run(run.id).status == "FAILED"


@pytest.mark.parametrize(("end", "status"), [("", "FINISHED"), ("raise ValueError", "FAILED")])
def test_a_program_that_forgets_to_end_its_run_loses_nothing(
    server: Any, program: Callable, end: str, status: str
) -> None:
    code = f"""
from mainspring import client
run = client.start_run()
print(run.id)
for step in range(3000):
    client.log_metric("loss", step * 0.5, step=step)
{end}
"""
    done = program(code, MAINSPRING_HOME=str(server.home))
    id = done.communicate(timeout=90)[0].strip()
    with server.read() as reader:
        assert reader.run(id).status == status
        assert len(reader.metric_history(id, "loss")) == 3000


def test_a_forked_child_logs_to_its_parents_run(server: Any) -> None:
    with client.start_run(home=server.home) as run:
        client.log_metric("parent", 1.0)
        child = os.fork()
        if child == 0:
            client.log_metric("child", 2.0)
            os._exit(0)
        os.waitpid(child, 0)
    with server.read() as reader:
        found = reader.run(run.id)
    assert (found.metrics, found.status) == ({"parent": 1.0, "child": 2.0}, "FINISHED")


def test_threads_log_to_one_run(server: Any) -> None:
    with client.start_run(home=server.home) as run:
        threads = [
            threading.Thread(target=lambda n=n: [run.log_metric(f"m{n}", step, step=step) for step in range(500)])
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with server.read() as reader:
        assert reader.run(run.id).metrics == {f"m{n}": 499.0 for n in range(8)}
        assert len(reader.metric_history(run.id, "m3")) == 500


def test_a_dead_server_neither_fails_nor_slows_nor_fills_the_memory(own_server: Any) -> None:
    own_server.home.mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with client.start_run(home=own_server.home, url=DEAD, name="alone") as run:
        started = time.thread_time()
        for step in range(100_000):
            client.log_metric("loss", 0.5, step=step, timestamp=step)
        took = time.thread_time() - started
        assert not run.flush(5)
    assert took < 5.0  # 50 µs each on the slowest machine; measured: 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
    header = json.loads(run.spool.read_bytes().split(b"\n")[0])
    assert (header["run_id"], header["name"]) == (run.id, "alone")


def test_a_run_started_without_a_server_is_sent_when_there_is_one(own_server: Any) -> None:
    own_server.home.mkdir()
    with client.start_run(home=own_server.home, experiment="later", params={"lr": 1}) as run:
        for step in range(2500):
            client.log_metric("loss", step, step=step)
    with pytest.raises(Unavailable, match="No server"):
        client.send_leftovers(own_server.home)
    own_server.start()
    assert client.send_leftovers(own_server.home).spools == 1
    assert client.send_leftovers(own_server.home).spools == 0
    with own_server.read() as reader:
        (found,) = reader.runs("later")
        assert found.id == run.id or found.tags[client.SPOOL_TAG] == run.id
        assert (found.status, found.params) == ("FINISHED", {"lr": "1"})
        assert len(reader.metric_history(found.id, "loss")) == 2500


def test_a_server_that_is_killed_and_comes_back_misses_nothing(
    own_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper, "back_off", lambda _: 0.05)
    own_server.start()
    with client.start_run(home=own_server.home) as run:
        for step in range(4000):
            client.log_metric("loss", step * 0.5, step=step, timestamp=step)
            if step in (1000, 3000):
                run.flush(0.0)
                own_server.kill()
                own_server.start()
        assert run.flush(30)
    with own_server.read() as reader:
        history = reader.metric_history(run.id, "loss")
        assert [(point.step, point.value) for point in history] == [(step, step * 0.5) for step in range(4000)]
        assert len(reader.runs("Default")) == 1


KILLED = """
from mainspring import client
from mainspring.client import spool
import os, sys
spool.COMPACT_BYTES = int(sys.argv[1]) if len(sys.argv) > 1 else spool.COMPACT_BYTES
run = client.start_run(experiment="killed")
os.write(1, (run.id + "\\n").encode())
for step in range(1_000_000):
    client.log_metric("loss", step * 0.5, step=step)
    os.write(1, b"%d\\n" % step)
"""


@pytest.mark.parametrize("number", range(50 if LONG else 3))
def test_what_was_acknowledged_survives_kill_9(server: Any, program: Callable, tmp_path: Path, number: int) -> None:
    """A third of the time without a server, a third with one, a third with one and spools that start again often."""
    home = tmp_path if number % 3 == 0 else server.home
    process = program(KILLED, *(["3000"] if number % 3 == 2 else []), MAINSPRING_HOME=str(home))
    assert process.stdout is not None
    id, first = process.stdout.readline().strip(), process.stdout.readline()
    time.sleep(number % 10 * 0.05)
    process.send_signal(signal.SIGKILL)
    acknowledged = [int(line) for line in (first + process.stdout.read()).split("\n")[:-1]]
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert client.send_leftovers(home, url=server.url).refused == 0
    with server.read() as reader:
        found = next(run for run in reader.runs("killed") if id in (run.id, run.tags.get(client.SPOOL_TAG)))
        steps = [point.step for point in reader.metric_history(found.id, "loss")]
    assert found.status == "KILLED"
    assert steps == list(range(len(steps)))
    assert len(steps) > acknowledged[-1]
    assert not list((home / "spool").glob("*.spool"))


def test_a_spool_does_not_grow_for_ever(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "COMPACT_BYTES", 20_000)
    sizes = []
    with client.start_run(home=server.home) as run:
        for step in range(5000):
            client.log_metric("loss", step * 0.5, step=step)
            if step % 500 == 499:
                assert run.flush()
                sizes.append(run.spool.stat().st_size)
    with server.read() as reader:
        assert [point.step for point in reader.metric_history(run.id, "loss")] == list(range(5000))
    assert max(sizes) < 100_000  # all of it is 190,000


def test_many_programs_log_at_the_same_time(server: Any, program: Callable) -> None:
    """Eight programs, each its own run, all of it counted."""
    count = 20_000 if LONG else 1000
    code = f"""
from mainspring import client
with client.start_run(experiment="many") as run:
    for step in range({count}):
        client.log_metrics({{"a": step * 0.5, "b": -step}}, step=step)
print(run.id)
"""
    programs = [program(code, MAINSPRING_HOME=str(server.home)) for _ in range(8 if LONG else 3)]
    ids = [process.communicate(timeout=300)[0].strip() for process in programs]
    with server.read() as reader:
        for id in ids:
            assert reader.run(id).status == "FINISHED"
            assert [len(reader.metric_history(id, key)) for key in "ab"] == [count, count]


def test_the_next_run_sends_what_a_killed_one_left(server: Any, program: Callable) -> None:
    process = program(KILLED, MAINSPRING_HOME=str(server.home), MAINSPRING_URL=DEAD)
    assert process.stdout is not None
    id = process.stdout.readline().strip()
    process.kill()
    process.communicate()
    left = next((server.home / "spool").glob(f"{id}.*.spool"))
    left.write_bytes(left.read_bytes().replace(DEAD.encode(), b""))  # made for no server in particular
    with client.start_run(home=server.home):
        deadline = time.monotonic() + 60
        while left.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not left.exists()


def test_sending_twice_changes_nothing(server: Any, tmp_path: Path) -> None:
    with client.start_run(home=tmp_path, experiment="twice", params={"a": 1}) as run:
        client.log_metrics({"x": 1.0, "y": 2.0}, step=1)
    content = run.spool.read_bytes()
    for _ in range(2):  # the second time as if the first answer had been lost
        run.spool.write_bytes(content)
        assert client.ship_to_server(tmp_path / "spool", server.url).spools == 1
    with server.read() as reader:
        (found,) = reader.runs("twice")
        assert len(reader.metric_history(found.id, "x")) == 1


FULL = """
import resource, sys
from mainspring import client
from mainspring.core import Unavailable
run = client.start_run()
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
step = 0
try:
    while True:
        run.log_metric("loss", step * 0.5, step=step)
        step += 1
except Unavailable as error:
    print(run.id, step, str(error).count("Is the disk full?"))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
run.log_metric("after", 1.0)
"""


def test_a_full_disk_is_said_and_harms_nothing_that_was_acknowledged(
    server: Any, program: Callable, tmp_path: Path
) -> None:
    output, errors = program(FULL, MAINSPRING_HOME=str(tmp_path)).communicate(timeout=60)
    id, count, hints = output.split()
    assert (hints, errors) == ("1", "")
    assert client.send_leftovers(tmp_path, url=server.url).refused == 0
    with server.read() as reader:
        found = next(run for run in reader.runs() if id in (run.id, run.tags.get(client.SPOOL_TAG)))
        assert [point.step for point in reader.metric_history(found.id, "loss")] == list(range(int(count)))
        assert found.metrics["after"] == 1.0


def test_a_file_a_server_refuses_is_kept(server: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("precious")
    with client.start_run(home=tmp_path, experiment="files") as run:
        run.log_artifact(tmp_path / "a.txt", "trees:")
        run.log_metric("loss", 1.0)
    assert client.ship_to_server(tmp_path / "spool", server.url).refused == 1
    (kept,) = (tmp_path / "spool").glob("*.refused-files/*")
    assert kept.read_text() == "precious"
    assert "trees:/a.txt" in next((tmp_path / "spool").glob("*.refused")).read_text()


def test_what_a_server_refuses_is_set_aside_and_the_rest_arrives(server: Any) -> None:
    with client.start_run(home=server.home, params={"lr": 1}) as run:
        run.flush()
        with client.start_run(home=server.home, run_id=run.id, nested=True) as again:
            again.log_params({"lr": 2, "depth": 3})
            again.log_metric("loss", 1.0)
    with server.read() as reader:
        found = reader.run(run.id)
    assert (found.params, found.metrics) == ({"lr": "1", "depth": "3"}, {"loss": 1.0})
    (refused,) = (server.home / "spool").glob("*.refused")
    line = json.loads(refused.read_text())
    refused.unlink()
    assert line["params"] == {"lr": "2"}
    assert "lr" in line["error"]


def test_the_writing_side_imports_little() -> None:
    code = (
        "import sys; from mainspring import client; heavy = ('sqlalchemy', 'msgspec', 'polars', 'numpy', 'requests',"
        " 'mlflow', 'http.client', 'ssl'); print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
