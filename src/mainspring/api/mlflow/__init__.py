"""MLflow's wire protocol: experiments, runs, artifacts, logged models, registered models."""

from __future__ import annotations

from mainspring.api.mlflow.artifacts import ArtifactRoute
from mainspring.api.mlflow.dispatch import Endpoint, MlflowRoute
from mainspring.api.mlflow.endpoints import ENDPOINTS

__all__ = ["ENDPOINTS", "ArtifactRoute", "Endpoint", "MlflowRoute"]
