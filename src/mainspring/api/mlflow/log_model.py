"""The endpoint older MLflow clients (2.x) log models with: a history in a tag of the run."""

from __future__ import annotations

import json

import msgspec

from mainspring import tracking
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.wire import Required, Wire
from mainspring.core import InvalidInput
from mainspring.lineage import Store

HISTORY_TAG = "mlflow.log-model.history"
_FIELDS = ("artifact_path", "flavors", "run_id", "utc_time_created")


class LogModel(msgspec.Struct):
    """Add a model to the history of a run."""

    run_id: Required
    model_json: Required


def log_model(store: Store, request: LogModel) -> Wire:
    """Answer runs/log-model."""
    model = _read_model(request.model_json)
    with store.database.write() as connection:
        tracking.find_run(connection, request.run_id)
        before = tracking.get_run(connection, request.run_id).tags.get(HISTORY_TAG, "[]")
        history = append_model(before, model)
        tracking.set_tags(connection, request.run_id, {HISTORY_TAG: history})
    return {}


def append_model(history: str, model: dict[str, object]) -> str:
    """Return a history with one more model, spaced as MLflow writes it; one that cannot be read starts anew."""
    try:
        known = msgspec.json.decode(history, type=list[dict[str, object]])
    except msgspec.MsgspecError:
        known = []
    return json.dumps([*known, model])


def _read_model(text: str) -> dict[str, object]:
    try:
        model = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidInput(f"Malformed model info. \n {text[:200]} \n is not a valid JSON.") from error
    missing = {name for name in _FIELDS if name not in model}
    if missing:
        raise InvalidInput(f"Model json is missing mandatory fields: {missing}")
    return model


ENDPOINTS = (Endpoint(method="POST", path="runs/log-model", request=LogModel, handle=log_model),)
