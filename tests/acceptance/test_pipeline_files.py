"""Pipelines in files, through the real command line: run, ask, cancel, retry; no project and no server needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

SOURCE = """
from kfp import dsl

@dsl.component
def double(x: int) -> int:
    print(f"doubling {x}")
    return 2 * x

@dsl.component
def guarded(x: int, switch: str) -> int:
    import os
    if os.path.exists(switch):
        raise RuntimeError("the switch is on")
    return x + 1

@dsl.component
def wait(path: str, seconds: float) -> str:
    import os, time
    open(path, "w").write(str(os.getpid()))
    print("waiting", flush=True)
    time.sleep(seconds)
    return "waited"

@dsl.pipeline
def sums(x: int = 1, switch: str = "/nonexistent/switch") -> int:
    with dsl.ParallelFor([1, 2, 3]) as item:
        double(x=item)
    return guarded(x=double(x=x).output, switch=switch).output

@dsl.pipeline
def waiting(path: str, seconds: float = 60.0) -> str:
    return wait(path=path, seconds=seconds).output
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline file, and what it compiles to."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "pipes.py").write_text(SOURCE)
    done = cli(folder, "compile", "pipes.py:sums", "-o", "sums.yaml")
    assert done.returncode == 0, done.stderr
    return folder


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mainspring", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_a_compiled_file_runs_and_answers_with_one_json_object(folder: Path, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    done = cli(folder, "run", "sums.yaml", "-p", "x=20", "--home", home, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["state"], answer["error"], answer["outputs"]) == ("SUCCEEDED", "", {"Output": 41})
    assert {task["state"] for task in answer["tasks"]} == {"SUCCEEDED"}
    assert len(answer["tasks"]) == 5
    assert all(task["started"] <= task["ended"] and task["cached"] is False for task in answer["tasks"])
    assert "complete" in done.stderr
    id = answer["run_id"]

    forecast = cli(folder, "--home", home, "run", "sums.yaml", "-p", "x=20", "--dry-run")
    assert forecast.returncode == 0, forecast.stderr
    assert "5 cached" in forecast.stdout
    forecast = cli(folder, "--home", home, "run", "sums.yaml", "-p", "x=21", "--dry-run")
    assert "3 cached, 1 runs, 1 waits" in forecast.stdout

    again = cli(folder, "--home", home, "run", "sums.yaml", "-p", "x=21", "--json")
    tasks = json.loads(again.stdout)["tasks"]
    assert sum(task["cached"] for task in tasks) == 3
    name = next(task["name"] for task in tasks if not task["cached"] and task["name"].startswith("double"))
    why = cli(folder, "--home", home, "pipelines", "explain", json.loads(again.stdout)["run_id"], name)
    assert "miss: no earlier result" in why.stdout
    assert "parameter 'x' was 20, now 21" in why.stdout

    drawn = cli(folder, "--home", home, "graph", id, "--why")
    assert drawn.returncode == 0, drawn.stderr
    assert "guarded  complete" in drawn.stdout
    assert "for-loop-2" in drawn.stdout
    logs = cli(folder, "--home", home, "logs", id)
    assert "| doubling 20" in logs.stdout
    listed = cli(folder, "--home", home, "pipelines", "list")
    assert id in listed.stdout
    listed = cli(folder, "--home", home, "pipelines", "list", "--json")
    found = {run["run_id"]: run for run in json.loads(listed.stdout)}
    assert found[id]["state"] == "SUCCEEDED"
    assert found[id]["started"] <= found[id]["ended"]


def test_a_failed_run_says_so_and_retry_mends_it(folder: Path, tmp_path: Path) -> None:
    home, switch = str(tmp_path / "home"), tmp_path / "switch"
    switch.touch()
    done = cli(folder, "run", "pipes.py:sums", "-p", f"switch={switch}", "--home", home, "--json")
    assert done.returncode == 8
    answer = json.loads(done.stdout)
    assert answer["state"] == "FAILED"
    assert answer["error"] == "Task guarded failed: RuntimeError: the switch is on"
    assert f"mainspring retry {answer['run_id']}" in done.stderr
    switch.unlink()
    retried = cli(folder, "--home", home, "retry", answer["run_id"], "--json")
    assert retried.returncode == 0, retried.stderr
    now = json.loads(retried.stdout)
    assert (now["run_id"], now["state"], now["outputs"]) == (answer["run_id"], "SUCCEEDED", {"Output": 3})
    assert sum(task["attempts"] for task in now["tasks"]) == 6


def test_cancel_from_another_process_stops_the_step(folder: Path, tmp_path: Path) -> None:
    home, pid_file = str(tmp_path / "home"), tmp_path / "pid"
    command = [sys.executable, "-m", "mainspring", "--home", home, "run", "pipes.py:waiting", "-p", f"path={pid_file}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().split()[-1]
        follow = [sys.executable, "-m", "mainspring", "--home", home, "logs", "-f", run_id]
        follower = subprocess.Popen(follow, stdout=subprocess.PIPE, text=True, cwd=folder)
        deadline = monotonic() + 60
        while not pid_file.is_file() or not pid_file.read_text():
            assert monotonic() < deadline
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            sleep(0.05)
        canceled = cli(folder, "--home", home, "cancel", run_id)
        assert canceled.returncode == 0, canceled.stderr
        process.wait(60)
        assert process.returncode == 8
        assert f"Run {run_id} was canceled" in (process.stderr.read() if process.stderr else "")
    output, _ = follower.communicate(timeout=90)
    assert "wait | waiting" in output
    stat = Path(f"/proc/{pid_file.read_text()}/stat")
    assert not stat.exists()


def test_after_kill_9_resume_goes_on_and_a_worker_runs_a_detached_run(folder: Path, tmp_path: Path) -> None:
    home, pid_file = str(tmp_path / "home"), tmp_path / "pid"
    detached = cli(folder, "--home", home, "run", "sums.yaml", "--detach")
    run_id = detached.stdout.strip()
    worker = subprocess.Popen([sys.executable, "-m", "mainspring", "--home", home, "worker"], cwd=folder)
    try:
        deadline = monotonic() + 60
        while "complete" not in (shown := cli(folder, "--home", home, "graph", run_id).stdout.splitlines()[0]):
            assert monotonic() < deadline, shown
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0

    command = [sys.executable, "-m", "mainspring", "--home", home, "run", "pipes.py:waiting"]
    command += ["-p", f"path={pid_file}", "-p", "seconds=1.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().split()[-1]
        while not pid_file.is_file():
            sleep(0.05)
        process.kill()
    resumed = cli(folder, "--home", home, "resume", run_id, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["outputs"] == {"Output": "waited"}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("sums.yaml", "-p", "y=1"), ["has no parameter 'y'", "Its parameters: switch, x"]),
        (("sums.yaml", "-p", "x=one"), ["parameter 'x': \"one\" is not a whole number"]),
        (("missing.yaml",), ["There is no file missing.yaml"]),
        (("pipes.py",), ["defines: ", "sums, waiting"]),
        (("broken.yaml",), ["malformed", "$.root"]),
    ],
    ids=["unknown parameter", "wrong type", "no file", "two pipelines", "malformed"],
)
def test_bad_input_is_one_line_and_still_json(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], parts: list[str]
) -> None:
    (folder / "broken.yaml").write_text("pipelineInfo: {name: x}\nroot: {dag: 5}\n")
    done = cli(folder, "run", *arguments, "--home", str(tmp_path / "home"), "--json")
    assert done.returncode not in (0, 1)
    answer = json.loads(done.stdout)
    assert (answer["state"], answer["run_id"]) == ("FAILED", "")
    for part in parts:
        assert part in answer["error"]
    assert "Traceback" not in done.stderr
