"""Whatever else MLflow can load: through MLflow itself, and only with the operator's permission where it runs code."""

from __future__ import annotations

from typing import Any

from mainspring.core import Unavailable
from mainspring.serving.checked import Checked
from mainspring.serving.outputs import Outputs
from mainspring.serving.plan import Plan, matrix_plan
from mainspring.serving.runtimes.frames import frame_builder, to_outputs
from mainspring.serving.runtimes.interface import Runtime, Source
from mainspring.serving.runtimes.skopsfile import restore_defaults

PLATFORM = "mlflow"


def load(source: Source) -> Runtime:
    """Load a model with ``mlflow.pyfunc``; its loader is code, so the operator must have allowed that."""
    section = source.flavor("python_function")
    source.require_pickle("code/" if section.get("code") else str(section.get("loader_module"))[:80])
    try:
        # Late: seconds and hundreds of modules, for models that only MLflow can load.
        import mlflow.pyfunc
    except ImportError as error:
        raise Unavailable(
            f"Model {source.name} needs MLflow and pandas: {error}.", hint="pip install 'mainspring[mlflow]'"
        ) from error
    restore_defaults()
    try:
        model = mlflow.pyfunc.load_model(str(source.folder))
    except Exception as error:  # whatever the code of the model or its libraries raises
        raise Unavailable(
            f"Model {source.name} cannot be loaded: {type(error).__name__}: {str(error)[:300]}",
            hint="Install what it was made with; what answered before goes on answering.",
        ) from error
    return _runtime(source, model)


def _runtime(source: Source, model: Any) -> Runtime:  # noqa: ANN401 - MLflow has no types here
    plan = source.plan or matrix_plan(None)
    frame = frame_builder(plan, source.name) if plan.columns else None

    def predict(checked: Checked) -> Outputs:
        rows = frame(checked) if frame else _tensors(plan, checked)
        params = dict(checked.params) if plan.params else None
        return to_outputs(model.predict(rows, params=params) if params else model.predict(rows), checked.rows)

    return Runtime(PLATFORM, plan, predict)


def _tensors(plan: Plan, checked: Checked) -> Any:  # noqa: ANN401 - an array, or arrays by name
    return checked.columns if len(plan.tensors) > 1 else checked.columns[plan.tensors[0].name]
