"""Move experiments, runs, models and their bytes in and out: MLflow stores, and whole stores as a folder."""

from __future__ import annotations
