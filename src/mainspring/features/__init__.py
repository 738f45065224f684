"""Features: one transform that prepares columns the same way in training and in serving."""

from __future__ import annotations

from mainspring.features.transform import CategoricalColumn, NumericColumn, Transform, fit_transform

__all__ = ["CategoricalColumn", "NumericColumn", "Transform", "fit_transform"]
