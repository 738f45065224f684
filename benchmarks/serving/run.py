"""Compare ``mainspring serve`` with other model servers: same model, one core each, wrk on another core.

    benchmarks/serving/setup ENVS
    python benchmarks/serving/run.py --envs ENVS [--seconds 3] [--runs 3] [--only NAME …]

Prints one row per server, the ratios to the best peer, and whether the bars are held. CPU milliseconds per request
(of the server's whole process tree) wobble least on a machine that others use too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
from make_models import make_models

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Server:
    """How a server is started and asked."""

    name: str
    command: list[str]
    path: str
    health: str
    variables: dict[str, str] = field(default_factory=dict)
    form: str = "instances"
    files: dict[str, object] = field(default_factory=dict)
    is_ours: bool = False


@dataclass
class Load:
    """What wrk measured: medians over the runs."""

    rate: float
    p50: float
    p99: float
    cpu_ms: float
    failed: int


@dataclass
class Result:
    """One row of the table."""

    server: Server
    ready: float
    rss: float
    loads: dict[str, Load]


def servers(envs: Path, models: Path, port: int, state: Path) -> list[Server]:
    """Return every server of the comparison; those whose environment is missing are named and left out."""
    python = str(ROOT / ".venv/bin/python")
    ours = [python, "-m", "mainspring.serving", "--endpoint", "m", "--port", str(port), "--folder", str(state / "log")]
    file = {"MODEL_FILE": str(models / "model.joblib")}
    settings = {
        "settings.json": {
            "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2, "parallel_workers": 0, "debug": False,
            "metrics_endpoint": None,
        },
        "model-settings.json": {
            "name": "m", "implementation": "mlserver_sklearn.SKLearnModel", "max_batch_size": 64,
            "max_batch_time": 0.002, "parameters": {"uri": str(models / "model.joblib")},
        },
    }  # fmt: skip
    v1, v2, mlflow = "/v1/models/m:predict", "/v2/models/m/infer", "/invocations"
    ready = "/v2/health/ready"
    found = [
        Server("mainspring, sklearn, V1", [*ours, "--model", str(models / "sklearn")], v1, ready, is_ours=True),
        Server(
            "mainspring, sklearn, V2", [*ours, "--model", str(models / "sklearn")], v2, ready, {}, "v2", is_ours=True
        ),
        Server(
            "mainspring, sklearn, MLflow", [*ours, "--model", str(models / "sklearn")], mlflow, ready, {}, "split",
            is_ours=True,
        ),
        Server("mainspring, ONNX, V1", [*ours, "--model", str(models / "onnx")], v1, ready, is_ours=True),
        Server(
            "MLflow models serve",
            [_bin(envs, "mlflow", "mlflow"), "models", "serve", "-m", str(models / "sklearn"), "--env-manager", "local",
             "-p", str(port), "-w", "1"],
            mlflow, "/ping", {"PATH": f"{envs}/mlflow/bin:{os.environ['PATH']}"}, "split",
        ),
        Server(
            "MLServer, no worker process, batching 64 / 2 ms",
            [_bin(envs, "mlserver", "mlserver"), "start", "."], v2, ready, {}, "v2", settings,
        ),
        Server(
            "KServe sklearn server, V1",
            [_bin(envs, "kserve", "python"), str(HERE / "peers/kserve_app.py"), "--http_port", str(port)],
            v1, "/v2/health/ready", file,
        ),
        Server(
            "BentoML",
            [_bin(envs, "bentoml", "bentoml"), "serve", "bentoml_app:Classifier", "--working-dir", str(HERE / "peers"),
             "--port", str(port)],
            "/predict", "/readyz", {**file, "BENTOML_HOME": str(state / "bento"), "BENTOML_DO_NOT_TRACK": "True"},
        ),
        Server("LitServe", [_bin(envs, "litserve", "python"), str(HERE / "peers/litserve_app.py"), str(port)],
               "/predict", "/health", file),
        Server(
            "FastAPI, tutorial style",
            [_bin(envs, "fastapi", "uvicorn"), "fastapi_app:app", "--app-dir", str(HERE / "peers"), "--port", str(port),
             "--log-level", "error"],
            "/predict", "/health", file,
        ),
    ]  # fmt: skip
    for server in found:
        if not Path(server.command[0]).exists():
            print(f"{server.name}: not installed ({server.command[0]}), left out")
    return [server for server in found if Path(server.command[0]).exists()]


def _bin(envs: Path, name: str, program: str) -> str:
    return str(envs / name / "bin" / program)


def write_bodies(folder: Path) -> None:
    """Write wrk's scripts: one row and a hundred, in each form."""
    from sklearn.datasets import load_breast_cancer

    frame = load_breast_cancer(as_frame=True).data
    for count in (1, 100):
        rows = frame[:count].to_numpy().tolist()
        flat = [value for row in rows for value in row]
        tensor = {"name": "input", "shape": [count, 30], "datatype": "FP64", "data": flat}
        bodies = {
            "instances": {"instances": rows},
            "v2": {"inputs": [tensor]},
            "split": {"dataframe_split": {"columns": list(frame.columns), "data": rows}},
        }
        for form, body in bodies.items():
            script = "wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\n"
            (folder / f"{form}-{count}.lua").write_text(f"{script}wrk.body=[==[{json.dumps(body)}]==]\n")


def measure(server: Server, port: int, scripts: Path, work: Path, seconds: float, runs: int) -> Result:
    """Start a server, wait for it, load it three ways, stop it."""
    folder = work / re.sub(r"\W+", "-", server.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in server.files.items():
        (folder / name).write_text(json.dumps(content))
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **server.variables}
    began = time.perf_counter()
    with (folder / "out.txt").open("wb") as out:
        process = subprocess.Popen(
            ["taskset", "-c", "0", *server.command], cwd=folder, env=variables, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_ready(process, f"http://127.0.0.1:{port}{server.health}", folder / "out.txt")
        ready = time.perf_counter() - began
        url = f"http://127.0.0.1:{port}{server.path}"
        wrk(url, scripts / f"{server.form}-1.lua", 8, 1.0)
        loads = {}
        for key, clients, rows in (("c1", 1, 1), ("c32", 32, 1), ("c8x100", 8, 100)):
            loads[key] = load(process, url, scripts / f"{server.form}-{rows}.lua", clients, seconds, runs)
        return Result(server, ready, sum(one.memory_info().rss for one in tree(process)) / 2**20, loads)
    finally:
        stop(process)


def load(process: subprocess.Popen[bytes], url: str, script: Path, clients: int, seconds: float, runs: int) -> Load:
    """Return the medians of several runs."""
    found = []
    for _ in range(runs):
        before = cpu_seconds(process)
        rate, p50, p99, count, failed = wrk(url, script, clients, seconds)
        found.append((rate, p50, p99, (cpu_seconds(process) - before) / max(count, 1) * 1000, failed))
    columns = list(zip(*found, strict=True))
    return Load(*(median(column) for column in columns[:4]), sum(columns[4]))


def wrk(url: str, script: Path, clients: int, seconds: float) -> tuple[float, float, float, int, int]:
    """Run wrk once: requests a second, p50 and p99 in ms, requests, failures."""
    command = [
        "taskset",
        "-c",
        "1",
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{seconds:g}s",
        "--latency",
        "-s",
        str(script),
        url,
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    p50, p99 = (to_ms(re.search(rf"{part}%\s+([\d.]+)(us|ms|s|m)", text)) for part in (50, 99))
    count = int(re.search(r"(\d+) requests in", text)[1])
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return rate, p50, p99, count, int(bad[1]) if bad else 0 + (sum(map(int, errors.groups())) if errors else 0)


def to_ms(match: re.Match[str]) -> float:
    """Return wrk's time in milliseconds."""
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[match[2]]


def wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait for the first 200."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(log.read_text()[-800:])
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"not ready in 180 s: {log.read_text()[-800:]}")


def tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the server's processes, those with sessions of their own too."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Return the CPU time of the server's processes."""
    return sum(sum(one.cpu_times()[:2]) for one in tree(process))


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and all it started."""
    everyone = tree(process)
    for one in everyone:
        try:
            one.send_signal(signal.SIGTERM)
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(everyone, timeout=8)
    for one in alive:
        one.kill()
    process.wait()


def report(results: list[Result]) -> None:
    """Print the table, the ratios and the bars."""
    print(f"\nload average {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores\n")
    print("| server | ready s | RSS MB | c=1 req/s | p50 / p99 ms | CPU ms/req | c=32 req/s | p50 / p99 ms "
          "| CPU ms/req "
          "| 100 rows c=8 req/s | p50 / p99 ms | CPU ms/req | failed |")  # fmt: skip
    print("|---|" + "---|" * 12)
    for result in results:
        cells = [result.server.name, f"{result.ready:.2f}", f"{result.rss:.1f}"]
        for one in result.loads.values():
            cells += [f"{one.rate:,.0f}", f"{one.p50:.2f} / {one.p99:.2f}", f"{one.cpu_ms:.3f}"]
        cells.append(str(sum(one.failed for one in result.loads.values())))
        print("| " + " | ".join(cells) + " |")
    ours = [result for result in results if result.server.is_ours]
    peers = [result for result in results if not result.server.is_ours]
    for result in ours if peers else []:
        print(f"\n{result.server.name} against the best peer:")
        for key in ("c1", "c32", "c8x100"):
            best = max(peers, key=lambda peer: peer.loads[key].rate)
            least = min(peers, key=lambda peer: peer.loads[key].cpu_ms)
            mine = result.loads[key]
            print(f"  {key}: {mine.rate / best.loads[key].rate:.1f} x the requests of {best.server.name}, "
                  f"{least.loads[key].cpu_ms / mine.cpu_ms:.1f} x less CPU a request than "
                  f"{least.server.name}")  # fmt: skip
    print_bars({result.server.name: result for result in results}, peers)


def print_bars(results: dict[str, Result], peers: list[Result]) -> None:
    """Say which bars are held."""
    sklearn, onnx = results.get("mainspring, sklearn, V1"), results.get("mainspring, ONNX, V1")
    bars: list[tuple[str, bool, str]] = []
    if sklearn is not None:
        c1, c32 = sklearn.loads["c1"], sklearn.loads["c32"]
        bars += [
            ("c=32 at least 9,000 req/s", c32.rate >= 9000, f"{c32.rate:,.0f}; CPU allows {1000 / c32.cpu_ms:,.0f}"),
            ("c=32 p99 at most 6 ms", c32.p99 <= 6, f"{c32.p99:.2f}"),
            ("c=1 p50 at most .5 ms", c1.p50 <= 0.5, f"{c1.p50:.2f}"),
            ("scikit-learn ready in 4 s", sklearn.ready <= 4, f"{sklearn.ready:.2f}"),
            ("scikit-learn at most 170 MB", sklearn.rss <= 170, f"{sklearn.rss:.0f}"),
        ]
        if peers:
            best = max(peer.loads["c32"].rate for peer in peers)
            wide = max(peer.loads["c8x100"].rate for peer in peers)
            ratio, wide_ratio = c32.rate / best, sklearn.loads["c8x100"].rate / wide
            bars += [
                ("c=32 at least 5 x the best peer", ratio >= 5, f"{ratio:.1f} x"),
                ("100 rows c=8 at least 2 x the best peer", wide_ratio >= 2, f"{wide_ratio:.1f} x"),
            ]
    if onnx is not None:
        bars += [
            ("ONNX ready in 1 s", onnx.ready <= 1, f"{onnx.ready:.2f}"),
            ("ONNX at most 75 MB", onnx.rss <= 75, f"{onnx.rss:.0f}"),
        ]
    print()
    for words, held, figure in bars:
        print(f"{'held    ' if held else 'NOT HELD'} {words}: {figure}")


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=Path, default=HERE / ".envs")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as text:
        work = Path(text)
        make_models(work / "models")
        write_bodies(work)
        results = []
        for server in servers(options.envs.resolve(), work / "models", port, work):
            if options.only and not any(part.lower() in server.name.lower() for part in options.only):
                continue
            try:
                results.append(measure(server, port, work, work, options.seconds, options.runs))
                print(f"measured: {server.name}", flush=True)
            except RuntimeError as error:
                print(f"{server.name}: cannot be measured: {error}", flush=True)
        report(results)


if __name__ == "__main__":
    main()
