"""The quick form of an estimator: ONNX through skl2onnx, or LightGBM's text for boosted histogram trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mainspring.core import Foreign, Refused, Unavailable
from mainspring.serving.mlmodel import data_path, read_mlmodel
from mainspring.serving.models import LoadedModel
from mainspring.serving.plan import Plan
from mainspring.serving.runtimes.interface import Source, Trust
from mainspring.serving.runtimes.onnx import ANSWERS

__all__ = ["ANSWERS", "Converted", "convert"]

_HISTOGRAMS = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")


@dataclass(frozen=True, slots=True)
class Converted:
    """A model in its quick form."""

    form: str
    """The MLflow flavour."""
    file: str
    data: bytes
    answers: Mapping[str, str]
    """Which output of the quick form is which method of the model."""
    section: Mapping[str, object] = field(default_factory=dict)
    """More entries of the flavour's section."""


def convert(
    folder: Path, original: LoadedModel, *, allow_pickle: bool = False, trust_types: Sequence[str] = ()
) -> Converted:
    """Convert the model in a folder; raise `Refused` if there is no quick form of its kind."""
    description = read_mlmodel(folder)
    name = original.reference.name
    source = Source(folder, name, description, original.plan, Trust(allow_pickle, tuple(trust_types)))
    if original.platform == "lightgbm":
        return _native_lightgbm(source)
    if original.platform != "sklearn":
        raise Refused(f"Model {name} is served by {original.platform}: there is no quicker form of it.")
    # Late: scikit-learn, for models of this kind.
    from mainspring.serving.runtimes.sklearn import read_estimator

    model = read_estimator(source)
    if type(model).__name__ in _HISTOGRAMS:
        from mainspring.serving.histograms import to_lightgbm

        text, classes = to_lightgbm(model)
        section: dict[str, object] = {} if classes is None else {"classes": classes}
        return Converted("lightgbm", "model.lgb", text, {}, section)
    return _to_onnx(model, original.plan, name)


def _native_lightgbm(source: Source) -> Converted:
    """Take the booster out of one of LightGBM's scikit-learn classes."""
    from mainspring.serving.runtimes.lightgbm import read_booster

    path = data_path(source.folder, dict(source.flavor("lightgbm")))
    if path.suffix in (".lgb", ".txt"):
        raise Refused(f"Model {source.name} is a native LightGBM model already: there is no quicker form of it.")
    text, classes = read_booster(source, path)
    section: dict[str, object] = {} if classes is None else {"classes": classes.tolist()}
    return Converted("lightgbm", "model.lgb", text, {}, section)


def _to_onnx(model: Foreign, plan: Plan, name: str) -> Converted:  # any estimator
    try:
        # Late: only where models are converted, never where they are served.
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    except ImportError as error:
        raise Unavailable(f"Converting needs skl2onnx: {error}.", hint="pip install skl2onnx") from error
    if plan.columns and not plan.is_numeric:
        kinds = {
            column.name: StringTensorType if column.type == "string" else FloatTensorType for column in plan.columns
        }
        types = [(column, kinds[column]([None, 1])) for column in plan.names]
    else:
        types = [("input", FloatTensorType([None, int(model.n_features_in_)]))]
    is_classifier = hasattr(model, "predict_proba")
    options = {id(model): {"zipmap": False}} if is_classifier else None
    try:
        graph = to_onnx(model, initial_types=types, options=options)
    except Exception as error:  # a converter raises what it meets
        raise Refused(
            f"Model {name} has no ONNX form: {type(error).__name__}: {str(error).splitlines()[0][:200]}",
            hint="Serve it as it is.",
        ) from error
    outputs = [one.name for one in graph.graph.output]
    answers = {"predict": outputs[0]} | ({"predict_proba": outputs[1]} if is_classifier else {})
    return Converted("onnx", "model.onnx", graph.SerializeToString(), answers)
