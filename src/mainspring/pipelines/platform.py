"""What the platform document says about one executor, as far as a machine without Kubernetes can honour it.

Secrets, config maps, empty folders and deadlines are honoured; whatever else is set is named, so that it can be said
in the record of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from mainspring.core import InvalidInput, Json
from mainspring.pipelines import ir

Store = Literal["secrets", "config-maps"]
_HONOURED = {
    "secretAsEnv",
    "secretAsVolume",
    "configMapAsEnv",
    "configMapAsVolume",
    "emptyDirMounts",
    "activeDeadlineSeconds",
}


class VariableFrom(msgspec.Struct, frozen=True, kw_only=True):
    """A variable that takes one key of a secret or config map; ``input`` is the task's input with its name."""

    store: Store
    input: str
    key: str
    variable: str
    optional: bool = False


class FolderFrom(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that shows a secret or config map."""

    store: Store
    input: str
    path: str
    optional: bool = False


class TaskPlatform(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one executor."""

    timeout_ms: int = 0
    variables: tuple[VariableFrom, ...] = ()
    folders: tuple[FolderFrom, ...] = ()
    empty_folders: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    """Names of the settings that are not honoured here."""
    inputs: dict[str, ir.ParameterInput] = {}
    """Inputs the task gets in addition: the names of secrets and config maps may come from other tasks."""


class PipelinePlatform(msgspec.Struct, frozen=True, kw_only=True):
    """What the platform document says about the pipeline as a whole, and about each executor."""

    executors: Mapping[str, dict[str, Any]] = {}
    has_workspace: bool = False
    timeout_ms: int = 0
    warnings: tuple[str, ...] = ()


def read_pipeline_platform(platforms: Mapping[str, Any]) -> PipelinePlatform:
    """Read the platform document; raise `InvalidInput` that names the field that is wrong."""
    kubernetes = _mapping(platforms.get("kubernetes"), "platforms.kubernetes")
    config = _mapping(kubernetes.get("pipelineConfig"), "pipelineConfig")
    deployment = _mapping(kubernetes.get("deploymentSpec"), "deploymentSpec")
    workspace = _mapping(config.get("workspace"), "pipelineConfig.workspace")
    warnings = [
        f"the settings for the platform {name!r} are ignored here" for name in platforms if name != "kubernetes"
    ]
    known = ("workspace", "activeDeadlineSeconds")
    warnings += [f"the pipeline's setting {name} is ignored here" for name in config if name not in known]
    if workspace.get("kubernetes"):
        warnings.append("the workspace is a local folder: its size and pvcSpecPatch are ignored here")
    executors = _mapping(deployment.get("executors"), "deploymentSpec.executors")
    return PipelinePlatform(
        executors={label: _settings(found, f"executors.{label}") for label, found in executors.items()},
        has_workspace="workspace" in config,
        timeout_ms=_seconds(config.get("activeDeadlineSeconds")) * 1000,
        warnings=tuple(warnings),
    )


def read_task_platform(settings: dict[str, Any]) -> TaskPlatform:
    """Read the Kubernetes settings of an executor; raise `InvalidInput` that names the field that is wrong."""
    inputs: dict[str, ir.ParameterInput] = {}
    variables: list[VariableFrom] = []
    folders: list[FolderFrom] = []
    kinds: tuple[tuple[str, Store], ...] = (("secret", "secrets"), ("configMap", "config-maps"))
    for kind, store in kinds:
        for entry in settings.get(f"{kind}AsEnv") or []:
            name = _name_input(entry, kind, inputs)
            variables += [_variable(entry, item, store, name, kind) for item in entry.get("keyToEnv") or []]
        for entry in settings.get(f"{kind}AsVolume") or []:
            name = _name_input(entry, kind, inputs)
            path = str(entry.get("mountPath", ""))
            folders.append(FolderFrom(store=store, input=name, path=path, optional=bool(entry.get("optional"))))
    return TaskPlatform(
        timeout_ms=_seconds(settings.get("activeDeadlineSeconds")) * 1000,
        variables=tuple(variables),
        folders=tuple(folders),
        empty_folders=tuple(str(entry.get("mountPath", "")) for entry in settings.get("emptyDirMounts") or []),
        ignored=tuple(sorted(set(settings) - _HONOURED)),
        inputs=inputs,
    )


def _variable(entry: dict[str, Any], item: dict[str, Any], store: Store, name: str, kind: str) -> VariableFrom:
    return VariableFrom(
        store=store,
        input=name,
        key=str(item.get(f"{kind}Key", "")),
        variable=str(item.get("envVar", "")),
        optional=bool(entry.get("optional")),
    )


def _name_input(entry: dict[str, Any], kind: str, inputs: dict[str, ir.ParameterInput]) -> str:
    given = entry.get(f"{kind}NameParameter") or {"runtimeValue": {"constant": entry.get(f"{kind}Name", "")}}
    name = f"platform--{len(inputs)}"
    try:
        inputs[name] = msgspec.convert(given, ir.ParameterInput)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the name of a {kind} in its platform settings: {error}") from error
    return name


class _KeyToVariable(ir.Document, frozen=True, kw_only=True):
    env_var: str = ""
    secret_key: str = ""
    config_map_key: str = ""


class _Mount(ir.Document, frozen=True, kw_only=True):
    mount_path: str = ""
    key_to_env: list[_KeyToVariable] | None = None
    optional: bool | None = None


class _NodeSelector(ir.Document, frozen=True, kw_only=True):
    labels: dict[str, str] | None = None


class _Settings(ir.Document, frozen=True, kw_only=True):
    """The shape of what is read of an executor's settings."""

    secret_as_env: list[_Mount] | None = None
    secret_as_volume: list[_Mount] | None = None
    config_map_as_env: list[_Mount] | None = None
    config_map_as_volume: list[_Mount] | None = None
    empty_dir_mounts: list[_Mount] | None = None
    node_selector: _NodeSelector | None = None
    tolerations: list[dict[str, Any]] | None = None
    node_affinity: list[dict[str, Any]] | None = None


def _settings(value: Json, field: str) -> dict[str, Any]:
    """Check that the settings of an executor are shaped as kfp writes them."""
    settings = _mapping(value, field)
    try:
        msgspec.convert(settings, _Settings)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"The platform document is malformed: {field}: {error}.", hint="Compile it again with kfp."
        ) from error
    return settings


def _mapping(value: Json, field: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(
            f"The platform document is malformed: {field} is not a mapping.", hint="Compile it again with kfp."
        )
    return value or {}


def _seconds(value: Json) -> int:
    try:
        seconds = int(value or 0)
    except (TypeError, ValueError, OverflowError):
        seconds = -1
    if seconds < 0:
        raise InvalidInput(f"activeDeadlineSeconds is {value!r}, not a number of seconds.", hint="Write 60.")
    return seconds
