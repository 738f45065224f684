"""What waits for what, helpers, and pipelines used twice, written as users write them."""

# ruff: noqa: I002

from kfp import dsl
from parts import add, pipeline, show


@dsl.component
def nap(seconds: float) -> float:
    import time

    time.sleep(seconds)
    return time.time()


@pipeline
def parallel() -> str:
    with dsl.ParallelFor([1.0, 1.0, 1.0]) as seconds:
        task = nap(seconds=seconds)
    other = nap(seconds=1.0)
    return show(value=dsl.Collected(task.output)).after(other).output


@dsl.component
def helped(x: int) -> int:
    def twice(value: int) -> int:
        return 2 * value

    return twice(x)


@dsl.pipeline
def inner_twice(x: int) -> int:
    return add(x=helped(x=x).output).output


@pipeline
def used_twice() -> int:
    return inner_twice(x=inner_twice(x=1).output).output
