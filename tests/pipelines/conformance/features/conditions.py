"""Conditions, and values of which only one branch has made any, written as users write them."""

# ruff: noqa: I002

from typing import NamedTuple

from kfp import dsl
from parts import add, make_file, mark, pipeline, read_file


@dsl.component
def flags() -> NamedTuple("Out", [("yes", bool), ("text", str), ("number", float), ("whole", int)]):
    from collections import namedtuple

    return namedtuple("Out", ["yes", "text", "number", "whole"])(True, "it's", 2.5, 7)


@pipeline
def conditions(path: str):
    found = flags()
    with dsl.If(found.outputs["yes"] == True):  # noqa: E712
        mark(path=path, name="bool")
    with dsl.If(found.outputs["text"] == "it's"):
        mark(path=path, name="text")
    with dsl.If(found.outputs["number"] >= 2.5):
        mark(path=path, name="number")
    with dsl.If(found.outputs["whole"] < 7):
        mark(path=path, name="less")
    with dsl.Elif(found.outputs["whole"] == 7):
        mark(path=path, name="equal")
    with dsl.Else():
        mark(path=path, name="more")


@pipeline
def injection(path: str, v: str):
    with dsl.If(v == "go"):
        mark(path=path, name="went")


@pipeline
def oneof_artifact(n: int) -> str:
    with dsl.If(n == 1):
        one = make_file(text="one")
    with dsl.Elif(n == 2):
        two = make_file(text="two")
    with dsl.Else():
        other = make_file(text="other")
    chosen = dsl.OneOf(one.outputs["data"], two.outputs["data"], other.outputs["data"])
    return read_file(data=chosen).output


@pipeline
def oneof_parameter(n: int) -> int:
    with dsl.If(n == 1):
        one = add(x=1, y=0)
    with dsl.Else():
        other = add(x=n, y=100)
    return dsl.OneOf(one.output, other.output)
