"""scikit-learn models: skops files, pickles with permission; arrays instead of DataFrames where that is safe."""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.core import Corrupt, Foreign, Refused
from mainspring.serving.checked import Checked
from mainspring.serving.mlmodel import data_path
from mainspring.serving.outputs import PREDICT, Outputs
from mainspring.serving.plan import Column, ColumnType, DataType, Plan, make_plan, matrix_plan, open_plan
from mainspring.serving.runtimes.examples import make_example, takes_missing
from mainspring.serving.runtimes.forests import fast_forest
from mainspring.serving.runtimes.frames import frame_builder, open_input, to_outputs, without_pandas
from mainspring.serving.runtimes.interface import Predict, Runtime, Source
from mainspring.serving.runtimes.linears import fast_linear
from mainspring.serving.runtimes.pickles import load_pickle
from mainspring.serving.runtimes.skopsfile import load_skops, mentions

PLATFORM = "sklearn"
METHODS = (PREDICT, "predict_proba", "decision_function", "transform", "predict_log_proba", "score_samples")
_BY_NAME = ("ColumnTransformer", "FunctionTransformer", "make_column_selector", "_SetOutputMixin")

Prepare = Callable[[Checked], Any]


class _OneThread(threading.local):
    """How many threads OpenMP uses is a thread's own affair: the first call in a thread sets it."""

    def __init__(self) -> None:
        threads: Any = importlib.import_module("threadpoolctl")
        # A batch is too small to share: waiting for the other threads costs more than they do (8 times, measured).
        threads.threadpool_limits(limits=1)
        self.is_set = True


def load(source: Source) -> Runtime:
    """Load a model of MLflow's sklearn flavour."""
    return wrap(source, read_estimator(source))


def read_estimator(source: Source) -> Foreign:  # any estimator
    """Return the estimator of a model of MLflow's sklearn flavour."""
    return _read(source, _path(source))


def wrap(source: Source, model: Foreign) -> Runtime:  # any estimator
    """Make a runtime of an estimator in memory."""
    names = [name for name in METHODS if callable(getattr(model, name, None))]
    wanted = str(source.flavor("python_function").get("predict_fn", PREDICT))
    if wanted not in names:
        wanted = next(iter(names), "")
    if not wanted:
        raise Refused(f"Model {source.name} can neither predict nor transform.")
    _calm(model)
    plan = source.plan or _plan_of(model)
    plan, prepare = _choose(source, plan, model, wanted)
    one_thread = _OneThread()
    takes_arrays = (bool(plan.tensors) and not plan.is_open) or isinstance(prepare(make_example(plan, 1)), np.ndarray)

    def method(name: str) -> Predict:
        fast = fast_forest(model, name) or fast_linear(model, name) if takes_arrays else None
        call = fast or _unchecked(getattr(model, name))

        def answer(checked: Checked) -> Outputs:
            assert one_thread.is_set
            return to_outputs(call(prepare(checked)), checked.rows, name)

        return answer

    methods = {name: method(name) for name in names}
    first = methods.pop(wanted)
    if wanted != PREDICT:
        methods[wanted] = first
    from mainspring.serving.runtimes.shapley import explainer_of

    return Runtime(PLATFORM, plan, first, methods, explainer_of(model, plan, prepare))


def _unchecked(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a method without scikit-learn's own checks: what they look for, the plan has checked already.

    The switches belong to the thread, so they are put back after each call: whoever fits a model in it has his own.
    """
    import sklearn

    def predict(rows: Foreign) -> Foreign:  # what the method takes and gives
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            return call(rows)

    return predict


def _path(source: Source) -> Path:
    named = source.flavor("sklearn").get("pickled_model") or source.flavor("python_function").get("model_path")
    path = data_path(source.folder, {"data": named})
    if not path.is_file():
        raise Corrupt(f"Model {source.name} lacks its file {path.name}.")
    return path


def _read(source: Source, path: Path) -> Foreign:  # any estimator
    texts = source.plan is not None and not source.plan.is_numeric and bool(source.plan.columns)
    if path.suffix != ".skops":
        source.require_pickle(path.name)
        data = path.read_bytes()
        if not texts and not any(name.encode() in data for name in ("pandas", *_BY_NAME)):
            with without_pandas():
                importlib.import_module("sklearn.utils.fixes")
        return load_pickle(source, path)
    return load_skops(source, path, needs_pandas=texts or mentions(path, *_BY_NAME))


def _calm(model: Foreign) -> None:  # any estimator
    """Keep estimators from starting threads or processes for a single request."""
    for one in estimators_in(model):
        if getattr(one, "n_jobs", None) not in (None, 1):
            one.n_jobs = 1


def estimators_in(model: Foreign) -> list[Any]:  # any estimator
    """Return the model and the estimators it is composed of, without the members of ensembles."""
    found, waiting = [], [model]
    while waiting:
        one = waiting.pop()
        if not hasattr(one, "get_params"):
            continue
        found.append(one)
        for value in list(vars(one).values()):
            for part in value if isinstance(value, list | tuple) else [value]:
                inner = part[1] if isinstance(part, tuple) and len(part) > 1 else part
                if hasattr(inner, "get_params") and not any(inner is known for known in found):
                    waiting.append(inner)
    return found


def _plan_of(model: Foreign) -> Plan:  # any estimator
    """Make the plan of a model without a signature from what it learned about its inputs."""
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        # A model that treats its columns differently may take texts in some: it gets every value as it was sent.
        kind: ColumnType = "any" if any(_selects(one) for one in estimators_in(model)) else "double"
        nested = DataType(kind=kind) if kind == "any" else None
        return make_plan([Column(name=str(name), type=kind, nested=nested) for name in names])
    width = getattr(model, "n_features_in_", None)
    return open_plan() if width is None else matrix_plan(int(width))


def _choose(source: Source, plan: Plan, model: Foreign, method: str) -> tuple[Plan, Prepare]:
    """Choose between arrays and DataFrames, and find out what may be missing and which texts are known."""
    plan = _with_categories(plan, model)
    if plan.is_open:
        return plan, open_input
    if not plan.columns:
        prepare = _arrays(plan)
        return _missing(plan, model, method, prepare), prepare
    if plan.is_numeric and not any(_selects(one) for one in estimators_in(model)):
        prepare = _ordered(source, plan, model)
        _forget_names(model)
        return _missing(plan, model, method, prepare), prepare
    frame = frame_builder(plan, source.name)
    plan = _missing(plan, model, method, frame)
    if plan.is_numeric and _agree(plan, model, method, frame):
        _forget_names(model)
        return plan, _matrix(plan)
    return plan, frame


def _matrix(plan: Plan) -> Prepare:
    """Return what makes a matrix of columns: of single precision if all are, in the order a DataFrame has it."""
    if plan.singles.size == len(plan.columns):
        return lambda checked: checked.to_matrix().astype(np.float32, order="F")
    return Checked.to_matrix


def _arrays(plan: Plan) -> Prepare:
    """Return what makes a model's argument where no column is named: a matrix, or an array of texts."""
    name, shape = plan.tensors[0].name, plan.tensors[0].shape
    return (lambda checked: np.asarray(checked[name])) if len(shape) == 1 else Checked.to_matrix


def _selects(one: Foreign) -> bool:  # any estimator
    """Say whether an estimator might look at the names of columns; scikit-learn's own do not, but for a few."""
    kind = type(one)
    return (
        not kind.__module__.startswith("sklearn.")
        or kind.__name__ in _BY_NAME
        or hasattr(one, "_sklearn_output_config")
    )


def _ordered(source: Source, plan: Plan, model: Foreign) -> Prepare:  # any estimator
    """Return the matrix in the order the model was fitted with."""
    fitted = tuple(map(str, getattr(model, "feature_names_in_", ())))
    width = getattr(model, "n_features_in_", len(plan.columns))
    if width != len(plan.columns):
        raise Corrupt(f"Model {source.name} has {width} features, its signature {len(plan.columns)}.")
    matrix = _matrix(plan)
    if not fitted or fitted == plan.names or not plan.has_names:
        return matrix
    if frozenset(fitted) != plan.name_set:
        raise Corrupt(f"The signature of model {source.name} has other columns than the model.")
    places = np.array([plan.names.index(name) for name in fitted])
    return lambda checked: matrix(checked)[:, places]


def _forget_names(model: Foreign) -> None:  # any estimator
    """Forget the names of the columns, or every call with an array warns about them."""
    for one in estimators_in(model):
        vars(one).pop("feature_names_in_", None)


def _agree(plan: Plan, model: Foreign, method: str, frame: Prepare) -> bool:  # any estimator
    """Say whether arrays give exactly what DataFrames give, on random rows."""
    example = make_example(plan, 16)
    call = getattr(model, method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            one, other = np.asarray(call(frame(example))), np.asarray(call(_matrix(plan)(example)))
        except Exception:  # noqa: BLE001 - whatever an estimator raises: then it is not proven
            return False
    return _same(one, other)


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def _missing(plan: Plan, model: Foreign, method: str, prepare: Prepare) -> Plan:  # any estimator
    """Find out in which columns the model can do without a value."""
    import sklearn

    call = getattr(model, method)

    def predict(checked: Checked) -> NDArray[Any]:
        # With its checks on: without them it would answer something for a missing value.
        with warnings.catch_warnings(), sklearn.config_context(assume_finite=False, skip_parameter_validation=False):
            warnings.simplefilter("ignore")
            return np.asarray(call(prepare(checked)))

    return takes_missing(plan, predict)


def _with_categories(plan: Plan, model: Foreign) -> Plan:  # any estimator
    """Tell the plan which texts the model's encoders have learned, and whether they fail on others."""
    learned: dict[str, tuple[frozenset[str], bool]] = {}
    for one in estimators_in(model):
        for _, encoder, columns in getattr(one, "transformers_", ()):
            _learn(learned, encoder, columns)
    if not learned:
        return plan
    columns = []
    for column in plan.columns:
        categories, refuses = learned.get(column.name, (None, False))
        columns.append(
            msgspec.structs.replace(column, categories=categories, refuses_unseen=refuses)
            if column.type == "string"
            else column
        )
    return make_plan(columns, plan.params, has_names=plan.has_names)


def _learn(learned: dict[str, tuple[frozenset[str], bool]], encoder: Foreign, columns: Foreign) -> None:
    for one in estimators_in(encoder):
        categories = getattr(one, "categories_", None)
        if categories is None or not isinstance(columns, list | np.ndarray) or len(categories) != len(columns):
            continue
        refuses = getattr(one, "handle_unknown", "") == "error"
        for name, texts in zip(columns, categories, strict=True):
            learned[str(name)] = (frozenset(text for text in texts if isinstance(text, str)), refuses)
