"""Loops over items, fields and artifacts, and what is collected from them, written as users write them."""

# ruff: noqa: B006, I002, UP006, UP035, PTH107, PTH118, PTH123, PTH208, SIM117

from typing import List

from kfp import dsl
from kfp.dsl import Dataset
from parts import add, fail, make_file, make_list, make_rows, mark, pipeline, read_file, read_files, say, show


@pipeline
def loop_raw() -> List[int]:
    with dsl.ParallelFor([1, 2, 3]) as item:
        task = add(x=item)
    return dsl.Collected(task.output)


@pipeline
def loop_runtime(size: int = 3) -> str:
    with dsl.ParallelFor(make_list(size=size).output) as item:
        task = add(x=item, y=10)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_parameter(items: List[str] = ["b", "a"]) -> str:
    with dsl.ParallelFor(items, parallelism=1) as item:
        task = say(text=item)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_nested() -> str:
    with dsl.ParallelFor([1, 2]) as outer:
        with dsl.ParallelFor([10, 20, 30]) as inner:
            task = add(x=outer, y=inner)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_fields() -> str:
    with dsl.ParallelFor(make_rows().output) as row:
        task = say(text=f"{row.a}")
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_over_field() -> str:
    with dsl.ParallelFor([{"a": 1, "p": [1, 2]}, {"a": 5, "p": [7]}]) as row:
        with dsl.ParallelFor(row.p) as item:
            task = add(x=item, y=10)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_skipping() -> str:
    with dsl.ParallelFor([1, 2, 3, 4]) as item:
        first = add(x=item)
        with dsl.If(first.output > 3):
            task = add(x=first.output, y=100)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_ints_stay_ints() -> str:
    with dsl.ParallelFor([[1, {"a": 2}], [3.5, {"a": 4}]]) as item:
        task = say(text=f"{item}")
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_artifacts() -> str:
    with dsl.ParallelFor(["x", "y"]) as item:
        with dsl.ParallelFor(["1", "2"]) as other:
            made = make_file(text=f"{item}{other}")
    return read_files(files=dsl.Collected(made.outputs["data"])).output


@dsl.pipeline
def inner_over_artifacts(files: List[Dataset]) -> str:
    with dsl.ParallelFor(files) as file:
        task = read_file(data=file)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_over_artifacts() -> str:
    with dsl.ParallelFor(["x", "y", "z"]) as item:
        made = make_file(text=item)
    return inner_over_artifacts(files=dsl.Collected(made.outputs["data"])).output


@dsl.component
def count_running(folder: str, item: int) -> int:
    import os
    import time

    mine = os.path.join(folder, str(item))
    open(mine, "w").close()
    time.sleep(0.15)
    seen = len(os.listdir(folder))
    os.remove(mine)
    return seen


@pipeline
def loop_limit(folder: str) -> str:
    with dsl.ParallelFor([1, 2, 3, 4, 5], parallelism=2) as item:
        task = count_running(folder=folder, item=item)
    return show(value=dsl.Collected(task.output)).output


@pipeline
def loop_failing(path: str):
    with dsl.ParallelFor([1, 2, 3]) as item:
        with dsl.If(item == 2):
            fail(message=f"item {item}")
        with dsl.Else():
            mark(path=path, name=f"{item}")
