"""Failures, retries and exit handlers, written as users write them."""

# ruff: noqa: I002, PTH110, PTH123, PTH202, SIM117

from kfp import dsl
from parts import add, fail, fail_with_text, mark, pipeline, say


@dsl.component
def last_words(path: str, status: dsl.PipelineTaskFinalStatus):
    with open(path, "w") as file:
        file.write(f"{status.state}|{status.error_message}|{status.pipeline_task_name}")


@pipeline
def exit_failed(path: str):
    with dsl.ExitHandler(last_words(path=path)):
        with dsl.ParallelFor([1, 2]) as item:
            with dsl.If(item == 2):
                fail(message="boom it's")


@pipeline
def exit_well(path: str):
    with dsl.ExitHandler(last_words(path=path)):
        add(x=1)


@dsl.component
def note_status(path: str, state: dict):
    with open(path, "w") as file:
        file.write(state["state"])


@dsl.pipeline
def cleanup(path: str, status: dsl.PipelineTaskFinalStatus):
    note_status(path=path, state=status)


@dsl.component
def flaky(path: str, name: str, times: int = 2) -> str:
    import os

    mine = f"{path}.{name}"
    tries = os.path.getsize(mine) if os.path.exists(mine) else 0
    with open(mine, "a") as file:
        file.write("x")
    if tries + 1 < times:
        raise RuntimeError(f"{name} try {tries + 1}")
    return f"{name} {tries + 1}"


@dsl.pipeline
def inner_flaky(path: str) -> str:
    steady = flaky(path=path, name="steady", times=1)
    return flaky(path=path, name="inner").after(steady).output


@pipeline
def retries(path: str) -> str:
    task = flaky(path=path, name="task", times=3)
    task.set_retry(2, backoff_duration="0s", backoff_factor=1.0)
    nested = inner_flaky(path=path)
    nested.set_retry(1)
    with dsl.ParallelFor([1, 2]) as item:
        looped = flaky(path=path, name=f"loop{item}")
        looped.set_retry(1)
    return say(text=f"{task.output} {nested.output}").output


@pipeline
def ignoring(path: str) -> str:
    bad = fail_with_text(message="no luck")
    return say(text=bad.output).ignore_upstream_failure().output


@dsl.component
def optional_text(x: int = 4) -> int:
    return x + 1


@pipeline
def ignoring_defaults(path: str):
    bad = fail(message="no luck")
    task = optional_text(x=bad.output)
    task.ignore_upstream_failure()
    mark(path=path, name=f"{task.output}")


@pipeline
def other_branch(path: str):
    add(x=fail().output)
    mark(path=path, name="other")
