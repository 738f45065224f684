"""``mainspring package``: a model as a container to build and the manifests to run it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mainspring.cli.batch import model_of
from mainspring.cli.model_names import HELP
from mainspring.core import InvalidInput


def package(
    context: typer.Context,
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="[ENDPOINT] DIR", help="The endpoint, and the new folder; DIR alone with --model."),
    ],
    model: Annotated[str, typer.Option(help=HELP)] = "",
    name: Annotated[str, typer.Option(help="Name of the endpoint; the model's name if none is given.")] = "",
    image: Annotated[str, typer.Option(help="Name of the image to be; NAME:VERSION if none is given.")] = "",
    base: Annotated[
        str, typer.Option(metavar="NAME:TAG[@sha256:…]", help="Base image; without a digest the build needs one.")
    ] = "docker.io/library/python:3.11-slim",
    wheel: Annotated[Path | None, typer.Option(help="A wheel of mainspring to install.")] = None,
    lock: Annotated[
        Path | None, typer.Option(help="Requirements with exact versions, instead of what is installed.")
    ] = None,
    replicas: Annotated[str, typer.Option(metavar="MIN-MAX", help="How many run.")] = "1-5",
    cpu: Annotated[str, typer.Option(help="CPU of one.")] = "1",
    memory: Annotated[str, typer.Option(help="Memory of one.")] = "512Mi",
    workers: Annotated[int, typer.Option(min=1, help="Processes in one.")] = 1,
    log_claim: Annotated[str, typer.Option(help="PersistentVolumeClaim that keeps the prediction log.")] = "",
    grpc: Annotated[bool, typer.Option("--grpc", help="Also speak gRPC.")] = False,
) -> None:
    """Write an OCI build context with manifests for Kubernetes, KServe, Knative, Cloud Run and Vertex AI."""
    from mainspring.delivery.packaging import PackageInputs, PackageSpec, dns_name, write_package

    if len(arguments) != (1 if model else 2):
        raise InvalidInput("Name a model and a folder.", hint="mainspring package ENDPOINT DIR, or --model URI DIR")
    endpoint = "" if model else arguments[0]
    reference = model_of(context, endpoint, model)
    low, _, high = replicas.partition("-")
    if not low.isdigit() or not (high or low).isdigit():
        raise InvalidInput(f"{replicas!r} replicas make no sense.", hint="Pass --replicas 1-5.")
    base, _, digest = base.partition("@")
    spec = PackageSpec(
        endpoint=name or endpoint or reference.name,
        model=reference,
        image=image or f"{dns_name(name or endpoint or reference.name)}:{reference.version}",
        base=base,
        base_digest=digest,
        cpu=cpu,
        memory=memory,
        min_replicas=int(low),
        max_replicas=int(high or low),
        workers=workers,
        log_claim=log_claim,
        has_grpc=grpc,
    )
    folder = Path(arguments[-1])
    files = write_package(spec, folder, PackageInputs(wheel=wheel, lock=lock))
    argument = "" if digest else " --build-arg BASE_DIGEST=sha256:…"
    typer.echo(f"{len(files)} files in {folder}. Build it: podman build{argument} -t {spec.image} {folder}")
