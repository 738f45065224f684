"""The flags of an endpoint process: ours, and those that KServe, Vertex AI, Cloud Run and SageMaker made usual."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mainspring.core import InvalidInput, open_clock
from mainspring.serving.app import AppOptions
from mainspring.serving.batcher import BatchLimits
from mainspring.serving.endpoint import EndpointOptions
from mainspring.serving.http import HttpLimits
from mainspring.serving.prediction_log import LogPolicy
from mainspring.serving.server import ServeOptions

_MODEL_HOME = Path("/opt/ml/model")


def read_flags(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[ServeOptions, int]:
    """Return the options and the number of workers; raise `InvalidInput` for values that make no sense."""
    variables = os.environ if environment is None else environment
    flags = _parser(variables).parse_args(arguments)
    if flags.workers < 1:
        raise InvalidInput(f"{flags.workers} workers cannot serve.", hint="Pass --workers 1 or more.")
    if flags.workers > 1 and flags.management:
        raise InvalidInput(
            "The management routes load models into one process: they are for a single worker.",
            hint="Pass --management or --workers, not both; a new deployment file swaps versions in all workers.",
        )
    if flags.timeout <= 0:
        raise InvalidInput(f"A timeout of {flags.timeout} s leaves no time.", hint="Pass --timeout 60.")
    model = flags.model or flags.model_dir or _mounted_model(flags.folder)
    endpoint = flags.endpoint or flags.model_name or (model.resolve().name if model is not None else "")
    if not endpoint:
        raise InvalidInput("The endpoint has no name.", hint="Pass --endpoint NAME.")
    app = AppOptions(
        limits=HttpLimits(max_body=flags.max_body, max_connections=flags.max_connections,
                          max_per_client=flags.max_per_client),
        token=flags.token,
        allows_anonymous=flags.allow_anonymous,
        predict_route=flags.predict_route,
        health_route=flags.health_route,
    )  # fmt: skip
    options = EndpointOptions(
        allow_pickle=flags.allow_pickle,
        trust_types=tuple(flags.trust_type),
        limits=BatchLimits(max_rows=flags.max_batch, max_waiting=flags.max_waiting, seconds=flags.timeout),
        policy=LogPolicy(
            redact=tuple(flags.redact), hashed=tuple(flags.hash), sample=flags.sample, on_full=flags.on_full
        ),
        split_field=flags.split_field,
    )
    return (
        ServeOptions(
            endpoint=endpoint,
            folder=(flags.folder or Path(".mainspring") / "endpoints" / endpoint).resolve(),
            host=flags.host,
            port=flags.port if flags.http_port is None else flags.http_port,
            model=model,
            clock=open_clock(flags.clock),
            options=options,
            app=app,
            listener=flags.listener,
            worker=flags.worker,
            management=flags.management,
            repository=flags.repository,
            grpc_port=flags.grpc_port,
            otel=flags.otel,
            prestop_seconds=flags.prestop,
        ),
        flags.workers,
    )


def _parser(variables: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mainspring.serving", description="Run one endpoint.")
    add = parser.add_argument
    add("--endpoint", default="", help="name of the endpoint, also the model's name to clients")
    add("--model_name", default="", help="the same, as KServe calls it")
    add("--folder", type=Path, help="the endpoint's folder: deployment file and logs")
    add("--model", type=Path, help="serve this MLflow model folder, without a control plane")
    add("--model_dir", type=Path, help="the same, as KServe calls it")
    add("--host", default="127.0.0.1", help="address to bind to; anything but loopback needs a token")
    port = variables.get("AIP_HTTP_PORT") or variables.get("PORT") or "8080"
    add("--port", type=int, default=port, help="0 picks a free one ($AIP_HTTP_PORT, $PORT)")
    add("--http_port", type=int, help="the same, as KServe calls it")
    workers = variables.get("MLFLOW_MODELS_WORKERS") or "1"
    add("--workers", type=int, default=workers, help="processes that answer, each with a copy of the model")
    add("--clock", default="system", help="system, or simulated:PATH")
    add("--token", default=variables.get("MAINSPRING_TOKEN", ""), help="bearer token clients must send")
    add("--allow-anonymous", action="store_true", help="listen to other machines without a token")
    health, predict = _vertex_routes(variables)
    add("--predict-route", default=predict, help="Vertex AI's route")
    add("--health-route", default=health, help="Vertex AI's route")
    _add_model_flags(parser)
    _add_log_flags(parser)
    _add_limit_flags(parser, variables)
    add("--management", default="", metavar="HOST:PORT", help="listener of the management routes; needs a token")
    add("--repository", type=Path, help="folder of model folders that the management routes may load")
    add("--grpc-port", "--grpc_port", type=int, default=-1, help="also speak the Open Inference Protocol over gRPC")
    add("--otel", action="store_true", help="send traces with OpenTelemetry")
    add("--prestop", type=float, default=0.0, metavar="SECONDS", help="go on accepting for so long after SIGTERM")
    add("--listener", type=int, default=-1, help=argparse.SUPPRESS)
    add("--worker", type=int, default=-1, help=argparse.SUPPRESS)
    return parser


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--allow-pickle", action="store_true", help="load models that can run code when they are loaded")
    add("--trust-type", action="append", default=[], metavar="TYPE", help="a type skops files may hold; repeatable")
    add("--split-field", default="", metavar="COLUMN", help="input column that keeps a client with its variant")
    add("--max-batch", type=int, default=1_024, metavar="ROWS", help="rows of one call of the model")


def _add_log_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--redact", action="append", default=[], metavar="COLUMN", help="leave out of the log; repeatable")
    add("--hash", action="append", default=[], metavar="COLUMN", help="log as a keyed hash only; repeatable")
    add("--sample", type=float, default=1.0, metavar="FRACTION", help="share of the requests that is logged")
    add("--on-full", choices=("refuse", "drop"), default="refuse", help="what a full disk does to requests")


def _add_limit_flags(parser: argparse.ArgumentParser, variables: Mapping[str, str]) -> None:
    add = parser.add_argument
    seconds = variables.get("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT") or "60"
    add("--timeout", type=float, default=seconds, metavar="SECONDS", help="for one request")
    add("--max-body", type=int, default=16 << 20, metavar="BYTES", help="of a request")
    add("--max-waiting", type=int, default=1_000, metavar="REQUESTS", help="that may wait for their prediction")
    add("--max-connections", type=int, default=4_096)
    add("--max-per-client", type=int, default=1_024, metavar="CONNECTIONS", help="from one address")


def _mounted_model(folder: Path | None) -> Path | None:
    """Return the model that SageMaker and MLflow's images put in its place, if nothing else was named."""
    return _MODEL_HOME if folder is None and (_MODEL_HOME / "MLmodel").is_file() else None


def _vertex_routes(variables: Mapping[str, str]) -> tuple[str, str]:
    """Return Vertex AI's health and predict routes; without explicit ones, those it makes of its ids."""
    endpoint, deployed = variables.get("AIP_ENDPOINT_ID", ""), variables.get("AIP_DEPLOYED_MODEL_ID", "")
    route = f"/v1/endpoints/{endpoint}/deployedModels/{deployed}" if endpoint and deployed else ""
    health = variables.get("AIP_HEALTH_ROUTE") or route
    return health, variables.get("AIP_PREDICT_ROUTE") or (f"{route}:predict" if route else "")
