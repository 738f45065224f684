"""HTTP: MLflow's wire protocol, the journal of events, and the server process."""

from __future__ import annotations

from mainspring.api.app import create_app
from mainspring.api.server import run_server

__all__ = ["create_app", "run_server"]
