"""The ready-made steps as KFP components: ``from mainspring.components import kfp as steps``.

They are lightweight components: their bodies call the functions of `mainspring.components`, which has to be installed
where they run. Our own engine checks that; on Kubeflow and Vertex AI the container installs it, or uses an image that
has it (``task.set_container_image(…)`` on each task). Importing this package imports kfp.
"""

from __future__ import annotations

from mainspring.components.kfp.data import (
    apply_transform,
    fit_transform,
    ingest_bigquery,
    ingest_database,
    ingest_files,
    ingest_query,
    profile,
    snapshot,
    split,
    validate,
)
from mainspring.components.kfp.models import evaluate, evaluate_registered, gate, register, train, tune
from mainspring.components.kfp.running import batch_predict, deploy, run_beam, run_notebook

__all__ = [
    "apply_transform",
    "batch_predict",
    "deploy",
    "evaluate",
    "evaluate_registered",
    "fit_transform",
    "gate",
    "ingest_bigquery",
    "ingest_database",
    "ingest_files",
    "ingest_query",
    "profile",
    "register",
    "run_beam",
    "run_notebook",
    "snapshot",
    "split",
    "train",
    "tune",
    "validate",
]
