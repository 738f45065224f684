"""What one ``log_metric`` costs the training loop: ours and MLflow's client, against the same server, in one run.

    python benchmarks/client/logging_call.py [--calls 2000] [--rounds 3]

Prints medians per call in microseconds: wall time of the calling loop, CPU of the calling thread, CPU of the whole
client process (with what its threads do until everything has arrived), and the time until everything has arrived.
Every count is verified at the server afterwards. Also the cost of importing each client.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMON = """
import json, sys, time
calls = int(sys.argv[1])
def measure(log, drain):
    wall, thread, process = time.perf_counter(), time.thread_time(), time.process_time()
    for step in range(calls):
        log(step)
    looped = time.perf_counter() - wall, time.thread_time() - thread
    drain()
    total = time.perf_counter() - wall, time.process_time() - process
    return [*looped, total[1], total[0]]
"""
OURS = (
    COMMON
    + """
from mainspring import client
with client.start_run(experiment="bench") as run:
    client.log_metric("warm", 1.0); run.flush()
    result = measure(lambda step: client.log_metric("loss", step * 0.5, step=step), lambda: run.flush(120))
print(json.dumps([run.id, result]))
"""
)
MLFLOW = (
    COMMON
    + """
import logging, mlflow
logging.disable()
mlflow.set_experiment("bench")
synchronous = sys.argv[2] == "sync"
with mlflow.start_run() as run:
    mlflow.log_metric("warm", 1.0)
    result = measure(
        lambda step: mlflow.log_metric("loss", step * 0.5, step=step, synchronous=synchronous),
        (lambda: None) if synchronous else mlflow.flush_async_logging,
    )
print(json.dumps([run.info.run_id, result]))
"""
)
CASES = {
    "mainspring.client": (OURS, "", 10),
    "mlflow, synchronous": (MLFLOW, "sync", 1),
    "mlflow, synchronous=False": (MLFLOW, "async", 1),
}


def main() -> None:
    """Start a server, run every case in turn, print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        command = [sys.executable, "-m", "mainspring", "--home", str(home), "--port", "0", "server"]
        server = subprocess.Popen(command, cwd=folder)
        try:
            url = wait_for(home / "server.json")
            environment = {
                **os.environ, "MAINSPRING_HOME": str(home), "MLFLOW_TRACKING_URI": url, "GIT_PYTHON_REFRESH": "quiet",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            }  # fmt: skip
            measured: dict[str, list[list[float]]] = {name: [] for name in CASES}
            for _ in range(options.rounds):
                for name, (code, argument, factor) in CASES.items():
                    measured[name].append(run_case(code, argument, options.calls * factor, environment, url))
            report(measured)
        finally:
            server.terminate()
            server.wait()
    for name in ("from mainspring import client", "import mlflow"):
        report_import(name)


def run_case(code: str, argument: str, calls: int, environment: dict[str, str], url: str) -> list[float]:
    """Run a client in a process of its own, verify what arrived, return microseconds per call."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(calls), argument], env=environment, capture_output=True, text=True, check=True
    )
    run_id, result = json.loads(done.stdout.strip().splitlines()[-1] if argument == "" else find_json(done.stdout))
    from mainspring.client import Client

    with Client(url) as reader:
        arrived = len(reader.metric_history(run_id, "loss"))
    assert arrived == calls, f"{arrived} of {calls} arrived"
    return [value / calls * 1e6 for value in result]


def find_json(output: str) -> str:
    """Return the line with the result; MLflow prints links to the run too."""
    return next(line for line in output.splitlines() if line.startswith("["))


def wait_for(path: Path) -> str:
    """Return the address of the server when it says so."""
    while not path.exists():
        time.sleep(0.05)
    return str(json.loads(path.read_bytes())["url"])


def report(measured: dict[str, list[list[float]]]) -> None:
    """Print medians and how many times more than ours each is."""
    titles = ("loop wall", "loop CPU", "process CPU", "until arrived")
    print(f"{'µs per log_metric (median)':28}" + "".join(f"{title:>16}" for title in titles))
    ours = [statistics.median(column) for column in zip(*measured["mainspring.client"], strict=True)]
    for name, rounds in measured.items():
        medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
        print(f"{name:28}" + "".join(f"{value:>16,.1f}" for value in medians))
        if medians != ours:
            ratios = [f"{value / base:,.0f} x" for value, base in zip(medians, ours, strict=True)]
            print(f"{'':28}" + "".join(f"{ratio:>16}" for ratio in ratios))


def report_import(statement: str) -> None:
    """Print the CPU time of an import, median of five."""
    code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    print(f"{statement:34} {statistics.median(times) * 1000:8.0f} ms CPU")


if __name__ == "__main__":
    main()
