"""mainspring beside `mlflow server` and FastTrackML: server CPU per operation, on SQLite, on this machine, in one run.

Usage: python benchmarks/tracking/bench.py [--servers mainspring,fasttrackml,mlflow] [--only writes,reads,start]
                                           [--runs 10000] [--points 100000] [--seconds 3] [--json FILE]

CPU is that of the server's whole process tree; the client's is not counted. The peers are looked for in
$MAINSPRING_BENCH_ENVS/{mlflow,fasttrackml} (MLflow also beside this Python); one that is missing is left out.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import operations as op
from operations import BARS, Figure
from servers import Peer, Server, fresh_folder, peers, running

Figures = dict[str, Figure]


def main() -> None:
    """Measure what was asked for and print a table."""
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end too
    known = peers()
    names = options.servers.split(",")
    results: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-") as base:
        for name in names:
            if known[name].missing:
                print(f"{name} is not installed; to compare with it: {known[name].missing}", file=sys.stderr)
                continue
            results[name] = run_server(known[name], Path(base), options)
            if options.json:  # after each server, so that a run that is cut short is not lost
                Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    print_table(results)


def read_options() -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default="mainspring,fasttrackml,mlflow")
    parser.add_argument("--only", default="start,writes,reads")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", default="")
    return parser.parse_args()


def run_server(peer: Peer, base: Path, options: argparse.Namespace) -> Figures:
    """Measure one server."""
    parts, found = options.only.split(","), Figures()
    if "start" in parts:
        found.update(measure_start(peer, base, times=1 if peer.name == "mlflow" else 5))
    if "writes" in parts or "reads" in parts:
        with running(peer, fresh_folder(base, peer.name)) as server:
            if "writes" in parts:
                found.update(measure_writes(server, options))
            if "reads" in parts:
                found.update(measure_reads(server, options))
    return found


def tell(server: Server, what: str) -> None:
    """Say what is measured now: some of it takes a minute."""
    print(f"{server.peer.name}: {what} …", file=sys.stderr, flush=True)


def measure_start(peer: Peer, base: Path, times: int) -> Figures:
    """Start on a store that is there already: until the first 200 of /health; then look at the memory."""
    folder = fresh_folder(base, peer.name)
    with running(peer, folder) as first:
        found = {"cold start, new store": Figure(first.start_cpu * 1000, first.start_wall * 1000, 1)}
    starts, memories = [], []
    for _ in range(times):
        with running(peer, folder) as server:
            starts.append((server.start_cpu, server.start_wall))
            time.sleep(2)
            memories.append(server.memory())
    cpu, wall = sorted(starts)[len(starts) // 2]
    memory, processes = sorted(memories)[len(memories) // 2]
    found["cold start"] = Figure(cpu * 1000, wall * 1000, times)
    found["idle memory, MiB"] = Figure(memory, processes, times)
    return found


def measure_writes(server: Server, options: argparse.Namespace) -> Figures:
    """Log values, batches and runs."""
    tell(server, "writes")
    figures = {
        "log_metric, 1 client": op.log_metric(server, 1, options.seconds),
        "log_metric, 8 clients": op.log_metric(server, 8, options.seconds),
        "create_run": op.create_run(server, options.seconds),
    }
    if "reads" not in options.only:
        figures["log_batch(1000)"], _ = op.log_batch(server, 20)
    return figures


def measure_reads(server: Server, options: argparse.Namespace) -> Figures:
    """Search among many runs and read a long history."""
    found = Figures()
    slow = server.peer.name == "mlflow"
    tell(server, "a long history")
    found["log_batch(1000)"], run = op.log_batch(server, options.points // 1000)
    found["history of 100k points"] = op.read_history(server, run, options.points, 1 if slow else 5)
    tell(server, f"{options.runs} runs")
    experiment = op.fill(server, options.runs)
    tell(server, "searches")
    at_least, seconds = (2, 0.0) if slow else (5, options.seconds / 2)
    queries: dict[str, dict[str, object]] = {
        "search: latest 100 of 10k": {},
        "search: order by metric": {"order_by": ["metrics.m0 DESC"]},
        "search: metric + param filter": {"filter": "metrics.m0 > 0.5 and params.p0 = '3'"},
    }
    for name, query in queries.items():
        found[name] = op.search(server, experiment, seconds, at_least, **query)
    found["search: read all 10k"] = op.read_all(server, experiment, options.runs, 1 if slow else 3)
    return found


def print_table(results: dict[str, Figures]) -> None:
    """Print CPU per operation with bar, wall time, and how many times more the others need."""
    others = [name for name in results if name != "mainspring"]
    names = [*BARS, *sorted({name for figures in results.values() for name in figures} - set(BARS))]
    head = f"{'CPU ms per operation':32} {'bar':>7}" + "".join(f" {name:>12}" for name in results)
    print(head + "".join(f" {'x ' + name:>14}" for name in others) + f" {'wall ms':>9}")
    for name in names:
        if not any(name in figures for figures in results.values()):
            continue
        line = f"{name:32} {BARS.get(name, ''):>7}"
        line += "".join(
            f" {figures[name].cpu_ms:12.2f}" if name in figures else f" {'-':>12}" for figures in results.values()
        )
        ours = results.get("mainspring", {}).get(name)
        for other in others:
            theirs = results[other].get(name)
            line += f" {theirs.cpu_ms / ours.cpu_ms:14.1f}" if theirs and ours and ours.cpu_ms else f" {'-':>14}"
        wall = f"{ours.wall_ms:9.2f}" if ours else ""
        passed = "" if ours is None or name not in BARS else ("  ok" if ours.cpu_ms <= BARS[name] else "  OVER")
        print(f"{line} {wall}{passed}")


if __name__ == "__main__":
    main()
