"""What the platform document says about one executor, as far as a machine without Kubernetes can honour it.

Secrets, config maps, empty folders and deadlines are honoured; whatever else is set is named, so that it can be said
in the record of the run.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mainspring.core import InvalidInput
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


def _seconds(value: Any) -> int:  # noqa: ANN401 - text or number, as protobuf writes 64-bit integers
    try:
        return int(value or 0)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"activeDeadlineSeconds is {value!r}, not a number of seconds") from error
