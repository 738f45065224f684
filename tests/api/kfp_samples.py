"""Pipelines for the tests of Kubeflow Pipelines' API."""

# ruff: noqa: I002

from kfp import dsl


@dsl.component
def add(a: int, b: int) -> int:
    print("adding")
    return a + b


@dsl.component
def note(path: str, text: str) -> str:
    with open(path, "a") as file:  # noqa: PTH123
        file.write(text + "\n")
    return text


@dsl.component
def wait_for(path: str):
    import os
    import time

    while not os.path.exists(path):  # noqa: PTH110
        time.sleep(0.02)


@dsl.component
def need(path: str):
    if not __import__("os").path.exists(path):
        raise ValueError("the file is not there")


@dsl.component
def write(out: dsl.Output[dsl.Dataset]):
    with open(out.path, "w") as file:  # noqa: PTH123
        file.write("hello")


@dsl.component
def read(data: dsl.Input[dsl.Dataset]) -> str:
    with open(data.path) as file:  # noqa: PTH123
        return file.read()


@dsl.pipeline(name="files")
def files():
    read(data=write().outputs["out"])


@dsl.pipeline(name="adder")
def adder(a: int = 1) -> int:
    first = add(a=a, b=1)
    return add(a=first.output, b=10).output


@dsl.pipeline(name="notes")
def notes(path: str, text: str = "x"):
    note(path=path, text=text).set_caching_options(False)


@dsl.pipeline(name="waits")
def waits(path: str):
    wait_for(path=path)


@dsl.pipeline(name="needs")
def needs(path: str):
    need(path=path)
