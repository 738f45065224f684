"""Models of one folder, loaded and unloaded while the process serves; never from anywhere else."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from mainspring.core import Clock, Conflict, InvalidInput, NotFound, Refused, Unavailable
from mainspring.serving.app import App
from mainspring.serving.deployment import Deployment, ModelReference, Variant, read_deployment, write_deployment
from mainspring.serving.endpoint import Endpoint, EndpointOptions
from mainspring.serving.mlmodel import read_mlmodel, tree_digest
from mainspring.serving.threads import run_in_thread

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_FINISH_SECONDS = 10.0


@dataclass(slots=True)
class _Loaded:
    endpoint: Endpoint
    watching: asyncio.Task[None]


class Repository:
    """Every folder directly inside the repository is a model of that name."""

    def __init__(self, app: App, folder: Path | None, state: Path, clock: Clock, options: EndpointOptions) -> None:
        self._app = app
        self._folder = folder.resolve() if folder is not None else None
        self._state = state
        self._clock = clock
        self._options = options
        self._loaded: dict[str, _Loaded] = {}
        self._busy: set[str] = set()

    async def load(self, name: str) -> None:
        """Load a model, or load it again beside the one that answers; raise what is wrong with it."""
        self._begin(name)
        try:
            if name in self._app.endpoints and name not in self._loaded:
                await self._reload(self._app.endpoints[name])
                return
            deployment = await run_in_thread(lambda: describe_folder(name, self._model_folder(name)))
            known = self._loaded.get(name)
            endpoint = known.endpoint if known else Endpoint(name, self._state / name, self._clock, self._options)
            revision = _revision(endpoint) + 1
            write_deployment(
                endpoint.deployment_path,
                Deployment(endpoint=name, revision=revision, variants=deployment.variants),
            )
            try:
                await self._reload(endpoint)
            except Refused:
                if known is None:
                    endpoint.close()
                raise
            if known is None:
                self._loaded[name] = _Loaded(endpoint, asyncio.create_task(endpoint.watch()))
                self._app.add(endpoint)
        finally:
            self._busy.discard(name)

    async def unload(self, name: str) -> None:
        """Let a model go, once what it was asked is answered."""
        self._begin(name)
        try:
            loaded = self._loaded.get(name)
            if loaded is None and name in self._app.endpoints:
                raise Conflict(f"{name} is what this process is for.", hint="Stop the process instead.")
            if loaded is None:
                raise NotFound(f"Model {name} is not loaded.")
            self._app.remove(name)
            del self._loaded[name]
            await loaded.endpoint.finish(_FINISH_SECONDS)
            loaded.watching.cancel()
            loaded.endpoint.close()
        finally:
            self._busy.discard(name)

    async def reload(self, name: str) -> None:
        """Read an endpoint's deployment file again."""
        endpoint = self._app.endpoints.get(name)
        if endpoint is None:
            raise NotFound("There is no such endpoint here.")
        await self._reload(endpoint)

    def names(self) -> list[str]:
        """Return the models that could be loaded."""
        if self._folder is None:
            return []
        return sorted(path.name for path in self._folder.iterdir() if (path / "MLmodel").is_file())

    async def close(self) -> None:
        """Let every model go."""
        for name in list(self._loaded):
            await self.unload(name)

    async def _reload(self, endpoint: Endpoint) -> None:
        await run_in_thread(endpoint.reload)
        if endpoint.error:
            raise Refused(endpoint.error)

    def _begin(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidInput("This is not a usable name of a model.", hint="Use letters, digits, dot, dash.")
        if name in self._busy:
            raise Unavailable(f"Model {name} is being loaded or unloaded.", hint="Try again when that is done.")
        self._busy.add(name)

    def _model_folder(self, name: str) -> Path:
        if self._folder is None:
            raise Refused("This process has no repository of models.", hint="Start it with --repository DIR.")
        path = (self._folder / name).resolve()
        if path.parent != self._folder or not (path / "MLmodel").is_file():
            raise NotFound(f"There is no model {name} in the repository.")
        return path


def describe_folder(endpoint: str, model: Path) -> Deployment:
    """Return a deployment whose one variant is a model folder; its digest stands for its version."""
    folder = model.resolve()
    read_mlmodel(folder)
    digest = tree_digest(folder)
    version = digest.removeprefix("sha256:")[:12]
    reference = ModelReference(name=endpoint, version=version, digest=digest, folder=str(folder))
    return Deployment(endpoint=endpoint, revision=1, variants=[Variant(name="champion", weight=100, model=reference)])


def _revision(endpoint: Endpoint) -> int:
    return read_deployment(endpoint.deployment_path).revision if endpoint.deployment_path.exists() else 0
