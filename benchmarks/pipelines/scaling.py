"""Show that scheduling costs the same per task however large a pipeline is, and that memory stays flat.

Usage: scaling.py [--engine]. The first table is the decider alone (CPU microseconds per task, and the memory it holds
at its peak and at the end) for dags of layers and for loops of growing size. With ``--engine`` a second one runs a
1,000-task ParallelFor and a 10,000-task dag through the whole engine with a launcher that does nothing, so that all
that is measured is ours: cost per task in each tenth of the run, and resident memory after each.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import tempfile
import time
import tracemalloc
from collections import deque
from pathlib import Path

import msgspec

from mainspring.blobs import LocalBlobs
from mainspring.core import SystemClock
from mainspring.db import open_database
from mainspring.pipelines import Engine, LeaseTimes, TaskProgress, read_compiled
from mainspring.pipelines.ir import read_pipeline
from mainspring.pipelines.launchers import TaskExit, TaskLaunch
from mainspring.pipelines.planner import make_plan
from mainspring.pipelines.schedule import Recorded, Scheduler
from mainspring.pipelines.values import Values

_EXECUTOR = {
    "container": {
        "image": "python:3.11",
        "command": [
            "sh", "-c", 'python3 -m kfp.dsl.executor_main --component_module_path x "$0"',
            "sh", "-ec", 'python3 -m kfp.dsl.executor_main --component_module_path "$0"', "def f(x): return x",
        ],
        "args": ["--executor_input", "{{$}}", "--function_to_execute", "f"],
    }
}  # fmt: skip
_INTEGER = {"parameters": {"x": {"parameterType": "NUMBER_INTEGER"}}}
_OUTPUT = {"parameters": {"Output": {"parameterType": "NUMBER_INTEGER"}}}
JOB = {"run_id": "r", "pipeline_job_resource_name": "r"}


class NoLauncher:
    """Ends every task at once, with the output the components of this benchmark would have."""

    def __init__(self) -> None:
        self._ended: deque[TaskExit] = deque()

    def refuse(self, component: object, resources: object = None) -> str:
        """Refuse nothing."""
        return ""

    def launch(self, task: TaskLaunch) -> None:
        """Write the task's output."""
        document = json.loads(Path(task.executor_input).read_bytes())
        output = Path(document["outputs"]["outputFile"])
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text('{"parameterValues": {"Output": 1}}')
        self._ended.append(TaskExit(key=task.key, status=0))

    def wait(self, timeout: float | None) -> list[TaskExit]:
        """Return what was launched."""
        ended = list(self._ended)
        self._ended.clear()
        return ended

    def cancel(self, key: str) -> None:
        """Do nothing."""

    def cancel_all(self) -> None:
        """Do nothing."""


def document_of(root: dict[str, object], components: dict[str, object]) -> bytes:
    """Return a compiled pipeline."""
    leaf = {"executorLabel": "exec", "inputDefinitions": _INTEGER, "outputDefinitions": _OUTPUT}
    document = {
        "pipelineInfo": {"name": "scaling"},
        "schemaVersion": "2.1.0",
        "components": {"leaf": leaf, **components},
        "root": {"dag": root},
        "deploymentSpec": {"executors": {"exec": _EXECUTOR}},
    }
    return msgspec.json.encode(document)


def dag_of(size: int, width: int = 10) -> bytes:
    """Return a dag of layers: each task takes a value of one task before it and waits for another."""
    tasks = {}
    for index in range(size):
        task = {"componentRef": {"name": "leaf"}, "taskInfo": {"name": f"t{index}"}}
        if index < width:
            task["inputs"] = {"parameters": {"x": {"runtimeValue": {"constant": index}}}}
        else:
            source = {"producerTask": f"t{index - width}", "outputParameterKey": "Output"}
            task["inputs"] = {"parameters": {"x": {"taskOutputParameter": source}}}
            task["dependentTasks"] = [f"t{index - width + (1 if (index + 1) % width else 1 - width)}"]
        tasks[f"t{index}"] = task
    return document_of({"tasks": tasks}, {})


def loop_of(size: int, limit: int = 0) -> bytes:
    """Return a loop over ``size`` items."""
    inner = {"componentRef": {"name": "leaf"}, "inputs": {"parameters": {"x": {"componentInputParameter": "item"}}}}
    body = {
        "dag": {"tasks": {"leaf": inner}},
        "inputDefinitions": {"parameters": {"item": {"parameterType": "NUMBER_INTEGER"}}},
    }
    iterator = {"items": {"raw": json.dumps(list(range(size)))}, "itemInput": "item"}
    loop = {
        "componentRef": {"name": "body"}, "parameterIterator": iterator, "iteratorPolicy": {"parallelismLimit": limit},
    }  # fmt: skip
    return document_of({"tasks": {"loop": loop}}, {"body": body})


def decide_all(document: bytes) -> tuple[int, float, int, int]:
    """Drive the decider through a pipeline; return tasks, CPU seconds, and peak and last memory it held, in bytes."""
    plan = make_plan(read_pipeline(document))
    began = time.process_time()
    count = _drive(Scheduler(plan, Values(), JOB))
    cpu = time.process_time() - began
    gc.collect()
    tracemalloc.start()
    scheduler = Scheduler(plan, Values(), JOB)
    _drive(scheduler)
    gc.collect()
    last, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return count, cpu, peak, last


def _drive(scheduler: Scheduler) -> int:
    count = 0
    ready = deque(scheduler.take().ready)
    end = Recorded(state="COMPLETE", outputs=Values(parameters={"Output": 1}))
    while ready:
        count += 1
        scheduler.finish(ready.popleft().address, end)
        ready.extend(scheduler.take().ready)
    assert scheduler.state == "COMPLETE"
    return count


def run_engine(title: str, document: bytes, size: int) -> None:
    """Run a pipeline through the whole engine and print cost and memory along the way."""
    folder = Path(tempfile.mkdtemp(prefix="bench-scaling-"))
    database = open_database(f"sqlite:///{folder / 'scaling.db'}")
    engine = Engine(
        database, LocalBlobs(folder / "blobs"), SystemClock(), launcher=NoLauncher(), work_folder=folder / "work",
        actor="bench", max_parallel=10, times=LeaseTimes(),
    )  # fmt: skip
    id = engine.create_run(read_compiled(document), pipeline="scaling", parameters={}, use_cache=False)
    marks: list[tuple[int, float, int]] = []

    def watch(progress: TaskProgress) -> None:
        if progress.state == "COMPLETE" and progress.finished % (size // 10) == 0:
            marks.append((progress.finished, time.process_time(), resident()))

    began, before = time.process_time(), resident()
    finished = engine.execute(id, on_progress=watch)
    assert finished.state == "COMPLETE", finished.error
    print(f"\n{title}: {(time.process_time() - began) / size * 1000:.2f} ms CPU per task; {before} MB when it starts")
    print(f"{'tasks done':>12}{'ms CPU per task':>18}{'resident MB':>14}")
    last = began
    for done, cpu, memory in marks:
        print(f"{done:>12}{(cpu - last) / (size // 10) * 1000:>18.2f}{memory:>14}")
        last = cpu
    database.close()


def resident() -> int:
    """Return this process's resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1_000_000


def main() -> None:
    """Print the tables."""
    print(f"{'pipeline':<24}{'tasks':>8}{'us CPU per task':>18}{'peak kB':>10}{'kB per task':>13}{'kB at end':>11}")
    shapes = [(f"dag of {n}", dag_of(n)) for n in (100, 1_000, 10_000)]
    shapes += [(f"loop of {n}", loop_of(n)) for n in (10, 100, 1_000, 10_000)]
    shapes += [(f"loop of {n}, 8 at a time", loop_of(n, 8)) for n in (100, 1_000, 10_000)]
    for title, document in shapes:
        count, cpu, peak, last = decide_all(document)
        print(
            f"{title:<24}{count:>8}{cpu / count * 1e6:>18.1f}{peak / 1000:>10.0f}{peak / 1000 / count:>13.2f}"
            f"{last / 1000:>11.0f}"
        )
    if "--engine" in sys.argv:
        run_engine("ParallelFor of 1,000", loop_of(1_000), 1_000)
        run_engine("dag of 10,000", dag_of(10_000), 10_000)


if __name__ == "__main__":
    main()
