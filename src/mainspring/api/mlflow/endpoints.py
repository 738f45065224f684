"""All endpoints of the protocol."""

from __future__ import annotations

from typing import Any

from mainspring.api.mlflow import (
    artifact_lists,
    experiments,
    genai,
    log_model,
    logged_models,
    logging,
    model_versions,
    registered_models,
    runs,
    server_info,
    webhooks,
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
    *artifact_lists.ENDPOINTS,
    *log_model.ENDPOINTS,
    *webhooks.ENDPOINTS,
    *genai.ENDPOINTS,
)
