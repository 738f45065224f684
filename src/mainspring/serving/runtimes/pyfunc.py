"""Whatever else MLflow can load: through MLflow itself, and only with the operator's permission where it runs code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mainspring.core import Foreign, Unavailable
from mainspring.serving.checked import Checked
from mainspring.serving.outputs import Outputs
from mainspring.serving.plan import Plan, open_plan
from mainspring.serving.runtimes.frames import any_outputs, frame_builder, open_input
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


def _runtime(source: Source, model: Foreign) -> Runtime:  # MLflow has no types here
    """Make a runtime; a model may answer whatever it likes to a request (`Lane` takes only what has rows apart)."""
    plan = source.plan or open_plan()
    give = _giver(source, plan)

    def predict(checked: Checked) -> Outputs:
        params = dict(checked.params) if plan.params else None
        return any_outputs(model.predict(give(checked), params=params) if params else model.predict(give(checked)))

    return Runtime(PLATFORM, plan, predict)


def _giver(source: Source, plan: Plan) -> Callable[[Checked], Any]:
    """Return what makes the model's argument: a DataFrame, an array, arrays by name, or what was sent."""
    if plan.columns:
        return frame_builder(plan, source.name)
    if plan.is_open:
        return open_input
    texts = frozenset(tensor.name for tensor in plan.tensors if tensor.dtype == "str")

    def tensors(checked: Checked) -> Foreign:  # an array, or arrays by name
        if checked.matrix is not None:
            return checked.matrix
        found = {name: np.asarray(array, str) if name in texts else array for name, array in checked.columns.items()}
        return found if len(found) > 1 else found[plan.names[0]]

    return tensors
