"""Components of every kind KFP compiles to a container, for the tests of what is lifted and how it is launched."""

# ruff: noqa: I002

import json
import sys
import tempfile
import warnings
from pathlib import Path

from kfp import compiler, dsl

warnings.simplefilter("ignore")
FOLDER = Path(tempfile.mkdtemp())
(FOLDER / "assets" / "inner").mkdir(parents=True)
(FOLDER / "assets" / "greeting.txt").write_text("hello")
(FOLDER / "assets" / "inner" / "number.txt").write_text("7")
CELLS = {
    "x = 1": ["parameters"],
    "import sys; print(x, sys.executable)": [],
    "open(path, 'w').write(f'{x}|{sys.executable}')": [],
}
CELL = {"cell_type": "code", "outputs": [], "execution_count": None}
NOTEBOOK = {
    "cells": [
        {**CELL, "id": f"c{place}", "metadata": {"tags": tags}, "source": source}
        for place, (source, tags) in enumerate(CELLS.items())
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
(FOLDER / "notebook.ipynb").write_text(json.dumps(NOTEBOOK))


def add_one(number):
    return number + 1


@dsl.component(install_kfp_package=False)
def bare(number: int) -> int:
    return number


@dsl.component(packages_to_install=["numpy>=1,<9", "six"], pip_index_urls=["https://one/simple", "https://two/simple"])
def needy(number: int) -> int:
    return number


@dsl.component(additional_funcs=[add_one])
def helped(number: int) -> int:
    return add_one(number)


@dsl.component(use_venv=True)
def apart(number: int) -> str:
    import sys

    return f"{number}|{sys.prefix}"


@dsl.component(embedded_artifact_path=str(FOLDER / "assets"))
def folder_inside(files: dsl.EmbeddedInput[dsl.Dataset]) -> str:
    from pathlib import Path

    return Path(files.path, "greeting.txt").read_text() + Path(files.path, "inner", "number.txt").read_text()


@dsl.component(embedded_artifact_path=str(FOLDER / "assets" / "greeting.txt"))
def file_inside(file: dsl.EmbeddedInput[dsl.Dataset]) -> str:
    from pathlib import Path

    return Path(file.path).read_text()


@dsl.notebook_component(notebook_path=str(FOLDER / "notebook.ipynb"))
def notebook(number: int, path: str):
    dsl.run_notebook(x=number, path=path)


@dsl.component(base_image="python:3.11", target_image="registry/team/built:1")
def built(number: int) -> int:
    return number


@dsl.container_component
def shell(text: str, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'echo "$0" > "$1"'], args=[text, out])


@dsl.pipeline
def everything(number: int = 1):
    bare(number=number).set_cpu_limit("500m").set_memory_limit("512Mi").set_accelerator_type(
        "nvidia-t4"
    ).set_accelerator_limit(2)
    needy(number=number).set_env_variable("LEVEL", "3")
    helped(number=number)
    apart(number=number)
    folder_inside()
    file_inside()
    notebook(number=number, path="/tmp/x")
    built(number=number)
    shell(text="hi")


if __name__ == "__main__":
    compiler.Compiler().compile(everything, sys.argv[1])
