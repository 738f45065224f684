"""Dagster jobs on an instance with SQLite, all steps in one process: its other executor takes seconds a step."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import timing
from dagster import DagsterInstance, DynamicOut, DynamicOutput, job, op

home = Path(tempfile.mkdtemp(prefix="bench-dagster-"))
(home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
os.environ["DAGSTER_HOME"] = str(home)


@op
def begin() -> int:
    """Start a chain."""
    return 1


@op
def add(x: int) -> int:
    """Do next to nothing."""
    return x + 1


@op(out=DynamicOut(int))
def items():
    """Give fifty items."""
    for index in range(50):
        yield DynamicOutput(index, mapping_key=str(index))


@job
def one() -> None:
    """One step."""
    begin()


@job
def chain() -> None:
    """Ten steps, one after the other."""
    value = begin()
    for _ in range(9):
        value = add(value)


@job
def fan() -> None:
    """Fifty steps, after the one that lists them."""
    items().map(add)


def main(repeat: int) -> None:
    """Measure and report."""
    with DagsterInstance.get() as instance:
        results = {
            name: timing.median_ms(lambda _, it=it: it.execute_in_process(instance=instance), repeat)
            for name, it in (("one", one), ("chain", chain), ("fan", fan))
        }
    timing.report(results)


if __name__ == "__main__":
    import logging

    logging.disable(logging.CRITICAL)
    main(int(sys.argv[1]))
