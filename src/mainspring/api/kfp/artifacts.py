"""Artifacts by their ids, as Kubeflow Pipelines tells them since it keeps them itself: type, address and metadata."""

from __future__ import annotations

from typing import Any

from mainspring.api.kfp.wire import Call, moment, without_empty
from mainspring.lineage import Store, get_artifact

_TYPES = {"Metrics": "Metric", "ClassificationMetrics": "ClassificationMetric"}
_KNOWN = ("Artifact", "Model", "Dataset", "HTML", "Markdown", "Metric", "ClassificationMetric")


def get(store: Store, call: Call) -> dict[str, Any]:
    """Return one artifact; a type that the API has no word for is an ``Artifact``."""
    with store.database.read() as connection:
        found = get_artifact(connection, call.path["id"])
    kind = found.type.rpartition(".")[2]
    kind = _TYPES.get(kind, kind)
    return without_empty(
        {
            "artifact_id": found.id,
            "name": found.properties.get("display_name") or found.name,
            "type": kind if kind in _KNOWN else "Artifact",
            "uri": found.uri,
            "metadata": found.properties.get("metadata"),
            "created_at": moment(found.created_at),
        }
    )
