"""A pipeline run as SVG: tasks as boxes with state, duration and cache mark, edges between them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import msgspec
from markupsafe import Markup

from mainspring.console import words
from mainspring.console.graph import Layout, lay_out

_BOX, _TALL, _GAP_X, _GAP_Y, _EDGE = 156, 38, 36, 16, 6


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One task of the graph."""

    name: str
    label: str
    state: str
    duration_ms: int | None = None
    note: str = ""
    """What is written under the label instead of the state, if anything."""
    cached: bool = False
    after: list[str] = []
    href: str = ""
    chosen: bool = False


def draw_dag(nodes: Sequence[Node]) -> Markup:
    """Draw the graph of tasks; an empty string if there are none."""
    if not nodes:
        return Markup("")
    layout = lay_out([node.name for node in nodes], [(name, node.name) for node in nodes for name in node.after])
    width = layout.layers * (_BOX + _GAP_X) - _GAP_X + 2 * _EDGE
    height = round(layout.rows * (_TALL + _GAP_Y) - _GAP_Y + 2 * _EDGE)
    body = [_edge(path) for path in layout.paths.values()] + [_node(node, layout) for node in nodes]
    return Markup(  # noqa: S704 - every text below went through escape
        f'<svg class="dag" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="group"'
        f' aria-label="Tasks of this run">{"".join(body)}</svg>'
    )


def _corner(place: tuple[int, float]) -> tuple[float, float]:
    return _EDGE + place[0] * (_BOX + _GAP_X), _EDGE + place[1] * (_TALL + _GAP_Y)


def _edge(path: Sequence[tuple[int, float]]) -> str:
    x, y = _corner(path[0])
    parts = [f"M{x + _BOX} {y + _TALL / 2}"]
    at = x + _BOX
    for place in path[1:]:
        left, top = _corner(place)
        middle = top + _TALL / 2
        bend = (left - at) / 2
        parts.append(f"C{at + bend} {y + _TALL / 2} {left - bend} {middle} {left} {middle}")
        if place is not path[-1]:
            parts.append(f"H{left + _BOX}")
        at, y = left + _BOX, top
    return f'<path class="edge" d="{"".join(parts)}"/>'


def _node(node: Node, layout: Layout) -> str:
    x, y = _corner(layout.places[node.name])
    tone = words.tone_of(node.state)
    name = node.label if len(node.label) <= 20 else f"{node.label[:19]}…"
    below = node.note or f"{node.state.lower()}{' · cached' if node.cached and node.state != 'CACHED' else ''}"
    if node.duration_ms is not None:
        below += f" · {words.duration(node.duration_ms)}"
    short = below if len(below) <= 22 else f"{below[:21]}…"
    inner = (
        f"<title>{escape(node.label)}: {escape(below)}</title>"
        f'<rect x="{x}" y="{y}" width="{_BOX}" height="{_TALL}" rx="3"/>'
        f'<text class="glyph" x="{x + 8}" y="{y + 16}">{words.GLYPHS[tone]}</text>'
        f'<text x="{x + 24}" y="{y + 16}">{escape(name)}</text>'
        f'<text class="small" x="{x + 24}" y="{y + 31}">{escape(short)}</text>'
    )
    shape = f'<g class="node {tone}{" chosen" if node.chosen else ""}">{inner}</g>'
    return f'<a href="{escape(node.href)}">{shape}</a>' if node.href else shape
