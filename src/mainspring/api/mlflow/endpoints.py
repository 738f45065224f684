"""All endpoints of the protocol."""

from __future__ import annotations

from typing import Any

from mainspring.api.mlflow import (
    experiments,
    logged_models,
    logging,
    model_versions,
    registered_models,
    runs,
    server_info,
)
from mainspring.api.mlflow.dispatch import Endpoint

ENDPOINTS: tuple[Endpoint[Any], ...] = (
    *logging.ENDPOINTS,
    *runs.ENDPOINTS,
    *experiments.ENDPOINTS,
    *logged_models.ENDPOINTS,
    *registered_models.ENDPOINTS,
    *model_versions.ENDPOINTS,
    *server_info.ENDPOINTS,
)
