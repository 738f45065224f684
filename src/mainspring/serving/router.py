"""Which variant answers a request: weights, sticky keys, explicit versions."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from mainspring.core import InvalidInput, NotFound
from mainspring.serving.deployment import Deployment, ModelReference
from mainspring.serving.models import LoadedModel


@dataclass(frozen=True, slots=True)
class LoadedVariant:
    """A variant of the deployment with its model in memory."""

    name: str
    mirror: bool
    model: LoadedModel


@dataclass(frozen=True, slots=True)
class Router:
    """One loaded revision of the deployment; never changed, only replaced."""

    deployment: Deployment
    variants: tuple[LoadedVariant, ...]
    _table: tuple[LoadedVariant, ...]
    """One entry per percent."""

    def choose(self, key: str) -> LoadedVariant:
        """Return the variant for a split key: the same key goes to the same variant while the weights stand."""
        return self._table[zlib.crc32(key.encode()) % 100]

    def with_version(self, version: str) -> LoadedVariant:
        """Return the variant that serves a model version."""
        for variant in self.variants:
            if variant.model.reference.version == version:
                return variant
        raise NotFound(f"Endpoint {self.deployment.endpoint} does not serve that version.")

    def mirrors_of(self, chosen: LoadedVariant) -> list[LoadedVariant]:
        """Return the variants that shadow a request the chosen one answered."""
        return [variant for variant in self.variants if variant.mirror and variant is not chosen]

    @property
    def versions(self) -> list[str]:
        """The model versions that are served, each once."""
        return list(dict.fromkeys(variant.model.reference.version for variant in self.variants))


def load_router(
    deployment: Deployment, load: Callable[[ModelReference], LoadedModel], previous: Router | None = None
) -> Router:
    """Load a deployment's models beside the previous revision; models both have are kept as they are."""
    loaded = {variant.model.reference: variant.model for variant in previous.variants} if previous else {}
    for variant in deployment.variants:
        if variant.model not in loaded:
            loaded[variant.model] = load(variant.model)
    if not deployment.variants:
        raise InvalidInput(f"The deployment of {deployment.endpoint} has no variants.")
    variants = tuple(
        LoadedVariant(name=variant.name, mirror=variant.mirror, model=loaded[variant.model])
        for variant in deployment.variants
    )
    table = [one for one, variant in zip(variants, deployment.variants, strict=True) for _ in range(variant.weight)]
    return Router(deployment=deployment, variants=variants, _table=tuple(table))
