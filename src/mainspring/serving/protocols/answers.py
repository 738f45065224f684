"""A model's outputs as the row-oriented protocols send them."""

from __future__ import annotations

from typing import Any

from mainspring.core import Json
from mainspring.serving.outputs import Outputs
from mainspring.serving.wire import plain


def predictions(outputs: Outputs) -> Json:
    """Return one entry per row: a value or a list; an object by output name if the model answered several.

    What has not one entry per row is sent as it is: a value, or an object of lists.
    """
    if not (outputs.is_frame or outputs.is_named or len(outputs.names) > 1):
        return plain(outputs.primary)
    columns = lists(outputs)
    if any(array.ndim == 0 for array in outputs.arrays) or len({len(array) for array in outputs.arrays}) > 1:
        return columns
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def lists(outputs: Outputs) -> dict[str, Any]:
    """Return the outputs by name; the rows of one whose columns have names are objects."""
    if not outputs.keys:
        return {name: plain(array) for name, array in zip(outputs.names, outputs.arrays, strict=True)}
    found: dict[str, Any] = {}
    for name, array in zip(outputs.names, outputs.arrays, strict=True):
        keys, rows = outputs.keys.get(name), plain(array)
        found[name] = rows if keys is None else [dict(zip(keys, row, strict=True)) for row in rows]
    return found
