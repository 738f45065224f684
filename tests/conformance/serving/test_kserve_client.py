"""KServe's REST client, unchanged; it cannot share an environment with ours, so it runs in its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

_CANDIDATES = (os.environ.get("MAINSPRING_KSERVE_PYTHON", ""), *(
    str(Path(folder) / "kserve" / "bin" / "python")
    for folder in (os.environ.get("MAINSPRING_PEERS", ""), Path(__file__).parents[3] / "benchmarks/serving/.envs")
    if folder
))  # fmt: skip
PYTHON = next((path for path in _CANDIDATES if path and Path(path).is_file()), "")

SCRIPT = """
import asyncio, json, sys
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
import numpy as np

url, rows = sys.argv[1], json.loads(sys.argv[2])

async def main():
    found = {}
    one = InferenceRESTClient(config=RESTConfig(protocol="v1"))
    found["v1"] = (await one.infer(url, {"instances": rows}, model_name="cancer"))["predictions"]
    found["v1 ready"] = await one.is_model_ready(url, "cancer")
    for binary in (False, True):
        two = InferenceRESTClient(config=RESTConfig(protocol="v2"))
        tensor = InferInput("input", [len(rows), 30], "FP64")
        tensor.set_data_from_numpy(np.array(rows), binary_data=binary)
        answer = await two.infer(url, InferRequest("cancer", [tensor], request_id="k-1"), model_name="cancer")
        found[f"v2 {binary}"] = answer.outputs[0].as_numpy().tolist()
        found["id"] = answer.id
    found["live"] = await two.is_server_live(url)
    found["ready"] = await two.is_server_ready(url)
    found["model ready"] = await two.is_model_ready(url, "cancer")
    print(json.dumps(found))

asyncio.run(main())
"""


@pytest.mark.skipif(not PYTHON, reason="no environment with kserve: benchmarks/serving/setup, or MAINSPRING_PEERS=DIR")
def test_kserves_client_speaks_both_protocols(endpoint, cancer):
    frame, model = cancer
    rows = frame[:4].to_numpy().tolist()
    result = subprocess.run(
        [PYTHON, "-c", SCRIPT, endpoint.url, json.dumps(rows)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    classes = model.predict(frame[:4]).tolist()
    assert found == {
        "v1": classes,
        "v1 ready": True,
        "v2 False": classes,
        "v2 True": classes,
        "id": "k-1",
        "live": True,
        "ready": True,
        "model ready": True,
    }
