"""Our engine beside kfp.local, Metaflow, Prefect, Dagster and a bare Ray task, one after the other on one machine.

Usage: compare.py [--repeat N] [--envs FOLDER] [--peers NAME,…]. The peers live in environments of their own, made by
``setup``; one that is not there, or does not run, is named. Ratios hold on a busy machine too, the milliseconds do not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEERS = {
    "metaflow": "metaflow_flows.py",
    "prefect": "prefect_flows.py",
    "dagster": "dagster_jobs.py",
    "ray": "bare_ray.py",
}
WORKLOADS = {
    "one": "1 step",
    "chain": "chain of 10",
    "fan": "fan-out of 50",
    "chain_cached": "chain of 10, again",
    "heavy_chain": "chain of 10, pandas+sklearn",
}
Measured = dict[str, dict[str, float]]
IMPORT = "import time; import mainspring.pipelines as p; p.Engine; print(time.process_time() * 1000)"
_PATIENCE_SECONDS = 900


def measure(python: Path, script: Path, *arguments: str) -> Measured | str:
    """Run a script and return what it measured, or in one line why it did not."""
    try:
        done = subprocess.run(
            [str(python), str(script), *arguments],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1][:200]
    return json.loads(done.stdout[done.stdout.index("{") :])


def measure_peers(envs: Path, repeat: str, chosen: list[str]) -> dict[str, Measured | str]:
    """Return what each of the chosen peers measured, or why it did not."""
    found: dict[str, Measured | str] = {}
    if "kfp.local" in chosen:
        found["kfp.local"] = measure(Path(sys.executable), HERE / "kfp_local.py", repeat)
    for name, script in PEERS.items():
        if name not in chosen:
            continue
        print(f"measuring {name}", file=sys.stderr)
        python = envs / name / "bin" / "python"
        ready = (envs / name / ".complete").exists()
        missing = f"not installed in {envs} (see benchmarks/pipelines/setup)"
        found[name] = measure(python, HERE / "peers" / script, repeat) if ready else missing
    return found


def print_table(ours: Measured, peers: dict[str, Measured | str]) -> None:
    """Print medians in milliseconds, and how many times as long as ours a peer takes."""
    ran = {name: found for name, found in peers.items() if not isinstance(found, str)}
    print(f"{'median ms (times ours)':<30}{'ours':>10}" + "".join(f"{name:>20}" for name in ran))
    for name, title in WORKLOADS.items():
        base = ours[name]["wall_ms"]
        cells = ""
        for found in ran.values():
            wall = found.get(name, {}).get("wall_ms")
            cells += f"{f'{wall:,.0f} ({wall / base:.1f}x)' if wall else '-':>20}"
        print(f"{title:<30}{base:>10.1f}{cells}")
    for name, found in peers.items():
        if isinstance(found, str):
            print(f"{name}: {found}")


def print_bars(ours: Measured) -> None:
    """Print each aim beside what was measured."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    bars = (
        ("CPU of engine, zygote and task per trivial step, ms", ours["whole_cpu_per_step"]["cpu_ms"], 10.0),
        (
            "the same when the step imports pandas and scikit-learn, ms",
            ours["whole_cpu_per_heavy_step"]["cpu_ms"],
            25.0,
        ),
        ("fan-out of 50, ms", ours["fan"]["wall_ms"], 300.0),
        ("cached chain of 10, ms of engine CPU", ours["chain_cached"]["cpu_ms"], 50.0),
        ("import of the engine, ms of CPU", float(done.stdout), 300.0),
    )
    print()
    for title, value, bar in bars:
        print(f"{title:<62}{value:>8.1f}   aim {bar:>5.0f}   {'met' if value <= bar else 'MISSED'}")


def main(repeat: int, envs: Path, chosen: list[str]) -> None:
    """Measure everything and print the tables."""
    ours = measure(Path(sys.executable), HERE / "engine.py", "--repeat", str(repeat))
    if isinstance(ours, str):
        raise SystemExit(f"our own engine did not run: {ours}")
    print_table(ours, measure_peers(envs, str(repeat), chosen))
    print_bars(ours)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--envs", type=Path, default=HERE / ".envs")
    parser.add_argument("--peers", default=",".join(["kfp.local", *PEERS]))
    given = parser.parse_args()
    main(given.repeat, given.envs, given.peers.split(","))
