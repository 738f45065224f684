"""An explanation: how much each input moved each row's score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.serving.checked import Checked


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Additive contributions: for each row and output, base value + contributions = raw score."""

    method: str
    """``tree`` (exact, by the booster itself), ``linear`` (exact) or ``shap``."""
    names: tuple[str, ...]
    """The inputs the contributions belong to."""
    unit: str
    """What the contributions add up to: ``log-odds``, ``raw score``, ``output``, ``probability``."""
    outputs: tuple[str, ...]
    """What is explained: one name per class of several, else one."""
    base_values: list[list[float]]
    """Per row and output, the score before any input is known."""
    contributions: list[list[list[float]]]
    """Per row, output and input."""


Explain: TypeAlias = Callable[[Checked], Explanation]


def make_explanation(
    contributions: NDArray[Any],
    base_values: NDArray[Any],
    *,
    method: str,
    names: tuple[str, ...],
    unit: str,
    outputs: tuple[str, ...] = (),
) -> Explanation:
    """Make an explanation of contributions of shape (rows, outputs, inputs) and base values (rows, outputs)."""
    rows, count, _ = contributions.shape
    return Explanation(
        method=method,
        names=names,
        unit=unit,
        outputs=outputs or (("predict",) if count == 1 else tuple(str(place) for place in range(count))),
        base_values=np.broadcast_to(base_values, (rows, count)).astype(float).tolist(),
        contributions=contributions.astype(float).tolist(),
    )
