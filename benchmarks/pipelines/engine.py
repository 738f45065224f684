"""Measure our engine: one step, a chain of ten, a fan-out of fifty, a cached run again, steps with heavy imports.

Usage: engine.py [--database URL] [--repeat N]. Prints one JSON object: medians in milliseconds, per workload, of the
time inside ``Engine.execute`` with a warm launcher, and of the CPU the engine's own process took for it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")


def compile_all(folder: Path) -> dict[str, bytes]:
    """Compile the workloads with KFP."""
    import workloads
    from kfp import compiler

    for name, pipeline in workloads.ALL.items():
        compiler.Compiler().compile(pipeline, str(folder / f"{name}.yaml"))
    return {name: (folder / f"{name}.yaml").read_bytes() for name in workloads.ALL}


def cpu_seconds(who: int = resource.RUSAGE_SELF) -> float:
    """Return the CPU this process, or its children that have ended, have taken."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def measure(database_url: str, repeat: int) -> dict[str, dict[str, float]]:
    """Run every workload and return the medians."""
    folder = Path(tempfile.mkdtemp(prefix="bench-pipelines-"))
    sources = compile_all(folder)
    from mainspring.blobs import LocalBlobs
    from mainspring.core import SystemClock
    from mainspring.db import open_database
    from mainspring.pipelines import Engine, ProcessLauncher, read_compiled

    database = open_database(database_url or f"sqlite:///{folder / 'bench.db'}")
    launcher = ProcessLauncher()
    engine = Engine(
        database, LocalBlobs(folder / "blobs"), SystemClock(), launcher=launcher, work_folder=folder / "work",
        actor="bench", max_parallel=8,
    )  # fmt: skip

    def run(name: str, x: int, *, use_cache: bool) -> tuple[float, float]:
        id = engine.create_run(read_compiled(sources[name]), pipeline=name, parameters={"x": x}, use_cache=use_cache)
        began, cpu = time.perf_counter(), cpu_seconds()
        finished = engine.execute(id)
        assert finished.state == "COMPLETE", finished.error
        return (time.perf_counter() - began) * 1000, (cpu_seconds() - cpu) * 1000

    results = {}
    for name in sources:
        run(name, 0, use_cache=False)  # warm the zygotes
        results[name] = median([run(name, index, use_cache=False) for index in range(repeat)])
    run("chain", 7, use_cache=True)
    results["chain_cached"] = median([run("chain", 7, use_cache=True) for _ in range(repeat)])
    for name in ("chain", "heavy_chain"):
        results[f"{name}_per_step"] = {key: value / 10 for key, value in results[name].items()}
    database.close()
    launcher.close()
    results["whole_cpu_per_step"] = whole_cpu(folder, sources["chain"], 10)
    results["whole_cpu_per_heavy_step"] = whole_cpu(folder / "heavy", sources["heavy_chain"], 5)
    return results


def whole_cpu(folder: Path, source: bytes, repeat: int) -> dict[str, float]:
    """Return the CPU of engine, zygote and tasks together per step of a chain: what a busy machine cannot blur."""
    from mainspring.blobs import LocalBlobs
    from mainspring.core import SystemClock
    from mainspring.db import open_database
    from mainspring.pipelines import Engine, ProcessLauncher, read_compiled

    taken = []
    folder.mkdir(exist_ok=True)
    for rounds in (1, 1 + repeat):
        launcher = ProcessLauncher()
        database = open_database(f"sqlite:///{folder / f'whole{rounds}.db'}")
        engine = Engine(
            database, LocalBlobs(folder / "blobs"), SystemClock(), launcher=launcher, work_folder=folder / "work",
            actor="bench", max_parallel=8,
        )  # fmt: skip
        before = cpu_seconds() + cpu_seconds(resource.RUSAGE_CHILDREN)
        for index in range(rounds):
            id = engine.create_run(read_compiled(source), pipeline="chain", parameters={"x": index}, use_cache=False)
            engine.execute(id)
        launcher.close()
        database.close()
        taken.append(cpu_seconds() + cpu_seconds(resource.RUSAGE_CHILDREN) - before)
    return {"cpu_ms": round((taken[1] - taken[0]) / (10 * repeat) * 1000, 2)}


def median(samples: list[tuple[float, float]]) -> dict[str, float]:
    """Return the medians of wall time and engine CPU."""
    return {
        "wall_ms": round(statistics.median(wall for wall, _ in samples), 2),
        "cpu_ms": round(statistics.median(cpu for _, cpu in samples), 2),
        "best_ms": round(min(wall for wall, _ in samples), 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", default="")
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    print(json.dumps(measure(given.database, given.repeat), indent=1))
