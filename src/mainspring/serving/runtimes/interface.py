"""What a runtime is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from mainspring.core import Corrupt, Refused
from mainspring.serving.checked import Checked
from mainspring.serving.explanations import Explain
from mainspring.serving.mlmodel import MLmodel
from mainspring.serving.outputs import Outputs
from mainspring.serving.plan import Plan

Predict: TypeAlias = Callable[[Checked], Outputs]
"""Predict a checked request, or several that were put together."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What the operator of this server, and nobody else, has allowed."""

    allow_pickle: bool = False
    """Load what can run any code: pickles, code folders, loaders that are not MLflow's."""
    types: tuple[str, ...] = ()
    """Types that skops files may hold beyond those this server has vetted."""


@dataclass(frozen=True, slots=True)
class Source:
    """A verified model folder, and what is known about it."""

    folder: Path
    name: str
    """The model and its version, for errors."""
    description: MLmodel
    plan: Plan | None
    """Compiled from the signature; none if the model has no signature."""
    trust: Trust = field(default_factory=Trust)

    def flavor(self, name: str) -> dict[str, object]:
        """Return a flavour's section of the MLmodel file; empty if there is none."""
        return self.description.flavors.get(name, {})

    def require_pickle(self, what: str) -> None:
        """Refuse to go on if this needs code to run and the operator did not allow it."""
        if not self.trust.allow_pickle:
            raise Refused(
                f"Model {self.name} holds {what}, which can run any code when it is loaded.",
                hint="Pass --allow-pickle if you trust whoever made it.",
            )


@dataclass(frozen=True, slots=True)
class Runtime:
    """A model in memory."""

    platform: str
    plan: Plan
    predict: Predict
    methods: Mapping[str, Predict] = field(default_factory=dict)
    explain: Explain | None = None


def require_width(source: Source, plan: Plan, width: int) -> None:
    """Refuse a model whose signature has another number of columns than the model itself."""
    found = len(plan.columns) or (plan.tensors[0].shape[-1] if plan.tensors[0].shape else -1)
    if found not in (-1, width):
        raise Corrupt(f"Model {source.name} has {width} features, its signature {found}.")
