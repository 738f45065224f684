"""A bare Ray task per step: no record, no files, warm workers. What a step costs when nothing is kept of it."""

from __future__ import annotations

import logging
import sys

import ray
import timing


def main(repeat: int) -> None:
    """Measure and report."""
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)

    @ray.remote
    def add(x: int) -> int:
        return x + 1

    def chain(x: int) -> int:
        for _ in range(10):
            x = add.remote(x)
        return ray.get(x)

    results = {
        "one": timing.median_ms(lambda index: ray.get(add.remote(index)), repeat),
        "chain": timing.median_ms(chain, repeat),
        "fan": timing.median_ms(lambda _: ray.get([add.remote(item) for item in range(50)]), repeat),
    }
    ray.shutdown()
    timing.report(results)


if __name__ == "__main__":
    main(int(sys.argv[1]))
