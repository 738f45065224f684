"""Where and how mainspring runs: defaults < ``mainspring.yaml`` < environment < flags.

Each value knows where it came from (``mainspring config show``). Only the command line reads the
environment; everything below it is handed a `Settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.errors import InvalidInput

ENVIRONMENT_PREFIX = "MAINSPRING_"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where state lives, what to bind to, which clock and seed to use."""

    home: str = ".mainspring"
    """Folder of the embedded store; relative to the project folder."""
    database: str = ""
    """Database URL; empty means SQLite in the home folder."""
    host: str = "127.0.0.1"
    """Address the server binds to."""
    port: int = 5000
    """Port the server binds to; 0 picks a free one."""
    clock: str = "system"
    """``system`` or ``simulated:PATH``."""
    seed: int = 0
    """Seed of everything random."""
    actor: str = ""
    """Who is acting, recorded with every execution and event; empty means the login name."""
    token: str = ""
    """Bearer token clients must send; needed to bind to anything but loopback."""
    secrets: str = ""
    """Folder with ``secrets/NAME/KEY`` and ``config-maps/NAME/KEY`` for pipeline steps; empty means the home folder."""
    work_days: int = 14
    """Days to keep the working folders of runs, with their logs; four times as long for failed ones, 0: for ever."""
    artifact_root: str = ""
    """Where new experiments keep artifacts, as ``mlflow server --default-artifact-root``; empty: behind the server."""
    artifacts_destination: str = ""
    """Folder the server also keeps proxied artifacts in as plain files; empty: in its own store only."""
    version_sources: str = ""
    """Regular expression that the source of a new model version must match somewhere; empty: no rule."""
    webhook_schemes: str = "https"
    """Schemes the URLs of webhooks may have, separated by commas."""
    webhook_private: str = ""
    """``allow`` lets webhooks reach private and loopback addresses."""
    webhook_retries: int = 3
    """How often a webhook is tried again after a failure that may pass."""
    webhook_timeout: int = 30
    """Seconds to wait for the answer of a webhook."""


class ResolvedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, where each came from, and the paths that follow from them."""

    values: Settings
    sources: dict[str, str]
    project_folder: Path

    @property
    def home(self) -> Path:
        """The absolute path of the home folder."""
        return (self.project_folder / self.values.home).resolve()

    @property
    def database_url(self) -> str:
        """The URL of the database; the path of a SQLite file is relative to the project folder."""
        given = self.values.database
        relative = given.removeprefix("sqlite:///")
        if given.startswith("sqlite:///") and relative and not relative.startswith(("/", ":")):
            return f"sqlite:///{self.project_folder / relative}"
        return given or f"sqlite:///{self.home / 'mainspring.db'}"

    @property
    def clock_spec(self) -> str:
        """The clock, with the path of a simulated one made absolute."""
        kind, colon, path = self.values.clock.partition(":")
        return f"{kind}:{self.project_folder / path}" if colon else kind

    @property
    def blobs_path(self) -> Path:
        """The folder of content-addressed blobs."""
        return self.home / "blobs"

    @property
    def secrets_folder(self) -> Path:
        """The folder whose ``secrets`` and ``config-maps`` pipeline steps may ask for."""
        return (self.project_folder / self.values.secrets).resolve() if self.values.secrets else self.home

    @property
    def server_url(self) -> str:
        """The address clients on this machine reach the server at."""
        return f"http://{self.values.host}:{self.values.port}"

    def endpoint_folder(self, endpoint: str) -> Path:
        """The folder with an endpoint's deployment file, prediction log and labels."""
        return self.home / "endpoints" / endpoint


def resolve_settings(
    project_folder: Path,
    *,
    file: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> ResolvedSettings:
    """Merge the four sources; raise `InvalidInput` that names the key, the value and its source."""
    merged: dict[str, Any] = {}
    sources = dict.fromkeys(Settings.__struct_fields__, "default")
    variables = {
        key.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for key, value in (environment or {}).items()
        if key.startswith(ENVIRONMENT_PREFIX)
    }
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    for source, values in (("mainspring.yaml", file or {}), ("environment", variables), ("flag", given)):
        for key, value in values.items():
            if key in sources:
                merged[key] = _convert(key, value, source)
                sources[key] = source
            elif source != "environment":
                raise InvalidInput(f"Unknown setting {key!r} in {source}.", hint=f"Known: {', '.join(sources)}.")
    port = merged.get("port", 0)
    if not 0 <= int(port) <= 65535:
        raise InvalidInput(f"Setting port from {sources['port']} is {port}.", hint="Ports go from 0 (any) to 65535.")
    return ResolvedSettings(values=Settings(**merged), sources=sources, project_folder=project_folder.resolve())


def _convert(key: str, value: object, source: str) -> int | str:
    try:
        if Settings.__annotations__[key] == "int":
            return msgspec.convert(value, int, strict=False)
        return msgspec.convert(value, str, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"Setting {key} from {source} is {value!r}: {error}.") from error
