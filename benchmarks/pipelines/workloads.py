"""The pipelines that are measured, written with kfp.dsl (kfp needs real annotations: no __future__ import)."""

# ruff: noqa: I002

from kfp import dsl


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def add(x: int) -> int:
    return x + 1


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def add_heavily(x: int) -> int:
    import pandas as pd
    from sklearn.ensemble import RandomForestClassifier

    return int(pd.Series([x, RandomForestClassifier(n_estimators=1).n_estimators]).sum())


@dsl.pipeline
def one(x: int = 0) -> int:
    return add(x=x).output


@dsl.pipeline
def chain(x: int = 0) -> int:
    task = add(x=x)
    for _ in range(9):
        task = add(x=task.output)
    return task.output


@dsl.pipeline
def heavy_chain(x: int = 0) -> int:
    task = add_heavily(x=x)
    for _ in range(9):
        task = add_heavily(x=task.output)
    return task.output


@dsl.pipeline
def fan(x: int = 0):
    with dsl.ParallelFor(list(range(50))) as item:
        add(x=item)


ALL = {"one": one, "chain": chain, "heavy_chain": heavy_chain, "fan": fan}
