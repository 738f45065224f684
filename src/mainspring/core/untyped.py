"""Names for what a type cannot say."""

from __future__ import annotations

from typing import Any, TypeAlias

Json: TypeAlias = Any
"""A JSON value: null, boolean, number, text, list or object; whoever reads it tries what it is."""

Foreign: TypeAlias = Any
"""An object of a library that has no types, or that is imported only where it is installed."""
