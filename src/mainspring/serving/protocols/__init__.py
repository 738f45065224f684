"""One module per protocol: MLflow scoring, Open Inference Protocol V2, KServe V1 and Vertex AI."""

from __future__ import annotations
