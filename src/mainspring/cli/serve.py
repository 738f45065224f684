"""``mainspring serve``: one endpoint on its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mainspring.cli.model_names import HELP, find_model, is_stored, model_folder
from mainspring.cli.project import Options, options_of
from mainspring.cli.up import environment_of
from mainspring.core import InvalidInput

if TYPE_CHECKING:
    from mainspring.serving import ModelReference


def serve(
    context: typer.Context,
    uri: Annotated[str, typer.Argument(help=HELP)] = "",
    model: Annotated[
        str, typer.Option("--model", "--model_dir", help="The same: an MLflow model folder needs no control plane.")
    ] = "",
    name: Annotated[
        str, typer.Option("--name", "--model_name", help="Name of the endpoint; the model's name if none is given.")
    ] = "",
    port: Annotated[
        int | None, typer.Option("--port", "--http_port", help="0 picks a free one; else $AIP_HTTP_PORT, $PORT, 8080.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to bind to; anything but loopback needs a token.")] = "",
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer, each with a copy of the model.")] = 1,
    log: Annotated[Path | None, typer.Option(help="Folder of the endpoint's state and prediction log.")] = None,
    home: Annotated[Path | None, typer.Option(help="Home folder of the project's store.")] = None,
    allow_pickle: Annotated[bool, typer.Option(help="Load models that are pickles: they can run any code.")] = False,
    trust_type: Annotated[list[str] | None, typer.Option(help="A type skops files may hold; repeatable.")] = None,
    redact: Annotated[list[str] | None, typer.Option(help="Column to leave out of the log; repeatable.")] = None,
    hash: Annotated[list[str] | None, typer.Option(help="Column to log as a keyed hash; repeatable.")] = None,
    sample: Annotated[float, typer.Option(help="Share of the requests that is logged.")] = 1.0,
    on_full: Annotated[str, typer.Option(help="What a full disk does to requests: refuse or drop.")] = "refuse",
    timeout: Annotated[float | None, typer.Option(help="Seconds for one request.")] = None,
    max_body: Annotated[int | None, typer.Option(help="Bytes of a request.")] = None,
    max_waiting: Annotated[int | None, typer.Option(help="Requests that may wait for their prediction.")] = None,
    split_field: Annotated[str, typer.Option(help="Input column that keeps a client with its variant.")] = "",
    management: Annotated[str, typer.Option(help="HOST:PORT of the management routes; needs a token.")] = "",
    repository: Annotated[Path | None, typer.Option(help="Folder of models the management routes may load.")] = None,
    grpc_port: Annotated[
        int | None, typer.Option("--grpc-port", "--grpc_port", help="Also speak the Open Inference Protocol over gRPC.")
    ] = None,
    otel: Annotated[bool, typer.Option(help="Send traces with OpenTelemetry.")] = False,
    prestop: Annotated[float, typer.Option(help="Seconds to go on accepting after SIGTERM.")] = 0.0,
) -> None:
    """Answer predictions: MLflow /invocations, Open Inference Protocol V2, KServe V1 and Vertex :predict."""
    if home is not None:
        given_before = options_of(context)
        context.obj = Options(given_before.folder, {**given_before.flags, "home": str(home.resolve())})
    settings, _ = options_of(context).load()
    if bool(model) == bool(uri):
        raise InvalidInput("Name one model.", hint="mainspring serve models:/NAME@champion, or --model DIR")
    source = model or uri
    command = [sys.executable, "-m", "mainspring.serving"]
    if is_stored(source):
        found = find_model(context, source)
        name = name or found.name
        folder = log or settings.endpoint_folder(f"{name}-{port or 0}")
        _deploy(found, name, folder)
    else:
        path = model_folder(source)
        name = name or path.name
        folder = log or settings.endpoint_folder(name)
        command += ["--model", str(path)]
    command += ["--endpoint", name, "--folder", str(folder), "--host", host or settings.values.host]
    command += ["--clock", settings.clock_spec, "--workers", str(workers), "--sample", str(sample)]
    command += ["--on-full", on_full, "--prestop", str(prestop)]
    given = {
        "--port": port,
        "--timeout": timeout,
        "--max-body": max_body,
        "--max-waiting": max_waiting,
        "--split-field": split_field or None,
        "--management": management or None,
        "--repository": repository,
        "--grpc-port": grpc_port,
    }
    command += [str(part) for flag, value in given.items() if value is not None for part in (flag, value)]
    repeated = {"--trust-type": trust_type, "--redact": redact, "--hash": hash}
    command += [part for flag, values in repeated.items() for value in values or () for part in (flag, value)]
    command += [flag for flag, is_on in (("--allow-pickle", allow_pickle), ("--otel", otel)) if is_on]
    os.execve(sys.executable, command, environment_of(settings))  # noqa: S606 - no shell; it takes our place


def _deploy(model: ModelReference, name: str, folder: Path) -> None:
    """Write a deployment of one version into a folder of its own: the project's endpoints are left alone."""
    from mainspring.delivery import plan_deployment
    from mainspring.serving import write_deployment

    folder.mkdir(parents=True, exist_ok=True)
    write_deployment(folder / "deployment.json", plan_deployment(name, model))
