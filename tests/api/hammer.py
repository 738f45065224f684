"""A client process that logs to its own run as fast as it is answered, and goes on when the server comes back.

Usage: hammer.py STATE_FILE RUN_ID SHARED_RUN_ID NUMBER STOP_FILE. It logs step after step until the stop file is there,
repeats a step that was not answered, and prints how many steps were acknowledged; an unexpected status ends it.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from pathlib import Path


def main() -> None:
    state, run_id, shared, number, stop = (
        Path(sys.argv[1]),
        sys.argv[2],
        sys.argv[3],
        int(sys.argv[4]),
        Path(sys.argv[5]),
    )
    connection: http.client.HTTPConnection | None = None
    step = 0
    while step == 0 or not stop.exists():  # one step at least, however late a busy machine starts this process
        step += 1
        for path, body, wanted in requests_of(step, number, run_id, shared):
            while True:
                try:
                    if connection is None:
                        url = json.loads(state.read_bytes())["url"]
                        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
                    headers = {"Content-Type": "application/json"}
                    connection.request("POST", f"/api/2.0/mlflow/{path}", json.dumps(body), headers)
                    answer = connection.getresponse()
                    content = answer.read()
                except (OSError, ValueError, http.client.HTTPException):
                    connection = None
                    time.sleep(0.02)
                    continue
                break
            if answer.status != wanted:
                sys.exit(f"{path} of step {step}: {answer.status} {content[:300]!r}")
    print(step, flush=True)


def requests_of(step: int, number: int, run_id: str, shared: str):
    """Yield path, body and status of the requests that make up a step."""
    point = {"value": step * 0.5, "timestamp": step, "step": step}
    if number % 2:
        yield "runs/log-batch", {"run_id": run_id, "metrics": [{**point, "key": f"m{key}"} for key in range(10)]}, 200
    else:
        yield "runs/log-metric", {"run_id": run_id, "key": "m0", **point}, 200
    yield "runs/log-metric", {"run_id": shared, "key": f"w{number}", **point}, 200
    if step % 5 == 0:
        yield "runs/log-metric", {"run_id": run_id, "key": "../bad", **point}, 400
        yield "runs/log-metric", {"run_id": "no-such-run", "key": "m0", **point}, 404


if __name__ == "__main__":
    main()
