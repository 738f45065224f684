"""Batch predict: every row of a table through the plan and the model that answer requests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mainspring.components.artifacts import ArtifactFile
from mainspring.components.evaluation import find_version
from mainspring.components.scoring import BOOSTERS, folder_reference
from mainspring.components.tables import read_table
from mainspring.core import InvalidInput, NotFound, open_clock
from mainspring.serving.batch import BatchOptions, BatchSummary, predict_file
from mainspring.serving.models import load_model

SUFFIXES = (".parquet", ".csv", ".jsonl")


def predict_table(
    data: ArtifactFile,
    *,
    predictions: ArtifactFile,
    model: ArtifactFile | None = None,
    version: str = "",
    method: str = "predict",
    output: str = "",
    trust_types: Sequence[str] = (),
    allow_pickle: bool = False,
) -> BatchSummary:
    """Predict a table with a model folder, or a registered ``version`` (``models:/NAME@champion``) of this project.

    The rows come out as they went in, with ``prediction`` beside them and, where a row could not be predicted, its
    ``problem``. ``output`` names a file to write besides the artifact: .parquet, .csv or .jsonl.
    """
    if (model is None) == (not version):
        raise InvalidInput("Name one model.", hint="Give a model, or version=models:/NAME@champion.")
    folder = Path(model.path) if model is not None else find_version(version)
    if folder is None:
        raise NotFound(f"There is no model {version}.", hint="Register one: the step register_model.")
    if output and not output.endswith(SUFFIXES):
        raise InvalidInput(
            f"{output} is neither Parquet, CSV nor JSON lines.", hint="Name it .parquet, .csv or .jsonl."
        )
    ours = BOOSTERS if model is not None else ()
    loaded = load_model(folder_reference(folder), allow_pickle=allow_pickle, trust_types=(*ours, *trust_types))
    target = Path(predictions.path)
    source, done = (target.with_name(f"{target.name}.{name}.parquet") for name in ("rows", "done"))
    source.parent.mkdir(parents=True, exist_ok=True)
    read_table(data).write_parquet(source)
    clock, options = open_clock(os.environ.get("MAINSPRING_CLOCK", "system")), BatchOptions(method=method)
    summary = predict_file(loaded, source, done, clock, options)
    if output.endswith(".parquet"):
        shutil.copyfile(done, output)
    elif output:  # once more: texts and lists are written as each format has them
        predict_file(loaded, source, Path(output), clock, options)
    done.replace(target)
    source.unlink()
    predictions.metadata.update(rows=summary.rows, problems=summary.problems, model=version or folder.name)
    return summary
