"""What is measured: each operation of the comparison, its bar, and how often it is repeated."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from servers import Connection, Server, fill_mlflow

BARS = {
    "log_metric, 1 client": 1.0,
    "log_metric, 8 clients": 1.0,
    "log_batch(1000)": 20.0,
    "create_run": 1.0,
    "search: latest 100 of 10k": 10.0,
    "search: order by metric": 20.0,
    "search: metric + param filter": 20.0,
    "search: read all 10k": 800.0,
    "history of 100k points": 300.0,
    "cold start": 500.0,
    "idle memory, MiB": 60.0,
}
"""CPU milliseconds of the whole process tree per operation (memory: MiB)."""

WRITES = ("log_metric, 1 client", "log_metric, 8 clients", "log_batch(1000)", "create_run")
READS = tuple(name for name in BARS if name.startswith(("search", "history")))
START = 1_700_000_000_000


@dataclass(frozen=True)
class Figure:
    """CPU and wall time of one operation in milliseconds, and how many were measured."""

    cpu_ms: float
    wall_ms: float
    count: int


def sample_run(number: int) -> dict[str, object]:
    """Return what run ``number`` of the store holds: 10 metrics, 10 params, 2 tags."""
    chance = random.Random(number)
    moment = START + number * 1000
    return {
        "run_name": f"run-{number}",
        "start_time": moment,
        "metrics": [
            {"key": f"m{index}", "value": chance.random(), "timestamp": moment, "step": 0} for index in range(10)
        ],
        "params": [{"key": f"p{index}", "value": str(chance.randrange(20))} for index in range(10)],
        "tags": [{"key": "team", "value": f"t{number % 7}"}, {"key": "kind", "value": "bench"}],
    }


def new_run(connection: Connection, experiment: str, name: str = "bench", start: int = START) -> str:
    """Create a run and return its id."""
    body = {"experiment_id": experiment, "run_name": name, "start_time": start, "user_id": "bench", "tags": []}
    return connection.post("runs/create", body)["run"]["info"]["run_id"]


def measure(server: Server, work: Callable[[], None], *, seconds: float, at_least: int, per_call: int = 1) -> Figure:
    """Repeat some work for a time and return its cost; one call before that warms up."""
    work()
    cpu, started, count = server.cpu(), time.perf_counter(), 0
    while count < at_least or time.perf_counter() - started < seconds:
        work()
        count += 1
    wall = time.perf_counter() - started
    done = count * per_call
    return Figure((server.cpu() - cpu) * 1000 / done, wall * 1000 / done, done)


def log_metric(server: Server, clients: int, seconds: float) -> Figure:
    """Log single values, each client to a run of its own."""
    counts = [0] * clients
    links = [server.connect() for _ in range(clients)]
    runs = [new_run(link, "0") for link in links]
    until = 0.0

    def client(index: int) -> None:
        while time.perf_counter() < until:
            step = counts[index]
            body = {"run_id": runs[index], "key": "loss", "value": step * 0.1, "timestamp": START + step, "step": step}
            links[index].post("runs/log-metric", body)
            counts[index] += 1

    until = time.perf_counter() + 0.3
    client(0)
    counts[0], warm = 0, counts[0]
    counts[0] = warm
    before = sum(counts)
    threads = [threading.Thread(target=client, args=(index,)) for index in range(clients)]
    cpu, started = server.cpu(), time.perf_counter()
    until = started + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done, wall = sum(counts) - before, time.perf_counter() - started
    return Figure((server.cpu() - cpu) * 1000 / done, wall * 1000 * clients / done, done)


def create_run(server: Server, seconds: float) -> Figure:
    """Create runs, one after the other."""
    link = server.connect()

    def work() -> None:
        new_run(link, "0")

    return measure(server, work, seconds=seconds, at_least=20)


def log_batch(server: Server, batches: int) -> tuple[Figure, str]:
    """Log batches of 1000 values of one metric; return the run as well, whose history is then ``batches`` thousand."""
    link = server.connect()
    run = new_run(link, "0")
    step = 0

    def work() -> None:
        nonlocal step
        metrics = [
            {"key": "loss", "value": (step + index) * 0.37, "timestamp": START + step + index, "step": step + index}
            for index in range(1000)
        ]
        link.post("runs/log-batch", {"run_id": run, "metrics": metrics, "params": [], "tags": []})
        step += 1000

    return measure(server, work, seconds=0, at_least=batches - 1), run


def fill(server: Server, runs: int) -> str:
    """Make an experiment with many runs and return its id."""
    link = server.connect()
    experiment = str(link.post("experiments/create", {"name": "many"})["experiment_id"])
    if server.peer.name == "mlflow":
        fill_mlflow(server.folder, runs, experiment)
        return experiment
    for number in range(runs):
        sample = sample_run(number)
        run = new_run(link, experiment, str(sample["run_name"]), int(str(sample["start_time"])))
        batch = {"run_id": run, "metrics": sample["metrics"], "params": sample["params"], "tags": sample["tags"]}
        link.post("runs/log-batch", batch)
    return experiment


def search(server: Server, experiment: str, seconds: float, at_least: int, **query: object) -> Figure:
    """Search for one page of 100 runs."""
    link = server.connect()

    def work() -> None:
        found = link.post("runs/search", {"experiment_ids": [experiment], "max_results": 100, **query})
        assert found["runs"]

    return measure(server, work, seconds=seconds, at_least=at_least)


def read_all(server: Server, experiment: str, runs: int, times: int) -> Figure:
    """Read all runs in pages of 1000, as `MlflowClient` does."""
    link = server.connect()

    def work() -> None:
        token, seen = "", 0
        while True:
            body = {"experiment_ids": [experiment], "max_results": 1000, "page_token": token}
            page = link.post("runs/search", {name: value for name, value in body.items() if value})
            seen += len(page.get("runs", []))
            token = page.get("next_page_token", "")
            if not token or seen >= runs:  # FastTrackML's last token cannot be read by itself
                break
        assert seen == runs, seen

    cpu, started = server.cpu(), time.perf_counter()
    for _ in range(times):
        work()
    return Figure((server.cpu() - cpu) * 1000 / times, (time.perf_counter() - started) * 1000 / times, times)


def read_history(server: Server, run: str, points: int, times: int) -> Figure:
    """Read the history of one metric in pages of 25,000, as `MlflowClient` does."""
    link = server.connect()

    def work() -> None:
        token, seen = "", 0
        while True:
            path = f"metrics/get-history?run_id={run}&metric_key=loss&max_results=25000"
            page = link.get(path + (f"&page_token={quote(token)}" if token else ""))
            seen += len(page["metrics"])
            token = page.get("next_page_token", "")
            if not token or seen >= points:
                break
        assert seen == points, seen

    cpu, started = server.cpu(), time.perf_counter()
    for _ in range(times):
        work()
    return Figure((server.cpu() - cpu) * 1000 / times, (time.perf_counter() - started) * 1000 / times, times)
