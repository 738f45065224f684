"""Components that let things run: deploy, batch predict, a notebook, a Beam pipeline."""
# ruff: noqa: I002, UP045, D413 - KFP reads the annotations as they are when the module is imported

from typing import Any, Optional

from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from mainspring.components.kfp.making import component


@component("mlflow")
def deploy(name: str, version: str, how: str = "alias", alias: str = "champion", endpoint: str = "") -> str:
    """Bring a registered version in front of clients.

    Args:
        name: Of the registered model.
        version: From register.
        how: alias (anywhere), rollout (a canary at an endpoint of the project) or endpoint (all requests, at once).
        alias: Of the registered model.
        endpoint: Of the project; for rollout and endpoint.

    Returns:
        What was done, in one sentence.
    """
    from mainspring import components

    return components.deploy_version(name, version, how=how, alias=alias, endpoint=endpoint)


@component("sklearn", "lightgbm", "xgboost")
def batch_predict(
    data: Input[Dataset],
    predictions: Output[Dataset],
    model: Optional[Input[Model]] = None,
    version: str = "",
    method: str = "predict",
    output: str = "",
    trust_types: list[str] = [],  # noqa: B006 - KFP keeps it as a value
) -> int:
    """Predict every row of a table through the code that answers requests.

    Args:
        data: The rows; columns the model does not take are kept.
        predictions: The rows with prediction, and problem where there is one, beside them.
        model: From train; or
        version: models:/NAME@champion of the project.
        method: predict, or predict_proba where the model has it.
        output: A file to write besides: .parquet, .csv or .jsonl.
        trust_types: Types a skops file of a registered version may hold.

    Returns:
        How many rows have a problem.
    """
    from mainspring import components

    done = components.predict_table(
        data,
        predictions=predictions,
        model=model,
        version=version,
        method=method,
        output=output,
        trust_types=trust_types,
    )
    return done.problems


@component(also=("nbclient>=0.10", "ipykernel>=6"))
def run_notebook(
    path: str,
    executed: Output[Artifact],
    page: Output[HTML],
    parameters: dict[str, Any] = {},  # noqa: B006 - KFP keeps it as a value
    timeout_s: int = 3600,
) -> None:
    """Execute a notebook with parameters.

    Args:
        path: An .ipynb file where the step runs.
        executed: The notebook with its outputs.
        page: The same as a page.
        parameters: Written into a cell after the one tagged "parameters".
        timeout_s: Of one cell.
    """
    from mainspring import components

    components.run_notebook_file(path, parameters=parameters, executed=executed, page=page, timeout_s=timeout_s)


@component()
def run_beam(
    script: str,
    log: Output[Artifact],
    options: dict[str, Any] = {},  # noqa: B006 - KFP keeps it as a value
    runner: str = "DirectRunner",
    python: str = "",
    timeout_s: int = 3600,
) -> None:
    """Run a script that builds an Apache Beam pipeline.

    Args:
        script: A Python file where the step runs.
        log: What it said.
        options: Of the pipeline: true is a flag, a list repeats the option.
        runner: DirectRunner, DataflowRunner, FlinkRunner …
        python: Interpreter of an environment that has apache-beam; none: the step's own.
        timeout_s: Of the whole pipeline.
    """
    from mainspring import components

    components.run_beam_script(script, options=options, log=log, runner=runner, python=python, timeout_s=timeout_s)
