"""Ready-made steps: each is a plain function, and most are KFP components too, in `mainspring.components.kfp`.

The functions take a component's own artifacts (anything with a ``path`` and ``metadata``) and parameters, do one stage
of the life cycle, and leave files and metadata where KFP expects them. This package does not import kfp, nor a learner.
"""

from __future__ import annotations

from mainspring.components.artifacts import ArtifactFile
from mainspring.components.beam import beam_command, run_beam_script
from mainspring.components.checks import profile_table, snapshot_table, validate_table
from mainspring.components.data import read_dataset, split_newest, use_snapshot, validate_dataset
from mainspring.components.evaluation import (
    Report,
    SliceReport,
    evaluate_folder,
    evaluate_registered,
    make_report,
    read_report,
)
from mainspring.components.measures import Measure, measure
from mainspring.components.models import evaluate_model, evaluate_version, register_model, train_lightgbm
from mainspring.components.notebooks import run_notebook_file
from mainspring.components.plots import Plots, plot_data
from mainspring.components.prediction import predict_table
from mainspring.components.release import deploy_version, gate_reports, judge_reports, register_trained
from mainspring.components.sources import ingest_bigquery, ingest_database, ingest_files, ingest_query
from mainspring.components.splits import split_data, split_rows
from mainspring.components.tables import read_table, write_table
from mainspring.components.training import train_model
from mainspring.components.transforms import apply_columns, fit_columns
from mainspring.components.tuning import tune_model
from mainspring.components.verdicts import compare_on_newest_window

__all__ = [
    "ArtifactFile",
    "Measure",
    "Plots",
    "Report",
    "SliceReport",
    "apply_columns",
    "beam_command",
    "compare_on_newest_window",
    "deploy_version",
    "evaluate_folder",
    "evaluate_model",
    "evaluate_registered",
    "evaluate_version",
    "fit_columns",
    "gate_reports",
    "ingest_bigquery",
    "ingest_database",
    "ingest_files",
    "ingest_query",
    "judge_reports",
    "make_report",
    "measure",
    "plot_data",
    "predict_table",
    "profile_table",
    "read_dataset",
    "read_report",
    "read_table",
    "register_model",
    "register_trained",
    "run_beam_script",
    "run_notebook_file",
    "snapshot_table",
    "split_data",
    "split_newest",
    "split_rows",
    "train_lightgbm",
    "train_model",
    "tune_model",
    "use_snapshot",
    "validate_dataset",
    "validate_table",
    "write_table",
]
