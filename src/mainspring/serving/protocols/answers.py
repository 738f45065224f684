"""A model's outputs as the row-oriented protocols send them."""

from __future__ import annotations

from typing import Any

from mainspring.serving.outputs import Outputs
from mainspring.serving.wire import plain


def predictions(outputs: Outputs) -> list[Any]:
    """Return one entry per row: a value or a list; an object by output name if the model answered a table."""
    if outputs.is_frame or len(outputs.names) > 1:
        columns = [plain(array) for array in outputs.arrays]
        return [dict(zip(outputs.names, row, strict=True)) for row in zip(*columns, strict=True)]
    return plain(outputs.primary)
