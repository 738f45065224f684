"""What MLflow has for generative AI and this server has not: a clear refusal, which clients do not repeat.

The families are those of MLflow 3.17. Prompts are not among them: they are registered models, and work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mainspring.api.errors import FeatureDisabled
from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.wire import Wire
from mainspring.lineage import Store

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_FAMILIES: dict[str, tuple[str, ...]] = {
    "Tracing": (
        "traces", "traces/{a}", "traces/{a}/{b}", "traces/{a}/{b}/{c}", "unified-traces", "get-online-trace-details",
    ),
    "Evaluation datasets": ("datasets/{a}", "datasets/{a}/{b}", "datasets/{a}/tags/{c}"),
    "Scorers": ("scorers/{a}", "scorers/online-config"),
    "Issues": ("issues", "issues/{a}"),
    "Label schemas": ("label-schemas/{a}",),
    "Review queues": ("review-queues/{a}", "review-queues/items/{a}"),
    "Prompt optimization": (
        "prompt-optimization/jobs", "prompt-optimization/jobs/{a}", "prompt-optimization/jobs/{a}/{b}",
    ),
    "The AI gateway": ("gateway/{a}", "gateway/{a}/{b}", "gateway/{a}/{b}/{c}", "gateway-proxy"),
    "Workspaces": ("workspaces", "workspaces/{a}"),
    "Prompt engineering runs": ("runs/create-promptlab-run",),
    "Jobs": ("jobs", "jobs/{a}", "jobs/{a}/{b}", "genai/{a}", "genai/{a}/{b}", "demo/{a}"),
}  # fmt: skip


class Ignored(msgspec.Struct):
    """A request nobody reads."""


def _refuse(family: str) -> Callable[[Store, Ignored], Wire]:
    def handle(_store: Store, _request: Ignored) -> Wire:
        raise FeatureDisabled(
            f"{family}: not supported here.", hint="This server is for classic machine learning; see its documentation."
        )

    return handle


ENDPOINTS: tuple[Endpoint[Any], ...] = tuple(
    Endpoint(method=method, path=path, request=Ignored, handle=_refuse(family), max_body=1 << 20)
    for family, paths in _FAMILIES.items()
    for path in paths
    for method in _METHODS
)
