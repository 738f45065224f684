"""What MLflow's client asks about the server before it does anything else."""

from __future__ import annotations

import msgspec

from mainspring.api.mlflow.dispatch import Endpoint
from mainspring.api.mlflow.wire import Wire
from mainspring.lineage import Store


class Nothing(msgspec.Struct):
    """A request without parameters."""


def get(store: Store, request: Nothing) -> Wire:
    """Answer server-info: a plain store, no workspaces, no multipart transfers."""
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {},
    }


ENDPOINTS = (Endpoint(method="GET", path="server-info", request=Nothing, handle=get),)
