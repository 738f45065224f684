"""Opens a remote engine by its name, with its settings from the project file and the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mainspring.core import InvalidInput
from mainspring.pipelines.remote.interface import RemoteEngine
from mainspring.pipelines.remote.kubeflow import KubeflowConfig, KubeflowEngine
from mainspring.pipelines.remote.vertex import VertexConfig, VertexEngine

_Config = type[KubeflowConfig] | type[VertexConfig]
_KINDS: dict[str, tuple[_Config, Callable[[Any], RemoteEngine]]] = {
    "kubeflow": (KubeflowConfig, KubeflowEngine),
    "vertex": (VertexConfig, VertexEngine),
}
REMOTE_ENGINES = tuple(_KINDS)


def open_remote(name: str, settings: Mapping[str, Any]) -> RemoteEngine:
    """Return the engine; raise `InvalidInput` that names the setting that is missing or wrong."""
    if name not in _KINDS:
        raise InvalidInput(f"There is no engine {name!r}.", hint=f"Engines: local, ray, {', '.join(_KINDS)}.")
    config, engine = _KINDS[name]
    try:
        return engine(msgspec.convert(dict(settings), config, strict=False))
    except msgspec.ValidationError as error:
        hint = f"Write remotes: {name}: … in mainspring.yaml, or --remote NAME=VALUE."
        raise InvalidInput(f"The settings of {name} are not complete: {error}.", hint=hint) from error
