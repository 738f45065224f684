"""Every step is a KFP component that compiles by itself, and none of this is imported with the plain functions."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

NAMES = (
    "apply_transform", "batch_predict", "deploy", "evaluate", "evaluate_registered", "fit_transform", "gate",
    "ingest_bigquery", "ingest_database", "ingest_files", "ingest_query", "profile", "register", "run_beam",
    "run_notebook", "snapshot", "split", "train", "tune", "validate",
)  # fmt: skip


def test_importing_the_functions_does_not_import_kfp_nor_a_learner() -> None:
    heavy = "kfp mlflow sklearn lightgbm xgboost torch optuna pandas duckdb nbclient google.cloud.bigquery"
    code = f"import sys, mainspring.components; print(sorted(set({heavy.split()}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_component_is_left_out() -> None:
    from mainspring.components import kfp as steps

    assert sorted(steps.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_component_compiles_and_says_what_every_input_is(name: str, tmp_path: Path) -> None:
    from kfp import compiler

    from mainspring.components import kfp as steps

    step, path = getattr(steps, name), tmp_path / "c.yaml"
    compiler.Compiler().compile(step, str(path))
    compiled = yaml.safe_load(path.read_text())
    (component,) = (found for key, found in compiled["components"].items() if key == f"comp-{name.replace('_', '-')}")
    inputs = component.get("inputDefinitions", {})
    described = inputs.get("parameters", {}) | inputs.get("artifacts", {})
    assert described
    assert all(found.get("description") for found in described.values()), described
    (executor,) = compiled["deploymentSpec"]["executors"].values()
    command = " ".join(executor["container"]["command"])
    assert "from mainspring import components" in command
    assert "mainspring" in command.partition("pip install")[2]


def test_a_pipeline_of_all_steps_needs_nothing_of_the_machine_it_is_compiled_on(tmp_path: Path) -> None:
    """Each step's image, requirements and source say all: its source runs in an interpreter that knows only those."""
    import ast

    from kfp import compiler, dsl

    from mainspring.components import kfp as steps

    @dsl.pipeline(name="everything")
    def everything():
        data = steps.ingest_files(source="rows.csv")
        parts = steps.split(data=data.outputs["data"])
        transform = steps.fit_transform(train=parts.outputs["train"]).outputs["transform"]
        rows = {"train": parts.outputs["train"], "transform": transform, "target": "y", "task": "binary"}
        steps.tune(**rows, experiment="e", space={})
        steps.apply_transform(data=parts.outputs["test"], transform=transform)
        model = steps.train(**rows, experiment="e")
        steps.batch_predict(data=parts.outputs["test"], model=model.outputs["model"])
        report = steps.evaluate(data=parts.outputs["test"], model=model.outputs["model"]).outputs["evaluation"]
        steps.evaluate_registered(data=parts.outputs["test"], version="models:/m@champion")
        verdict = steps.gate(candidate=report, model="m").outputs["verdict"]
        steps.register(name="m", run_id=model.outputs["Output"], verdict=verdict, evaluation=report)
        steps.deploy(name="m", version="1")
        steps.validate(profile=steps.profile(data=data.outputs["data"]).outputs["profile"])
        steps.snapshot(data=data.outputs["data"], dataset="d")
        steps.ingest_query(query="select 1", files={})
        steps.ingest_database(url="sqlite://", query="select 1")
        steps.ingest_bigquery(query="select 1", project="p")
        steps.run_notebook(path="n.ipynb")
        steps.run_beam(script="b.py")

    path = tmp_path / "all.yaml"
    compiler.Compiler().compile(everything, str(path))
    executors = yaml.safe_load(path.read_text())["deploymentSpec"]["executors"]
    assert len(executors) == len(NAMES)
    known = {"kfp", "typing", "mainspring"}
    for label, executor in executors.items():
        container = executor["container"]
        assert container["image"] == "python:3.11", label
        command = " ".join(container["command"])
        assert str(Path(__file__).parents[2]) not in command, label
        installed = " ".join(re.findall(r"pip install ([^&]*)", command))
        assert re.search(r"'kfp==[0-9.]+'", installed), label
        assert re.search(r"'mainspring(\[[a-z,]+\])?'", installed), label
        source = ast.parse(container["command"][-1])
        imported = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name or "").partition(".")[0]
            for node in ast.walk(source)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert imported <= known, (label, imported)


def test_each_component_hands_over_all_it_is_given() -> None:
    """No parameter of a component is forgotten in its body."""
    from mainspring.components import kfp as steps

    for name in NAMES:
        function = getattr(steps, name).python_func
        body = inspect.getsource(function).rpartition('"""')[2]
        for parameter in inspect.signature(function).parameters:
            assert parameter in body, (name, parameter)


def test_the_example_of_the_page_compiles_and_the_page_names_every_component(tmp_path: Path) -> None:
    from kfp import compiler

    page = (Path(__file__).parents[2] / "docs" / "components.md").read_text()
    example = page.partition("```python\n")[2].partition("```")[0]
    names: dict[str, object] = {}
    exec(compile(example, "components.md", "exec", dont_inherit=True), names)
    compiler.Compiler().compile(names["churn"], str(tmp_path / "churn.yaml"))
    assert len(yaml.safe_load((tmp_path / "churn.yaml").read_text())["deploymentSpec"]["executors"]) == 12
    assert [name for name in NAMES if f"| `{name}` |" not in page] == []
