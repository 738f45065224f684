"""The data plane: an endpoint process answers predictions from a deployment file and logs every one of them.

It needs neither the database nor the server. What is exported here is light: the deployment file, the
records, and the readers of the log. The process itself is ``python -m mainspring.serving``.
"""

from __future__ import annotations

from mainspring.serving.deployment import (
    Deployment,
    ModelReference,
    Variant,
    check_deployment,
    read_deployment,
    write_deployment,
)
from mainspring.serving.reader import (
    find_record,
    find_records,
    first_record_at,
    has_failures,
    newest_label,
    read_labels,
    read_records,
    read_tables,
)
from mainspring.serving.records import LabelRecord, PredictionRecord

__all__ = [
    "Deployment",
    "LabelRecord",
    "ModelReference",
    "PredictionRecord",
    "Variant",
    "check_deployment",
    "find_record",
    "find_records",
    "first_record_at",
    "has_failures",
    "newest_label",
    "read_deployment",
    "read_labels",
    "read_records",
    "read_tables",
    "write_deployment",
]
