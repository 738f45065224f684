"""Which variant answers a request: weights, sticky keys, explicit versions."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from mainspring.core import InvalidInput, NotFound
from mainspring.serving.deployment import Deployment, ModelReference, Variant
from mainspring.serving.models import LoadedModel


@dataclass(frozen=True, slots=True)
class LoadedVariant:
    """A variant of the deployment with its model in memory."""

    name: str
    mirror: bool
    model: LoadedModel
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """What an answer's headers say of who made it."""


@dataclass(frozen=True, slots=True)
class Router:
    """One loaded revision of the deployment; never changed, only replaced."""

    deployment: Deployment
    variants: tuple[LoadedVariant, ...]
    has_mirrors: bool
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

    def with_name(self, name: str) -> LoadedVariant:
        """Return the variant of a name."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise NotFound(f"Endpoint {self.deployment.endpoint} has no such variant.")

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
        LoadedVariant(variant.name, variant.mirror, loaded[variant.model], _headers(variant))
        for variant in deployment.variants
    )
    table = [one for one, variant in zip(variants, deployment.variants, strict=True) for _ in range(variant.weight)]
    has_mirrors = any(variant.mirror for variant in variants)
    return Router(deployment=deployment, variants=variants, has_mirrors=has_mirrors, _table=tuple(table))


def _headers(variant: Variant) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-model-version", variant.model.version.encode()),
        (b"x-model-digest", variant.model.digest.encode()),
        (b"x-variant", variant.name.encode()),
    )
