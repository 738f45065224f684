"""Artifacts of every kind, lists of them, and importers, written as users write them."""

# ruff: noqa: I002, PTH103, PTH123

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output
from parts import make_file, pipeline, read_file


@dsl.component
def set_path(folder: str, model: Output[Model]):
    import os

    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/weights", "w") as file:
        file.write("custom")
    model.set_path(folder)
    model.metadata["where"] = "custom"


@dsl.component
def read_model(model: Input[Model]) -> str:
    return open(model.path + "/weights").read() + " " + model.metadata["where"]


@pipeline
def custom_path(folder: str) -> str:
    return read_model(model=set_path(folder=folder).outputs["model"]).output


@dsl.component
def change_uri(path: str, data: Output[Dataset], remote: Output[Dataset]):
    with open(path, "w") as file:
        file.write("elsewhere")
    data.uri = path
    remote.uri = "gs://bucket/x"
    remote.metadata["size"] = 3


@dsl.component
def see_uri(data: Input[Dataset], remote: Input[Dataset]) -> str:
    return f"{open(data.path).read()} {remote.uri} {remote.path} {remote.metadata['size']}"


@pipeline
def changed_uri(path: str) -> str:
    changed = change_uri(path=path)
    return see_uri(data=changed.outputs["data"], remote=changed.outputs["remote"]).output


@dsl.component
def return_artifact() -> Dataset:
    from kfp import dsl

    data = dsl.Dataset(uri=dsl.get_uri("mine"), metadata={"k": 1})
    with open(data.path, "w") as file:
        file.write("returned")
    return data


@pipeline
def returned_artifact() -> str:
    return read_file(data=return_artifact().output).output


@dsl.component
def log_metrics(metrics: Output[Metrics]):
    metrics.log_metric("accuracy", 0.93)


@dsl.pipeline
def inner_artifacts(data: Input[Dataset]) -> Dataset:
    text = read_file(data=data)
    return make_file(text=f"<{text.output}>").outputs["data"]


@pipeline
def nested_artifacts() -> Dataset:
    first = make_file(text="abc")
    return inner_artifacts(data=inner_artifacts(data=first.outputs["data"]).output).output


@pipeline
def root_artifact(data: Input[Dataset]) -> str:
    return read_file(data=data).output


@dsl.component
def see_import(data: Input[Artifact]) -> str:
    return f"{open(data.path).read()} {data.metadata['k']} {data.metadata['fixed']}"


@pipeline
def imported(path: str, k: int = 4) -> str:
    found = dsl.importer(artifact_uri=path, artifact_class=Dataset, metadata={"k": k, "fixed": "v"}, reimport=True)
    return see_import(data=found.output).output


@dsl.component
def see_remote(data: Input[Artifact]) -> str:
    return f"{data.uri} {data.path}"


@pipeline
def imported_remote() -> str:
    found = dsl.importer(artifact_uri="gs://bucket/data.csv", artifact_class=Dataset)
    return see_remote(data=found.output).output
