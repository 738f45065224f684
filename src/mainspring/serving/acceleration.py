"""A quicker form of a model, as a gated step: converted, compared with the original, refused if it answers differently.

scikit-learn models become ONNX (100 trees: 300 to 7 microseconds a row, no scikit-learn to import), histogram
boosting and LightGBM's own classes become LightGBM's text form. The new folder is a model like any other; it holds
the report of the comparison (``parity.json``), the plan of the original (``plan.json``) and the original itself
(``original/``), which answers when the quick form cannot be loaded, and which explains.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from mainspring.core import AlreadyExists, InvalidInput, Refused
from mainspring.serving.checked import Checked
from mainspring.serving.conversion import ANSWERS, Converted, convert
from mainspring.serving.deployment import ModelReference
from mainspring.serving.mlmodel import read_mlmodel, tree_digest
from mainspring.serving.models import LoadedModel, load_model
from mainspring.serving.outputs import PREDICT
from mainspring.serving.validation import Columns, check

PARITY = "parity.json"
PLAN = "plan.json"
ORIGINAL = "original"
TOLERANCE = 1e-5
_TIMED_CALLS = 20


class ParityReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the quick form of a model compares with the original on a validation sample."""

    form: str
    """``onnx`` or ``lightgbm``."""
    rows: int
    tolerance: float
    """Largest difference of a score that is accepted."""
    max_difference: float
    """Largest difference of a score found; NaN and infinity must be in the same places."""
    label_flips: int
    """Rows that get another label."""
    ties: int
    """Of these, rows whose two best scores differ by no more than the tolerance: either label is right."""
    accepted: bool
    reason: str = ""
    """Why it was refused."""
    original_us: float
    """Microseconds for one row, median."""
    accelerated_us: float
    original_digest: str
    """Digest of the original's folder."""


def accelerate(
    folder: Path,
    sample: Columns,
    out_folder: Path,
    tolerance: float = TOLERANCE,
    *,
    allow_pickle: bool = False,
    trust_types: Sequence[str] = (),
) -> ParityReport:
    """Write the quick form of a model to ``out_folder`` if it agrees with the model on a sample of its inputs.

    ``sample`` is columns (or tensors) by name. The report is returned, and stored in ``out_folder``, whether it is
    accepted or not; a refused one is stored alone, so there is nothing to serve. Raises `Refused` if this kind of
    model has no quick form.
    """
    if out_folder.exists() and any(out_folder.iterdir()):
        raise AlreadyExists(f"{out_folder} is not empty.", hint="Name a new folder.")
    options: dict[str, Any] = {"allow_pickle": allow_pickle, "trust_types": trust_types}
    original = _load(folder, options)
    rows = _rows(sample)
    checked = check(original.plan, sample, rows)
    out_folder.mkdir(parents=True, exist_ok=True)
    converted = convert(folder, original, **options)
    _write(folder, out_folder, original, converted)
    quick = _load(out_folder, {})
    report = compare(original, quick, checked, form=converted.form, tolerance=tolerance)
    if not report.accepted:
        shutil.rmtree(out_folder)
        out_folder.mkdir()
    (out_folder / PARITY).write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return report


def compare(
    original: LoadedModel, quick: LoadedModel, checked: Checked, *, form: str, tolerance: float
) -> ParityReport:
    """Compare two models on the same rows."""
    wanted, found = _answers(original, checked), _answers(quick, checked)
    difference, flips, ties = 0.0, 0, 0
    reason = ""
    scores = wanted.get("predict_proba")
    for name, array in wanted.items():
        other = found.get(name)
        if other is None or other.shape != array.shape:
            reason = f"{name} has another shape"
        elif _is_label(name, array, wanted):
            flipped = array != other
            flips += int(flipped.sum())
            ties += 0 if scores is None else int((flipped & _is_tied(scores, tolerance)).sum())
        else:
            difference = max(difference, _max_difference(array, other))
    if not reason and difference > tolerance:
        reason = f"a score differs by {difference:.3g}, more than {tolerance:g}"
    if not reason and flips > ties:
        reason = f"{flips - ties} of {checked.rows} rows get another label without a tie"
    return ParityReport(
        form=form,
        rows=checked.rows,
        tolerance=tolerance,
        max_difference=difference,
        label_flips=flips,
        ties=ties,
        accepted=not reason,
        reason=reason,
        original_us=_time(original, checked),
        accelerated_us=_time(quick, checked),
        original_digest=original.reference.digest,
    )


def read_report(folder: Path) -> ParityReport | None:
    """Return the report that is stored with a model, if it was accelerated."""
    path = folder / PARITY
    return msgspec.json.decode(path.read_bytes(), type=ParityReport) if path.is_file() else None


def _load(folder: Path, options: dict[str, Any]) -> LoadedModel:
    reference = ModelReference(name=folder.name or "model", version="0", digest=tree_digest(folder), folder=str(folder))
    return load_model(reference, **options)


def _rows(sample: Columns) -> int:
    sizes = {len(values) for values in sample.values()}
    if len(sizes) != 1 or sizes == {0}:
        raise InvalidInput("The validation sample has no rows, or columns of different lengths.")
    return sizes.pop()


def _write(folder: Path, out_folder: Path, original: LoadedModel, converted: Converted) -> None:
    """Write a model folder: the quick form, what is known about the original, and the original."""
    shutil.copytree(folder, out_folder / ORIGINAL)
    (out_folder / converted.file).write_bytes(converted.data)
    (out_folder / PLAN).write_bytes(msgspec.json.encode(original.plan))
    source = yaml.safe_load((folder / "MLmodel").read_bytes())
    section = {"data": converted.file, **converted.section, ANSWERS: dict(converted.answers)}
    predict_fn = read_mlmodel(folder).flavors.get("python_function", {}).get("predict_fn", PREDICT)
    document = {
        "flavors": {
            converted.form: section,
            "python_function": {
                "loader_module": f"mlflow.{converted.form}",
                "data": converted.file,
                "predict_fn": predict_fn,
            },
        },
        "signature": source.get("signature"),
        "saved_input_example_info": source.get("saved_input_example_info"),
        "metadata": {**(source.get("metadata") or {}), "accelerated_from": original.reference.digest},
    }
    (out_folder / "MLmodel").write_text(yaml.safe_dump(document, sort_keys=False))
    for name in _example_files(source):
        if (folder / name).is_file():
            shutil.copy(folder / name, out_folder / name)


def _example_files(source: Mapping[str, Any]) -> list[str]:
    info = source.get("saved_input_example_info") or {}
    return [Path(str(info[key])).name for key in ("artifact_path", "serving_input_path") if info.get(key)]


def _answers(model: LoadedModel, checked: Checked) -> dict[str, NDArray[Any]]:
    """Ask a model for its answer and, if it is a classifier, for its scores."""
    answers = {PREDICT: model.predict(checked).primary}
    if "predict_proba" in model.methods:
        answers["predict_proba"] = model.methods["predict_proba"](checked).primary
    return answers


def _is_label(name: str, array: NDArray[Any], answers: Mapping[str, NDArray[Any]]) -> bool:
    """Say whether an answer is a class; numbers of a classifier are labels, a regressor's are scores."""
    return array.dtype.kind not in "f" or (name == PREDICT and "predict_proba" in answers and array.ndim == 1)


def _is_tied(scores: NDArray[Any], tolerance: float) -> NDArray[np.bool_]:
    ordered = np.sort(scores, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2] <= 2 * tolerance)


def _max_difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    left, right = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    gaps = np.abs(np.where(same, 0.0, left) - np.where(same, 0.0, right))
    return float("inf") if np.isnan(gaps).any() else float(gaps.max(initial=0.0))


def _time(model: LoadedModel, checked: Checked) -> float:
    row = checked.slice(0, 1)
    times = []
    for _ in range(_TIMED_CALLS):
        started = perf_counter()
        model.predict(row)
        times.append((perf_counter() - started) * 1e6)
    return round(median(times), 1)


def require_accepted(report: ParityReport) -> ParityReport:
    """Return the report, or raise `Refused` with its reason."""
    if not report.accepted:
        raise Refused(
            f"The {report.form} form does not agree with the model: {report.reason}.",
            hint="Serve the model as it is, or allow a larger --tolerance if that is acceptable.",
        )
    return report
