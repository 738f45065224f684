"""Where this process logs to, as its environment says: the home folder of the spools, the server, the experiment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mainspring.client.spool import SPOOL_FOLDER
from mainspring.core import Clock, InvalidInput, SystemClock, open_clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The answers to: which home, which server, which experiment, which run, with which tags."""

    home: Path
    url: str = ""
    """Server named by the user or the engine; empty: the one that runs for the home folder, whenever one does."""
    token: str = ""
    experiment: str = ""
    experiment_id: str = ""
    run_id: str = ""
    """An existing run to go on with."""
    actor: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)

    @property
    def spools(self) -> Path:
        """The folder of the spools."""
        return self.home / SPOOL_FOLDER

    def find_url(self) -> str:
        """Return the server to send to right now; empty if none is named and none runs for the home folder."""
        return self.url or own_server(self.home)


def find_destination(
    environment: Mapping[str, str], *, url: str = "", home: Path | None = None, token: str = ""
) -> Destination:
    """Read ``MAINSPRING_*`` and MLflow's own variables; what is passed in goes before them."""
    found = home or Path(environment.get("MAINSPRING_HOME") or ".mainspring")
    url = url or environment.get("MAINSPRING_URL") or _http(environment.get("MLFLOW_TRACKING_URI", ""))
    url = "" if _is_same(url, own_server(found)) else url.rstrip("/")
    clock = environment.get("MAINSPRING_CLOCK", "")
    return Destination(
        home=found.absolute(),
        url=url,
        token=token or environment.get("MAINSPRING_TOKEN") or environment.get("MLFLOW_TRACKING_TOKEN", ""),
        experiment=environment.get("MLFLOW_EXPERIMENT_NAME", ""),
        experiment_id=environment.get("MLFLOW_EXPERIMENT_ID", ""),
        run_id=environment.get("MLFLOW_RUN_ID", ""),
        actor=environment.get("MAINSPRING_ACTOR") or environment.get("USER", ""),
        tags=_context(environment.get("MLFLOW_RUN_CONTEXT", "")),
        clock=open_clock(clock) if clock else SystemClock(),
    )


def own_server(home: Path) -> str:
    """Return the address of the server that runs for a home folder; empty if none does."""
    try:
        return str(json.loads((home / "server.json").read_bytes())["url"]).rstrip("/")
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process."""
    return os.environ


def _is_same(url: str, own: str) -> bool:
    """Say whether a URL is that of the home's own server: then a spool belongs to the home, not to an address."""
    return bool(own) and url.rstrip("/").replace("//localhost:", "//127.0.0.1:") == own


def _http(uri: str) -> str:
    """Return MLflow's tracking URI if it is a server's; a database or a folder is not for us."""
    return uri if uri.startswith(("http://", "https://")) else ""


def _context(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            f"MLFLOW_RUN_CONTEXT is not JSON: {text[:100]!r}.", hint="Set it to a JSON object."
        ) from error
    if not isinstance(document, dict):
        raise InvalidInput(f"MLFLOW_RUN_CONTEXT is not an object: {text[:100]!r}.", hint="Set it to a JSON object.")
    return {str(key): str(value) for key, value in document.items() if value}
