"""``mainspring serve``: one endpoint on its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mainspring.cli.project import open_project, options_of
from mainspring.cli.up import check_port, environment_of
from mainspring.core import InvalidInput


def serve(
    context: typer.Context,
    uri: Annotated[str, typer.Argument(help="models:/NAME@ALIAS, models:/NAME/VERSION; none with --model.")] = "",
    model: Annotated[Path | None, typer.Option(help="An MLflow model folder: no control plane needed.")] = None,
    name: Annotated[str, typer.Option(help="Name of the endpoint; the model's name if none is given.")] = "",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.")] = 8080,
    log: Annotated[Path | None, typer.Option(help="Folder of the endpoint's state and prediction log.")] = None,
    allow_pickle: Annotated[bool, typer.Option(help="Load models that are pickles: they can run any code.")] = False,
) -> None:
    """Answer predictions: MLflow /invocations, Open Inference Protocol V2, KServe V1 and Vertex :predict."""
    from mainspring.serving.mlmodel import read_mlmodel

    settings, _ = options_of(context).load()
    if (model is None) == (not uri):
        raise InvalidInput("Name one model.", hint="mainspring serve models:/NAME@champion, or --model DIR")
    check_port("endpoint", settings.values.host, port)
    if model is None:
        name, folder = _deploy(context, uri, name, port, log)
    else:
        read_mlmodel(model)
        name = name or model.resolve().name
        folder = log or settings.endpoint_folder(name)
    command = [sys.executable, "-m", "mainspring.serving", "--endpoint", name, "--folder", str(folder)]
    command += ["--host", settings.values.host, "--port", str(port), "--clock", settings.clock_spec]
    command += ["--model", str(model)] if model is not None else []
    command += ["--allow-pickle"] if allow_pickle else []
    os.execve(sys.executable, command, environment_of(settings))  # noqa: S606 - no shell; it takes our place


def _deploy(context: typer.Context, uri: str, name: str, port: int, log: Path | None) -> tuple[str, Path]:
    """Write a deployment of one version into a folder of its own: the project's endpoints are left alone."""
    from mainspring.delivery import plan_deployment
    from mainspring.registry import materialise, resolve
    from mainspring.serving import ModelReference, write_deployment

    store = open_project(context)
    with store.database.read() as connection:
        version = resolve(connection, uri)
    name = name or version.name
    folder = log or store.settings.endpoint_folder(f"{name}-{port}")
    model = materialise(store.blobs, version, store.settings.home / "models")
    reference = ModelReference(name=version.name, version=version.version, digest=version.digest, folder=str(model))
    folder.mkdir(parents=True, exist_ok=True)
    write_deployment(folder / "deployment.json", plan_deployment(name, reference))
    return name, folder
