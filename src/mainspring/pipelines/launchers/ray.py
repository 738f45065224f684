"""Tasks on a Ray cluster: Ray places them and runs them again when a node is lost; the store keeps what they made."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core import Foreign, Refused, Unavailable
from mainspring.pipelines.component import ContainerComponent, PythonComponent, Resources
from mainspring.pipelines.launchers.interface import TaskExit, TaskLaunch
from mainspring.pipelines.launchers.ray_node import NodeResult, pack, run_on_node, unpack

_NOTHING = Resources()
_ATTEMPTS_ON_OTHER_NODES = 3


class RayLauncher:
    """Runs Python components as Ray tasks on the cluster at ``address``; an empty address starts a local one.

    Ray counts a task that asks for nothing as one core; ``cores`` is how many a local cluster says it has.
    ``ships_folders`` sends each task's folder to its node and back; by default only where nodes are other machines.
    """

    def __init__(self, *, address: str = "", ships_folders: bool | None = None, cores: int | None = None) -> None:
        self._ray = _connect(address, cores)
        self._function = self._ray.remote(run_on_node)
        self._nodes = [node for node in self._ray.nodes() if node["Alive"]]
        here = socket.gethostname()
        others = any(node["NodeManagerHostname"] != here for node in self._nodes)
        self._ships = others if ships_folders is None else ships_folders
        self._running: dict[Any, TaskLaunch] = {}
        self._cancelled: set[str] = set()

    def refuse(self, component: PythonComponent | ContainerComponent, resources: Resources = _NOTHING) -> str:
        """Refuse containers, and what no node of the cluster is large enough for."""
        if isinstance(component, ContainerComponent):
            return f"a container image ({component.image}) with a command of its own cannot run on Ray"
        wanted = ray_options(resources)
        needs = {"CPU": wanted["num_cpus"], "GPU": wanted["num_gpus"], **wanted["resources"]}
        if not any(_fits(needs, node["Resources"]) for node in self._nodes):
            amounts = ", ".join(f"{name} {amount:g}" for name, amount in needs.items() if amount)
            return f"no node of the Ray cluster has {amounts}"
        return ""

    def enforces_requests(self, component: PythonComponent | ContainerComponent, resources: Resources) -> bool:
        """Say yes: Ray starts a task where what it asks for is free, and shows it no other accelerators."""
        return True

    def launch(self, task: TaskLaunch) -> None:
        """Submit the task; it starts when a node has room for it."""
        packed = pack(Path(task.folder).parent) if self._ships else None
        options = ray_options(task.resources)
        reference = self._function.options(**options, max_retries=_ATTEMPTS_ON_OTHER_NODES).remote(task, packed)
        self._running[reference] = task

    def wait(self, timeout: float | None) -> list[TaskExit]:
        """Return the tasks that ended; wait for one at most ``timeout`` seconds."""
        if not self._running:
            return []
        count = len(self._running)
        done, _ = self._ray.wait([*self._running], num_returns=1, timeout=timeout, fetch_local=False)
        if done and count > 1:
            done, _ = self._ray.wait([*self._running], num_returns=count, timeout=0, fetch_local=False)
        return [self._collect(reference) for reference in done]

    def cancel(self, key: str) -> None:
        """Kill one task: its worker is interrupted, and ends it with all it started before it says so."""
        for reference, task in self._running.items():
            if task.key == key:
                self._cancelled.add(key)
                self._ray.cancel(reference, force=False)

    def cancel_all(self) -> None:
        """Kill all tasks that run and forget them."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._cancelled.clear()

    def close(self) -> None:
        """Leave the cluster; one that was started for this launcher ends."""
        self.cancel_all()
        self._ray.shutdown()

    def _collect(self, reference: Foreign) -> TaskExit:  # Ray's reference
        task = self._running.pop(reference)
        if task.key in self._cancelled:
            self._cancelled.discard(task.key)
            return TaskExit(key=task.key, status=-signal.SIGKILL, error="The task was cancelled.")
        try:
            result: NodeResult = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            words = " ".join(str(error).split())[:500]
            return TaskExit(key=task.key, status=1, error=f"Ray lost the task: {words}", lost=True)
        try:
            if result.folder is not None:
                unpack(result.folder, Path(task.folder).parent)
        except Refused as error:
            return TaskExit(key=task.key, status=1, error=str(error))
        return msgspec.structs.replace(result.ended, key=task.key)


def ray_options(resources: Resources) -> dict[str, Any]:
    """Return the options of a Ray task: one core unless it asks for other; TPUs by name, all else counts as GPU."""
    is_gpu = resources.accelerator_count and "tpu" not in resources.accelerator_type.lower()
    named = {"TPU": float(resources.accelerator_count)} if resources.accelerator_count and not is_gpu else {}
    options = {"num_cpus": resources.cpu or 1.0, "num_gpus": float(resources.accelerator_count if is_gpu else 0)}
    return {**options, "resources": named, **({"memory": resources.memory_bytes} if resources.memory_bytes else {})}


def _fits(needs: dict[str, float], has: dict[str, float]) -> bool:
    return all(has.get(name, 0.0) >= amount for name, amount in needs.items())


def _connect(address: str, cores: int | None) -> Foreign:  # the module
    """Import Ray and connect; raise `Unavailable` when it is not installed or no cluster answers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise Unavailable(
            "Running tasks on Ray needs ray, which is not installed.", hint="Run: pip install 'mainspring[ray]'"
        ) from error
    if ray.is_initialized():
        return ray
    try:
        options = {"log_to_driver": False, "logging_level": "ERROR", **({} if address else {"num_cpus": cores})}
        ray.init(address=address or "local", include_dashboard=False, **options)
    except Exception as error:
        where = address or "this machine"
        raise Unavailable(
            f"No Ray cluster answers at {where}: {error}", hint="Start one with: ray start --head"
        ) from error
    return ray
