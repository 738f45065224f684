"""Lay out a directed acyclic graph in layers: longest path, then barycentre ordering.

Edges that skip layers run through place-holders of their own, so that they pass between nodes and not behind them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Edge = tuple[str, str]
_SWEEPS = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each node is, as (layer, position), and which points each edge passes."""

    places: Mapping[str, tuple[int, float]]
    paths: Mapping[Edge, list[tuple[int, float]]]
    layers: int = 0
    rows: float = 0


@dataclass(slots=True)
class _Grid:
    layers: list[list[str]]
    above: dict[str, list[str]] = field(default_factory=dict)
    below: dict[str, list[str]] = field(default_factory=dict)

    def link(self, source: str, target: str) -> None:
        self.below.setdefault(source, []).append(target)
        self.above.setdefault(target, []).append(source)


def lay_out(nodes: Sequence[str], edges: Sequence[Edge]) -> Layout:
    """Place nodes so that every edge goes from a layer to a later one; edges of a cycle are ignored."""
    known = [(source, target) for source, target in dict.fromkeys(edges) if source in nodes and target in nodes]
    depth = _depths(nodes, known)
    forward = [(source, target) for source, target in known if depth[source] < depth[target]]
    grid = _Grid([[] for _ in range(max(depth.values(), default=-1) + 1)])
    for node in nodes:
        grid.layers[depth[node]].append(node)
    chains = {edge: _route(grid, edge, depth) for edge in forward}
    _order(grid)
    rows = max((len(layer) for layer in grid.layers), default=0)
    places = {
        node: (index, position + (rows - len(layer)) / 2)
        for index, layer in enumerate(grid.layers)
        for position, node in enumerate(layer)
    }
    return Layout(
        places={node: places[node] for node in nodes},
        paths={edge: [places[point] for point in chain] for edge, chain in chains.items()},
        layers=len(grid.layers),
        rows=rows,
    )


def _depths(nodes: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    depth = dict.fromkeys(nodes, 0)
    for _ in nodes:
        deeper = {target: depth[source] + 1 for source, target in edges if depth[target] <= depth[source]}
        if not deeper:
            break
        depth.update({node: min(value, len(nodes) - 1) for node, value in deeper.items()})
    return depth


def _route(grid: _Grid, edge: Edge, depth: Mapping[str, int]) -> list[str]:
    source, target = edge
    chain = [source]
    for layer in range(depth[source] + 1, depth[target]):
        point = f"\0{source}\0{target}\0{layer}"
        grid.layers[layer].append(point)
        chain.append(point)
    chain.append(target)
    for first, second in pairwise(chain):
        grid.link(first, second)
    return chain


def _order(grid: _Grid) -> None:
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        neighbours = grid.above if down else grid.below
        layers = grid.layers if down else grid.layers[::-1]
        for before, layer in pairwise(layers):
            rank = {node: position for position, node in enumerate(before)}
            centres = {
                node: _centre(neighbours.get(node, []), rank, float(position)) for position, node in enumerate(layer)
            }
            layer.sort(key=centres.__getitem__)


def _centre(neighbours: Sequence[str], rank: Mapping[str, int], default: float) -> float:
    places = [rank[node] for node in neighbours if node in rank]
    return sum(places) / len(places) if places else default
