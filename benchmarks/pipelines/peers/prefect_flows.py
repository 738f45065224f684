"""Prefect flows on the server Prefect starts by itself; tasks are threads of the flow's process."""

from __future__ import annotations

import os
import sys
import tempfile

os.environ |= {
    "PREFECT_HOME": tempfile.mkdtemp(prefix="bench-prefect-"),
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
}

import timing
from prefect import flow, task
from prefect.cache_policies import INPUTS, NO_CACHE


def add(x: int) -> int:
    """Do next to nothing."""
    return x + 1


step = task(add, cache_policy=NO_CACHE)
kept_step = task(add, cache_policy=INPUTS, persist_result=True)


@flow
def one(x: int) -> int:
    """One step."""
    return step(x)


@flow
def chain(x: int) -> int:
    """Ten steps, one after the other."""
    for _ in range(10):
        x = step(x)
    return x


@flow
def kept_chain(x: int) -> int:
    """Ten steps whose results are there already."""
    for _ in range(10):
        x = kept_step(x)
    return x


@flow
def fan() -> list[int]:
    """Fifty steps at once."""
    return step.map(list(range(50))).result()


def main(repeat: int) -> None:
    """Measure and report."""
    results = {
        "one": timing.median_ms(one, repeat),
        "chain": timing.median_ms(chain, repeat),
        "fan": timing.median_ms(lambda _: fan(), repeat),
        "chain_cached": timing.median_ms(lambda _: kept_chain(7), repeat),
    }
    timing.report(results)


if __name__ == "__main__":
    main(int(sys.argv[1]))
