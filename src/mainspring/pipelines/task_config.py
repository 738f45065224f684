"""What a task is told about its own settings: KFP's TaskConfig, for components that pass them on to jobs they start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mainspring.pipelines import ir

SETTINGS = {
    "KUBERNETES_NODE_SELECTOR": ("nodeSelector",),
    "KUBERNETES_TOLERATIONS": ("tolerations",),
    "KUBERNETES_AFFINITY": ("nodeAffinity",),
}
"""The settings of the platform document that each field passes on."""


class TaskConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that are handed to a task as a value, and which of them it does not get itself."""

    value: Mapping[str, Any] = {}
    only_passed_on: frozenset[str] = frozenset()
    """Fields whose settings are not applied to the task: ENV, RESOURCES…"""
    handled: frozenset[str] = frozenset()
    """Platform settings that reach the task as a value, so that they are not ignored."""
    missing: tuple[str, ...] = ()
    """Fields that have nothing to stand for here."""


def read_task_config(
    component: ir.ComponentSpec, container: ir.ContainerSpec, settings: Mapping[str, Any]
) -> TaskConfig:
    """Return what a component's TaskConfig input holds; values may hold placeholders."""
    wanted = {item.field: item.apply_to_task for item in component.task_config_passthroughs}
    known = {
        "RESOURCES": ("resources", _resources(container.resources)),
        "ENV": ("env", [{"name": item.name, "value": item.value} for item in container.env]),
        "KUBERNETES_NODE_SELECTOR": ("nodeSelector", (settings.get("nodeSelector") or {}).get("labels")),
        "KUBERNETES_TOLERATIONS": ("tolerations", [_toleration(item) for item in settings.get("tolerations") or []]),
        "KUBERNETES_AFFINITY": ("affinity", _affinity(settings.get("nodeAffinity") or [])),
    }
    passed = (known[field] for field in wanted if field in known)
    return TaskConfig(
        value={name: value for name, value in passed if value},
        only_passed_on=frozenset(field for field, is_applied in wanted.items() if not is_applied),
        handled=frozenset(setting for field in wanted for setting in SETTINGS.get(field, ())),
        missing=tuple(field for field in wanted if field not in known),
    )


def _resources(requests: Mapping[str, Any]) -> dict[str, Any]:
    """Return resource requests as Kubernetes writes them."""
    accelerator = requests.get("accelerator") or {}
    kind = accelerator.get("resourceType") or accelerator.get("type")
    limits = {
        "cpu": requests.get("resourceCpuLimit"),
        "memory": requests.get("resourceMemoryLimit"),
        **({kind: str(accelerator.get("resourceCount") or accelerator.get("count") or 1)} if kind else {}),
    }
    wanted = {"cpu": requests.get("resourceCpuRequest"), "memory": requests.get("resourceMemoryRequest")}
    found = {"limits": _given(limits), "requests": _given(wanted)}
    return {name: amounts for name, amounts in found.items() if amounts}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _toleration(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a toleration with its seconds as a number: protobuf writes 64-bit integers as text."""
    seconds = str(item.get("tolerationSeconds", ""))
    return {**item, **({"tolerationSeconds": int(seconds)} if seconds.isdecimal() else {})}


def _affinity(terms: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return node affinity as Kubernetes writes it: terms with a weight are wishes, the others are conditions."""
    plain = [{name: term[name] for name in ("matchExpressions", "matchFields") if name in term} for term in terms]
    required = [found for term, found in zip(terms, plain, strict=True) if "weight" not in term and found]
    preferred = [
        {"weight": term["weight"], "preference": found}
        for term, found in zip(terms, plain, strict=True)
        if "weight" in term
    ]
    rules: dict[str, Any] = {}
    if required:
        rules["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": required}
    if preferred:
        rules["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return {"nodeAffinity": rules} if rules else {}
