"""ONNX models through ONNX Runtime: one thread, no scikit-learn, no data from outside the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Corrupt, Foreign, Refused, Unavailable
from mainspring.serving.checked import Checked
from mainspring.serving.mlmodel import data_path
from mainspring.serving.onnxfile import check_external_data
from mainspring.serving.outputs import PREDICT, Outputs, join_outputs, single
from mainspring.serving.plan import Column, ColumnType, Plan, Tensor, make_plan, tensor_plan
from mainspring.serving.runtimes.examples import takes_missing
from mainspring.serving.runtimes.interface import Predict, Runtime, Source, require_width

PLATFORM = "onnxruntime_onnx"
ANSWERS = "mainspring_answers"
"""In the flavour of a model that `mainspring.serving.acceleration` made: which output is which method."""

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(string)": "str",
    "tensor(bool)": "bool",
    **{f"tensor({sign}{bits})": f"{sign}{bits}" for sign in ("int", "uint") for bits in (8, 16, 32, 64)},
}
_COLUMN_TYPES: dict[str, ColumnType] = {
    "float32": "float",
    "float64": "double",
    "int64": "long",
    "int32": "integer",
    "str": "string",
    "bool": "boolean",
}


def load(source: Source) -> Runtime:
    """Load a model of MLflow's onnx flavour."""
    flavor = source.flavor("onnx")
    path = data_path(source.folder, dict(flavor))
    check_external_data(path, source.folder)
    session = _open(path)
    inputs = [_tensor(source, one) for one in session.get_inputs()]
    plan = source.plan or _plan(inputs)
    feed = _feeder(source, plan, inputs)
    names = tuple(one.name for one in session.get_outputs())
    run = session.run

    def predict_batch(checked: Checked) -> Outputs:
        return _outputs(names, run(None, feed(checked)), is_table=bool(plan.columns))

    takes_one_row = bool(session.get_inputs()[0].shape) and session.get_inputs()[0].shape[0] == 1
    predict = _row_by_row(predict_batch) if takes_one_row else predict_batch
    answers = flavor.get(ANSWERS)
    if not isinstance(answers, dict):
        plan = takes_missing(plan, lambda checked: _scores(predict(checked)))
        return Runtime(PLATFORM, plan, predict, _methods(predict, names))
    methods = {str(method): _select(predict, str(method), names.index(name)) for method, name in answers.items()}
    wanted = str(source.flavor("python_function").get("predict_fn", PREDICT))
    first = methods[wanted] if wanted in methods else methods[PREDICT]
    return Runtime(PLATFORM, plan, first, {name: one for name, one in methods.items() if one is not first})


def _open(path: Path) -> Foreign:  # onnxruntime has no types
    try:
        # Late: only for models of this kind.
        import onnxruntime
    except ImportError as error:
        raise Unavailable("This model needs ONNX Runtime.", hint="pip install 'mainspring[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # an arena keeps what the largest batch needed
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors have no common type of their own
        raise Corrupt(f"ONNX Runtime cannot use {path.name}: {str(error).splitlines()[0][:300]}") from error


def _tensor(source: Source, one: Foreign) -> Tensor:  # onnxruntime has no types
    if one.type not in _DTYPES:
        raise Refused(f"Input {one.name} of model {source.name} is a {one.type}, which is not served.")
    sizes = [size if isinstance(size, int) else -1 for size in one.shape]
    if sizes and sizes[0] > 1:
        raise Refused(f"Model {source.name} takes exactly {sizes[0]} rows.", hint="Export it with a dynamic batch.")
    return Tensor(name=one.name, dtype=_DTYPES[one.type], shape=(-1, *sizes[1:]))


def _plan(inputs: list[Tensor]) -> Plan:
    """Make a plan of the model's own inputs: columns where each input is one, else tensors."""
    if len(inputs) > 1 and all(one.shape in ((-1, 1), (-1,)) and one.dtype in _COLUMN_TYPES for one in inputs):
        return make_plan([Column(name=one.name, type=_COLUMN_TYPES[one.dtype]) for one in inputs])
    return tensor_plan(inputs)


def _feeder(source: Source, plan: Plan, inputs: list[Tensor]) -> Callable[[Checked], dict[str, NDArray[Any]]]:
    """Return what turns a checked request into the session's inputs."""
    first = inputs[0]
    if len(inputs) == 1 and (plan.is_numeric or len(plan.tensors) == 1):
        if len(first.shape) == 2 and first.shape[1] > 0:
            require_width(source, plan, first.shape[1])
        dtype = np.dtype(object if first.dtype == "str" else first.dtype)
        return lambda checked: {first.name: np.ascontiguousarray(checked.to_matrix(), dtype=dtype)}
    missing = [one.name for one in inputs if one.name not in plan.name_set]
    if missing:
        raise Corrupt(f"The signature of model {source.name} lacks its inputs {', '.join(missing[:10])}.")

    def feed(checked: Checked) -> dict[str, NDArray[Any]]:
        return {one.name: _shape(np.asarray(checked[one.name], dtype=_dtype(one)), one) for one in inputs}

    return feed


def _dtype(tensor: Tensor) -> np.dtype[Any]:
    return np.dtype(object if tensor.dtype == "str" else tensor.dtype)


def _shape(array: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    return array.reshape(-1, 1) if array.ndim == 1 and len(tensor.shape) == 2 else array


def _outputs(names: tuple[str, ...], found: list[Any], *, is_table: bool) -> Outputs:
    """Return a session's outputs: a table to one who sends columns, as MLflow has it, else arrays by name."""
    keys = {name: tuple(sorted(one[0])) for name, one in zip(names, found, strict=True) if _has_keys(one)}
    arrays = tuple(_plain(one, keys.get(name)) for name, one in zip(names, found, strict=True))
    if is_table and all(array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1) for array in arrays):
        return Outputs(names, tuple(array.reshape(-1) for array in arrays), is_frame=True)
    return Outputs(names, arrays, is_named=True, keys=keys)


def _has_keys(found: Foreign) -> bool:  # an array, or a list of maps by class
    return isinstance(found, list) and bool(found) and isinstance(found[0], dict)


def _plain(found: Foreign, keys: tuple[Any, ...] | None) -> NDArray[Any]:  # an array, or maps by class
    """Return an output as an array; maps from classes to scores become one column per class."""
    return np.asarray(found) if keys is None else np.array([[row[key] for key in keys] for row in found])


def _scores(outputs: Outputs) -> NDArray[Any]:
    """Return all numbers of an answer, to look for NaN in them."""
    found = [np.asarray(array, dtype=np.float64).ravel() for array in outputs.arrays if array.dtype.kind == "f"]
    return np.concatenate(found) if found else np.zeros(0)


def _row_by_row(predict: Predict) -> Predict:
    """Ask a model that takes one row at a time for each row."""

    def predict_rows(checked: Checked) -> Outputs:
        return join_outputs([predict(checked.slice(row, row + 1)) for row in range(checked.rows)])

    return predict_rows


def _select(predict: Predict, method: str, place: int) -> Predict:
    def answer(checked: Checked) -> Outputs:
        array = predict(checked).arrays[place]
        return single(array[:, 0] if method == "predict" and array.ndim == 2 and array.shape[1] == 1 else array, method)

    return answer


def _methods(predict: Predict, names: tuple[str, ...]) -> dict[str, Predict]:
    """Offer a classifier's scores under the name that other runtimes give them."""
    scores = next((place for place, name in enumerate(names) if name in ("probabilities", "output_probability")), None)
    return {} if scores is None else {"predict_proba": _select(predict, "predict_proba", scores)}
