"""Words, colours, charts and the layout of graphs."""

from __future__ import annotations

import doctest
import math
import re
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.console import charts, colours, words
from mainspring.console.charts import Chart, Marker, Point, Series, Threshold, downsample, draw_chart, ticks
from mainspring.console.dag import Node, draw_dag
from mainspring.console.graph import lay_out
from mainspring.console.rendering import static_files
from mainspring.console.views.task_graph import draw_nodes
from mainspring.pipelines import TaskRun


@pytest.mark.parametrize("module", [words, colours, charts])
def test_examples_in_docstrings_are_true(module):
    assert doctest.testmod(module).failed == 0


def test_a_number_has_as_many_digits_as_its_error_allows():
    assert words.estimate(0.471342, 0.00312) == "0.471 ± 0.003"
    assert words.estimate(0.471342, 0.0004) == "0.4713 ± 0.0004"
    assert words.estimate(12.0, 3.0) == "12 ± 3"


@pytest.mark.parametrize(
    ("state", "tone"),
    [("COMPLETE", "good"), ("FAILED", "failed"), ("rolled_back", "attention"), ("rolled back", "attention"),
     ("RUNNING", "running"), ("SKIPPED", "idle"), ("what?", "idle")],
)  # fmt: skip
def test_a_state_has_one_colour(state, tone):
    assert words.tone_of(state) == tone


@given(st.lists(st.text(min_size=1), max_size=8, unique=True))
def test_up_to_eight_series_never_share_a_colour(names):
    assigned = colours.assign_colours(names)
    assert len(set(assigned.values())) == len(names)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300), st.integers(10, 60))
def test_downsampling_keeps_the_extremes_in_order(values, limit):
    points = [Point(x=index, y=value) for index, value in enumerate(values)]
    kept = downsample(points, limit)
    assert len(kept) <= max(limit, 2)
    assert {min(values), max(values)} <= {point.y for point in kept}
    assert [point.x for point in kept] == sorted(point.x for point in kept)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_lie_in_the_range(low, span):
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 12
    assert all(low - span * 1e-3 <= tick <= low + span * 1.001 for tick in found)


def test_a_chart_is_well_formed_and_escapes_names():
    hostile = '<script>alert("x")</script>'
    chart = Chart(
        title=hostile,
        series=[
            Series(name=hostile, points=[Point(x=0, y=0.5, n=10, error=0.1), Point(x=86_400_000, y=0.4, error=0.1)])
        ],
        markers=[Marker(x=1, glyph="↻", tone="running", label=hostile, href='/a"b')],
        thresholds=[Threshold(y=0.6, label=hostile)],
    )
    drawn = str(draw_chart(chart))
    assert "<script" not in drawn
    assert " style=" not in drawn
    assert ET.fromstring(drawn).get("aria-label", "").startswith(hostile)


def test_a_chart_leaves_out_what_is_not_a_number():
    points = [Point(x=0, y=math.nan), Point(x=1, y=math.inf), Point(x=2, y=1.0)]
    drawn = str(draw_chart(Chart(title="t", series=[Series(name="a", points=points)], time_axis=False)))
    assert drawn.count("<circle") == 1
    assert "nan" not in drawn


def test_a_chart_without_points_is_nothing():
    assert draw_chart(Chart(title="t", series=[Series(name="a", points=[])])) == ""


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
    )
)
def test_every_edge_of_a_graph_goes_to_a_later_layer(case):
    count, pairs = case
    nodes = [str(index) for index in range(count)]
    edges = [(str(low), str(high)) for low, high in pairs if low < high]
    layout = lay_out(nodes, edges)
    for source, target in edges:
        layers = [layer for layer, _ in layout.paths[source, target]]
        assert layers == list(range(layout.places[source][0], layout.places[target][0] + 1))
    assert len(set(layout.places.values())) == count


def test_an_edge_that_skips_a_layer_does_not_run_through_a_node():
    layout = lay_out(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")])
    assert layout.paths["a", "c"][1] != layout.places["b"]


def test_a_cycle_does_not_hang():
    assert set(lay_out(["a", "b"], [("a", "b"), ("b", "a")]).places) == {"a", "b"}


def test_a_graph_shows_state_as_glyph_and_word():
    drawn = str(draw_dag([
        Node(name="a", label="<train>", state="COMPLETE", duration_ms=1500, href="/runs/1?task=a"),
        Node(name="b", label="evaluate", state="FAILED", after=["a"]),
    ]))  # fmt: skip
    ET.fromstring(drawn)
    assert "&lt;train&gt;" in drawn
    assert "✓" in drawn
    assert "complete · 1.5 s" in drawn
    assert "✕" in drawn


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[index : index + 2], 16) / 255 for index in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast_on_every_ground_they_are_used_on(scheme):
    css = static_files()["console.css"].decode()
    pairs = re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", css)
    colour = {name: values[scheme] for name, *values in pairs}
    for name in ("ink", "soft", "link", "idle", "running", "good", "attention", "failed"):
        for ground in ("paper", "stripe", "hot"):
            assert _contrast(colour[name], colour[ground]) >= 4.5, (name, ground)
    for number in range(8):
        assert _contrast(colour[f"s{number}"], colour["paper"]) >= 3.0, number
    for level, ground, ink in re.findall(r"\.(h\d) \{ background: light-dark\(([^)]*)\)(?:; color: ([^}]*) )?\}", css):
        text = colour["ink"] if not ink else re.findall(r"#\w+", ink)[-1 if scheme else 0]
        assert _contrast(text, re.findall(r"#\w+", ground)[scheme]) >= 4.5, level


def make_task(address: str, state: str = "COMPLETE", upstream: tuple[str, ...] = ()) -> TaskRun:
    name = address.rpartition("/")[2]
    return msgspec.convert(
        {
            "run_id": "r", "address": address, "position": 0, "name": name, "state": state, "attempt": 1,
            "failures": 0, "execution_id": None, "cached_from": None, "cache_key": None, "component_digest": "d",
            "error": "", "started_at": 1, "ended_at": 2, "took_ms": 5, "upstream": upstream, "inputs": {},
            "outputs": {},
        },
        TaskRun,
        strict=False,
    )  # fmt: skip


def test_a_long_loop_is_one_node_that_shows_its_worst_iteration() -> None:
    tasks = [
        make_task("list"),
        *(make_task(f"loop/{i}/fit", "FAILED" if i == 7 else "COMPLETE", ("list",)) for i in range(20)),
        make_task("join", upstream=("loop",)),
    ]
    first, loop, join = draw_nodes("r", tasks, "loop/7/fit")
    assert (first.name, loop.name, join.name) == ("list", "loop/*/fit", "join")
    assert (loop.label, loop.state, loop.note) == ("fit × 20", "FAILED", "19 complete, 1 failed")
    assert loop.chosen
    assert loop.href.endswith("task=loop%2F7%2Ffit")
    assert (loop.after, join.after) == (["list"], ["loop/*/fit"])


def test_a_short_loop_is_drawn_task_by_task() -> None:
    tasks = [*(make_task(f"loop/{i}/fit") for i in range(3)), make_task("join", upstream=("loop",))]
    *fits, join = draw_nodes("r", tasks, "")
    assert [node.label for node in fits] == ["fit"] * 3
    assert join.after == ["loop/0/fit", "loop/1/fit", "loop/2/fit"]


def test_a_graph_nobody_could_read_is_not_drawn() -> None:
    assert draw_nodes("r", [make_task(f"t{i}") for i in range(1000)], "") == []
