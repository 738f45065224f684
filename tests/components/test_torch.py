"""A PyTorch module of the user's own: trained, evaluated and served, in an environment of its own that has PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import mainspring

PYTHON = Path(os.environ.get("MAINSPRING_PEERS", "")) / "torch" / "bin" / "python"
NETS = """
import numpy as np
import torch


class Net(torch.nn.Module):
    def __init__(self, matrix):
        super().__init__()
        self.layer = torch.nn.Linear(matrix.shape[1], 2)
        self.register_buffer("mean", matrix.mean(0))
        self.register_buffer("scale", matrix.std(0) + 1e-6)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.layer((torch.nan_to_num(rows) - self.mean) / self.scale), dim=1)


class Odd(Net):
    def forward(self, rows):
        return open("/dev/null")


def fit(matrix, labels, *, settings, seed, kind=Net):
    torch.manual_seed(seed)
    rows, places = torch.tensor(np.nan_to_num(matrix), dtype=torch.float32), torch.tensor(labels)
    net = kind(rows)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(settings["epochs"]):
        optimiser.zero_grad()
        torch.nn.functional.nll_loss(torch.log(net(rows) + 1e-9), places).backward()
        optimiser.step()
    return net


def odd(matrix, labels, *, settings, seed):
    return Odd(torch.tensor(matrix, dtype=torch.float32))
"""
SCRIPT = """
import json, sys
from pathlib import Path
from types import SimpleNamespace

from mainspring import components
from mainspring.core import InvalidInput

folder = Path(sys.argv[1])
file = lambda name: SimpleNamespace(path=str(folder / name), metadata={})
rows, transform, texts, model = file("rows"), file("transform"), file("texts"), file("model")
components.fit_columns(rows, transform=transform, numeric=["fee", "tenure"])
components.fit_columns(rows, transform=texts, numeric=["fee"], categorical=["contract"])


def train(function, transform=transform):
    return components.train_model(
        rows, transform=transform, target="churn", task="binary", estimator=f"function:nets:{function}",
        settings={"epochs": 80}, experiment="torch", model=model, seed=1,
    )


def problem(*words):
    try:
        train(*words)
    except InvalidInput as error:
        return str(error)


problems = [problem("odd"), problem("fit", texts)]
train("fit")
report = components.evaluate_folder(rows, model=model, evaluation=file("report"))
done = components.predict_table(rows, predictions=file("predictions"), model=model)
print(json.dumps({
    "problems": problems, "framework": model.metadata["framework"], "auc": report.measures["auc"].value,
    "rows": [done.rows, done.problems], "files": sorted(path.name for path in Path(model.path).rglob("*.pt*")),
}))
"""


@pytest.mark.skipif(not PYTHON.is_file(), reason="needs MAINSPRING_PEERS=DIR with an environment torch in it")
def test_a_module_is_trained_kept_as_torchscript_evaluated_and_predicts(tmp_path, served, table, churned) -> None:
    """No pickle is written, and the serving code loads it after its audit, without a permission."""
    made = table("rows", churned(600))
    (tmp_path / "nets.py").write_text(NETS)
    source = Path(mainspring.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{source}:{tmp_path}", "MLFLOW_TRACKING_URI": served[1]}
    done = subprocess.run(
        [PYTHON, "-c", SCRIPT, Path(made.path).parent], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["framework"], said["rows"]) == ("pytorch", [600, 0])
    assert said["auc"] > 0.7
    assert said["files"] == ["model.pth"]
    assert said["problems"][0].startswith("The module Odd is no TorchScript: ")
    assert said["problems"][1].startswith("A PyTorch module reads the numeric columns as they are")
