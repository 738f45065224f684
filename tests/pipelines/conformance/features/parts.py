"""What the pipelines of all features are made of (kfp needs real annotations: no __future__)."""

# ruff: noqa: I002, UP006, UP035, PTH123

from typing import Callable, Dict, List

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

ALL: Dict[str, Callable] = {}


def pipeline(function):
    """Make a pipeline of a function, and one of those the suite compiles."""
    ALL[function.__name__] = dsl.pipeline(function)
    return ALL[function.__name__]


@dsl.component
def add(x: int, y: int = 1) -> int:
    return x + y


@dsl.component
def say(text: str = "default") -> str:
    return text


@dsl.component
def show(value: list) -> str:
    return repr(value)


@dsl.component
def show_dict(value: dict) -> str:
    return repr(value)


@dsl.component
def make_list(size: int) -> list:
    return list(range(size))


@dsl.component
def make_rows() -> list:
    return [{"a": 1, "b": [1, 2], "c": {"d": "x"}}, {"a": 2, "b": [], "c": {"d": "it's"}}]


@dsl.component
def fail(message: str = "no luck") -> int:
    raise ValueError(message)


@dsl.component
def fail_with_text(message: str) -> str:
    raise ValueError(message)


@dsl.component
def mark(path: str, name: str) -> str:
    with open(path, "a") as file:
        file.write(name + "\n")
    return name


@dsl.component
def make_file(text: str, data: Output[Dataset]):
    data.metadata["length"] = len(text)
    with open(data.path, "w") as file:
        file.write(text)


@dsl.component
def read_file(data: Input[Dataset]) -> str:
    return open(data.path).read()


@dsl.component
def read_files(files: Input[List[Dataset]]) -> str:
    return "|".join(open(file.path).read() for file in files)
