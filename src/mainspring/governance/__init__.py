"""Provenance, and later identity, audit and model cards: why the system did what it did."""

from __future__ import annotations

from mainspring.governance.provenance import Finding, explain_prediction

__all__ = ["Finding", "explain_prediction"]
