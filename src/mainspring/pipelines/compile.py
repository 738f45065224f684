"""From a Python file with a KFP pipeline to compiled IR, by KFP's own compiler in a subprocess, cached."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

import mainspring
from mainspring.blobs import digest_of, digest_of_file
from mainspring.core import InvalidInput, NotFound, Unavailable
from mainspring.pipelines.ir import PipelineSpec, read_pipeline

_SCRIPT = Path(__file__).with_name("kfp_compile.py")


class CompiledPipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled pipeline: KFP's IR, its digest, and what it says."""

    ir: bytes
    digest: str
    spec: PipelineSpec

    @property
    def name(self) -> str:
        """The name the pipeline gives itself."""
        return self.spec.pipeline_info.name


class _Cached(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a compilation: the IR and the digest of every source file it depends on."""

    sources: dict[str, str]
    ir: str


def read_compiled(data: bytes) -> CompiledPipeline:
    """Read IR that was compiled elsewhere; raise `InvalidInput` when it is not a pipeline."""
    return CompiledPipeline(ir=data, digest=digest_of(data), spec=read_pipeline(data))


def compile_pipeline(project_folder: Path, file: str, function: str, cache_folder: Path) -> CompiledPipeline:
    """Compile a pipeline, or return the earlier result if no source file of it has changed.

    An empty ``function`` means the one pipeline the file defines.

    Raises `InvalidInput` with one line when the user's file does not compile.
    """
    path = (project_folder / file).resolve()
    if not path.is_file():
        raise NotFound(
            f"There is no pipeline file {path}.",
            hint="Check the path; a project names it as pipelines.*.file in mainspring.yaml.",
        )
    key = digest_of(msgspec.json.encode([str(path), function, _kfp_version(), sys.version]))
    entry = cache_folder / f"{key.removeprefix('sha256:')}.json"
    cached = _read_cached(entry)
    if cached is None:
        cached = _compile(path, function, project_folder.resolve())
        cache_folder.mkdir(parents=True, exist_ok=True)
        aside = entry.with_suffix(f".{os.getpid()}.part")
        aside.write_bytes(msgspec.json.encode(cached))
        aside.replace(entry)
    return read_compiled(cached.ir.encode())


def _read_cached(entry: Path) -> _Cached | None:
    try:
        cached = msgspec.json.decode(entry.read_bytes(), type=_Cached)
        fresh = all(digest_of_file(Path(source)) == digest for source, digest in cached.sources.items())
    except (OSError, msgspec.MsgspecError):
        return None
    return cached if fresh else None


def _compile(path: Path, function: str, project_folder: Path) -> _Cached:
    package = str(Path(mainspring.__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "pipeline.yaml"
        command = [sys.executable, "-P", str(_SCRIPT), str(path), function, str(output), str(project_folder), package]
        finished = subprocess.run(  # noqa: S603
            command, capture_output=True, stdin=subprocess.DEVNULL, cwd=project_folder, check=False
        )
        answer = _answer(finished)
        if "error" in answer:
            raise InvalidInput(
                f"{path} does not compile: {answer['error']}.", hint="Compile it with kfp to see it all."
            )
        sources = {source: digest_of_file(Path(source)) for source in answer["sources"]}
        return _Cached(sources=sources, ir=output.read_text())


def _answer(finished: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = msgspec.json.decode(finished.stdout.splitlines()[-1])
    except (msgspec.DecodeError, IndexError):
        lines = finished.stderr.decode(errors="replace").strip().splitlines() or [f"status {finished.returncode}"]
        return {"error": lines[-1]}
    return answer


def _kfp_version() -> str:
    try:
        return metadata.version("kfp")
    except metadata.PackageNotFoundError as error:
        raise Unavailable(
            "Compiling pipelines needs kfp, which is not installed.", hint="Run: pip install 'mainspring[pipelines]'"
        ) from error
