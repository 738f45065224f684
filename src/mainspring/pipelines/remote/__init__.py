"""Other engines: the same compiled file on Kubeflow Pipelines and Vertex AI, mirrored here, and as an Airflow DAG."""

from __future__ import annotations

from mainspring.pipelines.remote.airflow import airflow_dag, pipeline_parameters
from mainspring.pipelines.remote.documents import Documents, split_documents, write_documents
from mainspring.pipelines.remote.engines import REMOTE_ENGINES, open_remote
from mainspring.pipelines.remote.interface import RemoteEngine, RemoteRun, RemoteTask, Submission, Submitted
from mainspring.pipelines.remote.mirror import Mirror, remote_id

__all__ = [
    "REMOTE_ENGINES",
    "Documents",
    "Mirror",
    "RemoteEngine",
    "RemoteRun",
    "RemoteTask",
    "Submission",
    "Submitted",
    "airflow_dag",
    "open_remote",
    "pipeline_parameters",
    "remote_id",
    "split_documents",
    "write_documents",
]
