"""Ready-made steps, called from ordinary KFP components: the pipeline stays plain `kfp.dsl`.

Each function takes the component's own KFP artifacts and parameters, does one stage of the life cycle, and
leaves files and metadata where KFP expects them.
"""

from __future__ import annotations

from mainspring.components.data import read_dataset, split_newest, use_snapshot, validate_dataset
from mainspring.components.models import evaluate_model, evaluate_version, register_model, train_lightgbm
from mainspring.components.verdicts import compare_on_newest_window

__all__ = [
    "compare_on_newest_window",
    "evaluate_model",
    "evaluate_version",
    "read_dataset",
    "register_model",
    "split_newest",
    "train_lightgbm",
    "use_snapshot",
    "validate_dataset",
]
