"""Load a model version: verify its bytes, choose its runtime, try it out."""

from __future__ import annotations

import dataclasses
import importlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import msgspec

from mainspring.core import Corrupt, MainspringError, Refused, Unavailable
from mainspring.serving.checked import Checked, concatenate
from mainspring.serving.deployment import ModelReference
from mainspring.serving.explanations import Explain, Explanation
from mainspring.serving.mlmodel import check_tree, read_mlmodel, tree_size
from mainspring.serving.outputs import Outputs
from mainspring.serving.plan import Plan
from mainspring.serving.runtimes.examples import make_example, read_example
from mainspring.serving.runtimes.interface import Predict, Runtime, Source, Trust
from mainspring.serving.runtimes.memory import require_memory
from mainspring.serving.signature import compile_signature

_logger = logging.getLogger("mainspring.serving")

OUR_LOADER = "mainspring.serving.pyfunc"
QUICK_MS = 1.0
_WARM_ROWS = 32
_RUNTIMES = {
    "mlflow.onnx": ("onnx", "onnx"),
    "mlflow.lightgbm": ("lightgbm", "lightgbm"),
    "mlflow.xgboost": ("xgboost", "xgboost"),
    "mlflow.sklearn": ("sklearn", "sklearn"),
    "mlflow.pytorch": ("pytorch", "torch"),
    "mlflow.keras": ("keras", "keras"),
    "mlflow.tensorflow": ("tensorflow", "keras"),
}
"""By MLflow's loader: the flavour it belongs to, and our module that loads it."""

__all__ = ["OUR_LOADER", "LoadedModel", "Predict", "load_model"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model version that is ready to predict."""

    reference: ModelReference
    platform: str
    plan: Plan
    predict: Predict
    methods: Mapping[str, Predict] = field(default_factory=dict)
    """What else the model can be asked, by output name: ``predict_proba``, ``decision_function``, …"""
    is_quick: bool = True
    """Whether a call with a batch takes less than about a millisecond, so that it may run on the event loop."""
    explain: Explain | None = None
    """Say how much each input moved each row's score; none if this kind of model cannot."""
    sample: Outputs | None = None
    """What it answered when it was warmed up: the types and shapes of its outputs, where they are known."""


def load_model(
    reference: ModelReference, *, allow_pickle: bool = False, trust_types: Sequence[str] = ()
) -> LoadedModel:
    """Load the model a deployment names.

    Raises `Corrupt` if its bytes changed or are damaged, `Refused` if it could run code that the operator did not
    allow, `Unavailable` if it does not fit or a library is missing. Nothing that is loaded already is touched.
    """
    folder = Path(reference.folder)
    check_tree(folder, reference.digest)
    name = f"{reference.name} version {reference.version}"
    require_memory(tree_size(folder), f"Model {name}")
    description = read_mlmodel(folder)
    plan = compile_signature(description.signature, name)
    source = Source(folder, name, description, plan, Trust(allow_pickle, tuple(trust_types)))
    started = perf_counter()
    try:
        runtime = _load_runtime(source)
    except MemoryError as error:
        raise Unavailable(f"Model {name} does not fit into memory.", hint="Give the endpoint more memory.") from error
    except MainspringError:
        raise
    except Exception as error:  # whatever a library makes of a damaged file
        raise Unavailable(
            f"Model {name} cannot be loaded: {type(error).__name__}: {str(error)[:300]}",
            hint="Materialise it again; what answered before goes on answering.",
        ) from error
    took, sample = _warm_up(source, runtime)
    fields = {"model": name, "platform": runtime.platform, "load_ms": round((perf_counter() - started) * 1000)}
    _logger.info("model.loaded", extra={"fields": {**fields, "batch_ms": None if took is None else round(took, 3)}})
    return LoadedModel(
        reference=reference,
        platform=runtime.platform,
        plan=runtime.plan,
        predict=runtime.predict,
        methods=runtime.methods,
        is_quick=took is not None and took < QUICK_MS,
        explain=runtime.explain,
        sample=sample,
    )


def _load_runtime(source: Source) -> Runtime:
    """Load a model, or the original it is the quick form of if it cannot be loaded."""
    original = source.folder / "original"
    if not original.is_dir() or not (source.folder / "plan.json").is_file():
        return _choose_runtime(source)
    try:
        plan = msgspec.json.decode((source.folder / "plan.json").read_bytes(), type=Plan)
    except msgspec.DecodeError as error:
        raise Corrupt(f"The plan.json of model {source.name} is damaged: {str(error)[:100]}.") from error
    try:
        runtime = _choose_runtime(dataclasses.replace(source, plan=plan))
    except (Corrupt, Unavailable) as error:
        _logger.warning("model.fallback", extra={"fields": {"model": source.name, "error": str(error)}})
        return _choose_runtime(_original(source, original))
    return dataclasses.replace(runtime, explain=runtime.explain or _explain_with(source, original))


def _original(source: Source, folder: Path) -> Source:
    description = read_mlmodel(folder)
    return dataclasses.replace(
        source, folder=folder, description=description, plan=compile_signature(description.signature, source.name)
    )


def _explain_with(source: Source, folder: Path) -> Explain:
    """Explain a quick form through its original, which is loaded when the first explanation is asked for."""
    loaded: list[Runtime] = []

    def explain(checked: Checked) -> Explanation:
        if not loaded:
            loaded.append(_choose_runtime(_original(source, folder)))
        wanted = loaded[0].explain
        if wanted is None:
            raise Refused(f"Model {source.name} cannot be explained.")
        return wanted(checked)

    return explain


def _choose_runtime(source: Source) -> Runtime:
    """Choose the runtime by the model's loader and import it; only that one's libraries are needed."""
    pyfunc = source.flavor("python_function")
    loader = str(pyfunc.get("loader_module", ""))
    module = "pyfunc"
    if loader == OUR_LOADER:
        module = "transformed"
    elif not pyfunc:
        module = next((ours for flavor, ours in _RUNTIMES.values() if source.flavor(flavor)), "")
    elif not pyfunc.get("code") and source.flavor(_RUNTIMES.get(loader, ("", ""))[0]):
        module = _RUNTIMES[loader][1]
    if not module:
        raise Refused(f"Model {source.name} has no flavour that is served.", hint="Log it with an MLflow flavour.")
    runtime: Runtime = importlib.import_module(f"mainspring.serving.runtimes.{module}").load(source)
    return runtime


def _warm_up(source: Source, runtime: Runtime) -> tuple[float | None, Outputs | None]:
    """Call the model as clients will; return the milliseconds of a batch and its answer, if a row could be made for it.

    A model that fails on the example it was logged with is `Unavailable`.
    """
    example = read_example(source.folder, source.description, runtime.plan)
    try:
        if example is None:
            return _measure(runtime.predict, make_example(runtime.plan, _WARM_ROWS))
        repeats = max(1, _WARM_ROWS // max(1, example.rows))
        return _measure(runtime.predict, concatenate([example] * repeats))
    except MainspringError:
        if example is not None:
            raise
    except Exception as error:  # whatever the model raises
        if example is not None:
            raise Unavailable(
                f"Model {source.name} fails on its own input example: {type(error).__name__}: {str(error)[:200]}",
                hint="Try it with mlflow.models.predict; what answered before goes on answering.",
            ) from error
    return None, None


def _measure(predict: Predict, batch: Checked) -> tuple[float, Outputs]:
    times = []
    for _ in range(3):
        started = perf_counter()
        outputs = predict(batch)
        times.append((perf_counter() - started) * 1000)
    return sorted(times)[1], outputs
