"""Datasets: snapshots of named tables, their profiles and schemas, anomalies and drift."""

from __future__ import annotations

from mainspring.datasets.anomalies import Anomaly, find_anomalies, stop_on_errors
from mainspring.datasets.drift import ColumnDrift, measure_drift
from mainspring.datasets.parts import Column, Part
from mainspring.datasets.profiles import (
    CategoricalProfile,
    ColumnProfile,
    NumericProfile,
    Profile,
    merge_profiles,
    profile_frame,
)
from mainspring.datasets.schemas import Environment, Feature, Schema, infer_schema
from mainspring.datasets.snapshots import (
    Manifest,
    Snapshot,
    append_snapshot,
    get_snapshot,
    latest_snapshot,
    list_snapshots,
    read_manifest,
    scan_snapshot,
)

__all__ = [
    "Anomaly",
    "CategoricalProfile",
    "Column",
    "ColumnDrift",
    "ColumnProfile",
    "Environment",
    "Feature",
    "Manifest",
    "NumericProfile",
    "Part",
    "Profile",
    "Schema",
    "Snapshot",
    "append_snapshot",
    "find_anomalies",
    "get_snapshot",
    "infer_schema",
    "latest_snapshot",
    "list_snapshots",
    "measure_drift",
    "merge_profiles",
    "profile_frame",
    "read_manifest",
    "scan_snapshot",
    "stop_on_errors",
]
