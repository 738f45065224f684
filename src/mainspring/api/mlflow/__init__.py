"""MLflow's wire protocol: experiments, runs, artifacts, logged models, registered models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainspring.core.lazy import names_of

if TYPE_CHECKING:
    from mainspring.api.mlflow.artifacts import ArtifactRoute
    from mainspring.api.mlflow.browser import browser_routes
    from mainspring.api.mlflow.dispatch import Endpoint, MlflowRoute
    from mainspring.api.mlflow.endpoints import ENDPOINTS

__all__ = ["ENDPOINTS", "ArtifactRoute", "Endpoint", "MlflowRoute", "browser_routes"]

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__, ("dispatch", "artifacts", "browser", "endpoints"))
