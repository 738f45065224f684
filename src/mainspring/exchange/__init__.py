"""Whole stores in and out: MLflow's, our own as a folder, and what clients spooled.

The one room that reads and writes the tables of other rooms: it copies whole stores, with the ids and times that things
had elsewhere, which the rooms' own functions rightly do not take. No other room reads another's tables.
"""

from __future__ import annotations

from mainspring.exchange.dump import DumpReport, export_store
from mainspring.exchange.load import LoadReport, import_store
from mainspring.exchange.mlflow_export import ExportReport, export_mlflow
from mainspring.exchange.mlflow_import import ImportReport, import_mlflow
from mainspring.exchange.records import BadRow, Progress
from mainspring.exchange.spools import StoreSink, absorb_spools

__all__ = [
    "BadRow",
    "DumpReport",
    "ExportReport",
    "ImportReport",
    "LoadReport",
    "Progress",
    "StoreSink",
    "absorb_spools",
    "export_mlflow",
    "export_store",
    "import_mlflow",
    "import_store",
]
