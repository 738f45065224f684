"""``python -m mainspring.serving``: run one endpoint process."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mainspring.core import MainspringError, open_clock
from mainspring.serving.app import AppOptions
from mainspring.serving.server import ServeOptions, configure_logging, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the flags, serve, and return the exit status."""
    configure_logging()
    try:
        serve(_read(_parser().parse_args(arguments)))
    except MainspringError as error:
        logging.getLogger("mainspring.serving").error(
            "endpoint.failed", extra={"fields": {"error": error.message, "hint": error.hint, "code": error.code}}
        )
        return error.exit_status
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mainspring.serving", description="Run one endpoint process.")
    parser.add_argument("--endpoint", required=True, help="name of the endpoint, also the model's name to clients")
    parser.add_argument("--folder", required=True, type=Path, help="the endpoint's folder: deployment file and logs")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to; anything but loopback needs a token")
    port = os.environ.get("AIP_HTTP_PORT") or os.environ.get("PORT") or "8080"
    parser.add_argument("--port", type=int, default=port, help="0 picks a free one ($AIP_HTTP_PORT, $PORT)")
    parser.add_argument("--model", type=Path, help="serve this MLflow model folder, without a control plane")
    parser.add_argument("--clock", default="system", help="system, or simulated:PATH")
    parser.add_argument(
        "--token", default=os.environ.get("MAINSPRING_TOKEN", ""), help="bearer token clients must send"
    )
    parser.add_argument("--max-body", type=int, default=16 << 20, help="bytes of a request body")
    parser.add_argument(
        "--allow-pickle", action="store_true", help="load models that can run code when they are loaded"
    )
    parser.add_argument("--predict-route", default=os.environ.get("AIP_PREDICT_ROUTE", ""), help="Vertex AI's route")
    parser.add_argument("--health-route", default=os.environ.get("AIP_HEALTH_ROUTE", ""), help="Vertex AI's route")
    return parser


def _read(flags: argparse.Namespace) -> ServeOptions:
    app = AppOptions(
        max_body=flags.max_body,
        token=flags.token,
        predict_route=flags.predict_route,
        health_route=flags.health_route,
    )
    return ServeOptions(
        endpoint=flags.endpoint,
        folder=flags.folder.resolve(),
        host=flags.host,
        port=flags.port,
        model=flags.model,
        clock=open_clock(flags.clock),
        allow_pickle=flags.allow_pickle,
        app=app,
    )


if __name__ == "__main__":
    sys.exit(main())
