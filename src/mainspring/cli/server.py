"""``mainspring server``: the tracking server, registry, API and console in one process."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated

import typer

from mainspring.cli.project import Options, options_of
from mainspring.cli.spools import absorbing_spools
from mainspring.core import InvalidInput

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from mainspring.lineage import Store

log = logging.getLogger("mainspring.webhooks")
WEBHOOK_SECONDS = 0.25
RESET_VARIABLE = "MAINSPRING_TEST_RESET"
_MLFLOW_VARIABLES = {
    "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": "version_sources",
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "webhook_schemes",
    "MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES": "webhook_retries",
    "MLFLOW_WEBHOOK_REQUEST_TIMEOUT": "webhook_timeout",
}


def server(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address the server binds to.")] = None,
    port: Annotated[int | None, typer.Option(help="Port the server binds to; 0 picks a free one.")] = None,
    home: Annotated[str | None, typer.Option(help="Folder of the store.")] = None,
    artifact_root: Annotated[
        str | None, typer.Option(help="Where new experiments keep artifacts; by default behind the server.")
    ] = None,
    artifacts_destination: Annotated[
        str | None, typer.Option(help="Folder in which proxied artifacts are plain files too.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token clients must send.")] = None,
) -> None:
    """Run the tracking server that MLflow clients and the console talk to."""
    from mainspring.api import run_server
    from mainspring.lineage import open_store
    from mainspring.tracking import root_location

    flags = {
        "host": host, "port": port, "home": _absolute(home), "artifact_root": artifact_root,
        "artifacts_destination": _absolute(artifacts_destination), "token": _read_token(token_file),
        **_mlflow_flags(),
    }  # fmt: skip
    settings, project = _with_flags(options_of(context), flags).load()
    root_location(settings.values.artifact_root)
    _check_destination(settings.values.artifacts_destination)
    store = open_store(settings, project)
    stop = _start_webhooks(store)
    try:
        with absorbing_spools(store):
            run_server(store, extra_routes=partial(_extra_routes, store))
    finally:
        stop.set()
        store.close()


def _extra_routes(store: Store) -> list[BaseRoute]:
    """Return the routes beside the API: those of MLflow's own pages, the console, and perhaps the test-only one."""
    from mainspring.api.mlflow import browser_routes
    from mainspring.api.reset import reset_route
    from mainspring.console import routes

    resets = [reset_route(store)] if os.environ.get(RESET_VARIABLE) == "1" else []
    return [*resets, *browser_routes(store), *routes(store)]


def _start_webhooks(store: Store) -> Event:
    """Send webhooks until the event is set; what that takes is imported when the first notice is due."""
    stopping = Event()

    def run() -> None:
        from mainspring.registry.webhooks import has_due

        while not stopping.wait(WEBHOOK_SECONDS):
            try:
                with store.database.session() as session:
                    is_due = has_due(session, store.clock.now_ms())
                if is_due:
                    from mainspring.registry.webhooks import Deliverer

                    Deliverer(store, stopping).run()
            except Exception:  # a supervision point: whatever went wrong, the next round tries again
                log.exception("webhooks.round.failed")

    Thread(target=run, name="webhooks", daemon=True).start()
    return stopping


def _check_destination(destination: str) -> None:
    if "://" in destination.removeprefix("file://"):
        raise InvalidInput(
            f"--artifacts-destination {destination[:200]!r} is not supported.",
            hint="Name a local folder, or use --artifact-root to let clients write to an object store.",
        )


def _with_flags(options: Options, flags: dict[str, str | int | None]) -> Options:
    given = {name: value for name, value in flags.items() if value is not None}
    return replace(options, flags={**options.flags, **given})


def _absolute(path: str | None) -> str | None:
    """Return a path on the command line as absolute: it is relative to where the command runs."""
    if path is None or "://" in path:
        return path
    return str(Path(path.removeprefix("file:")).absolute())


def _read_token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The token file {path} cannot be read.", hint="Check the path of --token-file.") from error
    if not token:
        raise InvalidInput(f"The token file {path} is empty.", hint="Write the token into it.")
    return token


def _mlflow_flags() -> dict[str, str | int | None]:
    """Return what MLflow's own variables say, so that its deployments move over as they are."""
    found: dict[str, str | int | None] = {
        name: os.environ[variable] for variable, name in _MLFLOW_VARIABLES.items() if os.environ.get(variable)
    }
    if os.environ.get("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "").lower() in ("true", "1"):
        found["webhook_private"] = "allow"
    return found
