"""Parameters of every kind, defaults and outputs, written as users write them."""

# ruff: noqa: B006, I002, UP006, UP035, UP045

from typing import Dict, List, NamedTuple, Optional

from kfp import dsl
from parts import add, make_list, pipeline, say, show


@dsl.component
def types(i: int, f: float, b: bool, s: str, items: List[int], table: Dict[str, int], opt: Optional[str] = None) -> str:
    return repr((i, f, b, s, items, table, opt))


@dsl.pipeline
def inner_values(items: List[int], table: Dict[str, int], opt: Optional[str] = None) -> str:
    return types(i=1, f=2.0, b=False, s="s", items=items, table=table, opt=opt).output


@pipeline
def values_nested(table: Dict[str, int] = {"a": 1, "b": 2}) -> str:
    return inner_values(items=[1, 2, 3], table=table).output


@pipeline
def values_given(opt: Optional[str] = None) -> str:
    return inner_values(items=[], table={}, opt=opt).output


@dsl.component
def maybe(x: Optional[int] = None, y: Optional[int] = 5) -> str:
    return f"{x} {y}"


@dsl.pipeline
def inner_maybe(x: Optional[int] = None, y: Optional[int] = 7) -> str:
    return maybe(x=x, y=y).output


@pipeline
def optional(x: Optional[int] = None) -> NamedTuple("Out", [("plain", str), ("nested", str), ("empty", str)]):
    from collections import namedtuple

    plain, nested, empty = maybe(x=x), inner_maybe(x=x), inner_maybe()
    return namedtuple("Out", ["plain", "nested", "empty"])(plain.output, nested.output, empty.output)


@pipeline
def any_into_string(number: int = 3) -> str:
    return say(text=f"{make_list(size=number).output} {number}").output


@pipeline
def fstrings(word: str = "a {brace} it's") -> str:
    first = say(text="b")
    return say(text=f"{word}-{first.output}-{word}").output


@dsl.component
def number_as_text() -> str:
    return "12"


@dsl.component
def lie() -> int:
    class Lie(int):
        pass

    return Lie(3)


@pipeline
def list_of_outputs() -> str:
    return show(value=[add(x=1).output, 5, {"k": add(x=2).output}]).output
