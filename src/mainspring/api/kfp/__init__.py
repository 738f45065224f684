"""Kubeflow Pipelines' API, version 2 beta 1: an unmodified ``kfp.Client(host=…)`` submits here and follows."""

from __future__ import annotations

from mainspring.api.kfp.app import KFP_PREFIX, kfp_routes

__all__ = ["KFP_PREFIX", "kfp_routes"]
