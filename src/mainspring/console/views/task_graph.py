"""The tasks of a run as nodes of a graph; the iterations of a long loop are drawn as one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from mainspring.console.dag import Node
from mainspring.console.views.links import to
from mainspring.pipelines import TaskRun

FOLD_BEYOND = 8
"""A task that runs more often than this in the loops around it is drawn once."""
MOST_NODES = 250
"""Graphs with more nodes are not drawn: nobody could read them."""
_MOST_TELLING = ("FAILED", "RUNNING", "PENDING", "CANCELED", "COMPLETE", "CACHED", "SKIPPED")


def draw_nodes(run_id: str, tasks: Sequence[TaskRun], chosen: str) -> list[Node]:
    """Turn tasks into nodes; waiting for a nested dag is waiting for all of its tasks. Empty if there are too many."""
    names = fold_addresses([task.address for task in tasks])
    folded: dict[str, list[TaskRun]] = defaultdict(list)
    for task in tasks:
        folded[names[task.address]].append(task)
    if len(folded) > MOST_NODES:
        return []
    inside = _nodes_inside(names)
    return [_node(run_id, name, group, inside, chosen) for name, group in folded.items()]


def fold_addresses(addresses: Sequence[str], most: int = FOLD_BEYOND) -> dict[str, str]:
    """Map each address to its node: itself, or ``loop/*/task`` if there are more than ``most`` of that pattern."""
    patterns = {address: _pattern(address) for address in addresses}
    sizes = Counter(patterns.values())
    return {address: pattern if sizes[pattern] > most else address for address, pattern in patterns.items()}


def task_href(run_id: str, address: str) -> str:
    """Return the address of a run's page with one task chosen."""
    return f"{to('runs', run_id)}?task={to(address)[1:]}"


def _pattern(address: str) -> str:
    return "/".join("*" if part.isdigit() else part for part in address.split("/"))


def _nodes_inside(names: Mapping[str, str]) -> dict[str, dict[str, None]]:
    """Return which nodes are at, or inside, each dag address (in order, each once)."""
    inside: dict[str, dict[str, None]] = defaultdict(dict)
    for address, name in names.items():
        parts = address.split("/")
        for length in range(1, len(parts) + 1):
            inside["/".join(parts[:length])][name] = None
    return inside


def _node(
    run_id: str, name: str, group: Sequence[TaskRun], inside: Mapping[str, Mapping[str, None]], chosen: str
) -> Node:
    shown = min(group, key=lambda task: _MOST_TELLING.index(task.state) if task.state in _MOST_TELLING else 0)
    single = len(group) == 1
    after = {node: None for task in group for wanted in task.upstream for node in inside.get(wanted, {})}
    return Node(
        name=name,
        label=shown.name if single else f"{shown.name} × {len(group):,}",
        state=shown.state,
        duration_ms=shown.took_ms if single else None,
        note="" if single else _count_states(group),
        cached=single and shown.cached_from is not None,
        after=[node for node in after if node != name],
        href=task_href(run_id, shown.address),
        chosen=any(task.address == chosen for task in group),
    )


def _count_states(group: Sequence[TaskRun]) -> str:
    counts = Counter(task.state for task in group)
    return ", ".join(f"{count:,} {state.lower()}" for state, count in counts.most_common())
