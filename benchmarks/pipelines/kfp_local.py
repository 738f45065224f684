"""Measure kfp.local's SubprocessRunner on the same pipelines: one step, a chain of ten, a fan-out of fifty.

Prints one JSON object: medians in milliseconds of the time inside the run call, imports excluded.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings

warnings.simplefilter("ignore")


def main(repeat: int) -> None:
    """Run the workloads and print the medians."""
    import workloads
    from kfp import local

    logging.disable(logging.CRITICAL)
    root = tempfile.mkdtemp(prefix="bench-kfp-local-")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root, raise_on_error=True)
    results = {}
    for name in ("one", "chain", "fan"):
        samples = []
        for index in range(repeat if name != "fan" else 1):
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                workloads.ALL[name](x=index)
            samples.append((time.perf_counter() - began) * 1000)
        results[name] = {"wall_ms": round(statistics.median(samples), 1), "best_ms": round(min(samples), 1)}
    results["chain_per_step"] = {key: value / 10 for key, value in results["chain"].items()}
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
