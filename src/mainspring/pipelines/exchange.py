"""What a task is handed and what it hands back: KFP's ExecutorInput and executor output, and the task's folder.

A task works in a folder of its own. It gets verified copies of its input artifacts, never the store's own files,
and what it leaves behind is copied into the store before the task counts as done.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from mainspring.blobs import LocalBlobs, check_digest, get_tree, put_tree
from mainspring.core import InvalidInput
from mainspring.pipelines import ir
from mainspring.pipelines.cache import verify_artifact
from mainspring.pipelines.plan import Interface
from mainspring.pipelines.values import ArtifactValue, Values, fit_parameter

STORED_DIGEST = "mainspring_digest"
"""Metadata key with which a component says that an artifact's bytes are in the store already."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class TaskFolder(msgspec.Struct, frozen=True):
    """The folder one attempt of a task works in."""

    root: Path

    @property
    def log(self) -> Path:
        """The file that takes what the task prints."""
        return self.root / "log.txt"

    @property
    def source(self) -> Path:
        """The component's source text."""
        return self.root / "ephemeral_component.py"

    @property
    def executor_input(self) -> Path:
        """KFP's ExecutorInput."""
        return self.root / "executor_input.json"

    @property
    def outputs(self) -> Path:
        """The task root: output artifacts and the executor's output file live under it."""
        return self.root / "outputs"

    @property
    def executor_output(self) -> Path:
        """Where KFP's executor writes its output."""
        return self.outputs / "executor_output.json"

    def parameter(self, name: str) -> Path:
        """Return the file an output parameter may be written to."""
        return self.root / "output-parameters" / name


def hand_over(folder: TaskFolder, blobs: LocalBlobs, interface: Interface, inputs: Values) -> None:
    """Write the inputs of a task into its folder; raise `Corrupt` when stored bytes are not what was recorded."""
    folder.outputs.mkdir(parents=True)
    (folder.root / "work").mkdir()
    document = {
        "inputs": {
            "parameterValues": inputs.parameters,
            "artifacts": {
                name: {"artifacts": [_input_artifact(folder, blobs, name, value)]}
                for name, value in inputs.artifacts.items()
            },
        },
        "outputs": {
            "parameters": {name: {"outputFile": str(folder.parameter(name))} for name in interface.output_parameters},
            "artifacts": {
                name: {"artifacts": [_output_artifact(folder, name, spec)]}
                for name, spec in interface.output_artifacts.items()
            },
            "outputFile": str(folder.executor_output),
        },
    }
    folder.executor_input.write_bytes(msgspec.json.encode(document))


def take_back(folder: TaskFolder, blobs: LocalBlobs, interface: Interface, owner: str) -> Values:
    """Read what a task produced and store its artifacts; raise `InvalidInput` that names what is missing.

    The artifacts get their ids when they are recorded; ``owner`` goes into their names.
    """
    document: dict[str, Any] = {}
    if folder.executor_output.is_file():
        document = ir.normalise_numbers(msgspec.json.decode(folder.executor_output.read_bytes()))
    written = document.get("parameterValues") or {}
    produced = document.get("artifacts") or {}
    parameters = {}
    for name, parameter in interface.output_parameters.items():
        value = written[name] if name in written else _read_parameter(folder.parameter(name), parameter.type)
        if value is None and parameter.optional:
            continue
        if value is None:
            raise InvalidInput(f"It did not produce its output parameter {name!r}.")
        try:
            parameters[name] = fit_parameter(value, parameter)
        except InvalidInput as error:
            raise InvalidInput(f"Its output parameter {name!r}: {error.message}.") from error
    artifacts = {}
    for name, spec in interface.output_artifacts.items():
        listed = (produced.get(name) or {}).get("artifacts") or [{}]
        stored = _store_artifact(folder, blobs, name, spec, listed[0])
        artifacts[name] = msgspec.structs.replace(stored, name=f"{owner}:{name}")
    return Values(parameters=parameters, artifacts=artifacts)


def _input_artifact(folder: TaskFolder, blobs: LocalBlobs, name: str, value: ArtifactValue) -> dict[str, Any]:
    path = folder.root / "inputs" / name
    if value.kind == "file" and value.digest:
        blobs.copy_to(value.digest, path)
    elif value.kind == "folder" and value.digest:
        path.mkdir(parents=True)
        get_tree(blobs, value.digest, path)
    elif value.kind == "reference":
        verify_artifact(blobs, value)
    return {
        "name": value.name,
        "uri": value.uri if _SCHEME.match(value.uri) else str(path),
        "type": {"schemaTitle": value.type, "schemaVersion": value.schema_version},
        "metadata": value.metadata,
    }


def _output_artifact(folder: TaskFolder, name: str, spec: ir.ArtifactSpec) -> dict[str, Any]:
    schema = spec.artifact_type
    return {
        "name": name,
        "uri": str(folder.outputs / name),
        "type": {"schemaTitle": schema.schema_title, "schemaVersion": schema.schema_version},
        "metadata": {},
    }


def _store_artifact(
    folder: TaskFolder, blobs: LocalBlobs, name: str, spec: ir.ArtifactSpec, produced: dict[str, Any]
) -> ArtifactValue:
    metadata = produced.get("metadata") or {}
    uri = str(produced.get("custom_path") or produced.get("uri") or folder.outputs / name)
    path = folder.root / "work" / uri
    digest, kind = None, "empty"
    if _SCHEME.match(uri):
        path = folder.outputs / name
    if path.is_file():
        digest, kind = blobs.put_file(path), "file"
    elif path.is_dir():
        digest, kind = put_tree(blobs, path), "folder"
    elif STORED_DIGEST in metadata:
        digest, kind = str(metadata[STORED_DIGEST]), "reference"
        check_digest(digest)
    return ArtifactValue(
        id="",
        name=name,
        type=spec.artifact_type.schema_title,
        schema_version=spec.artifact_type.schema_version,
        kind=kind,  # type: ignore[arg-type]
        digest=digest,
        uri=uri if _SCHEME.match(uri) else (digest or ""),
        metadata=metadata,
    )


def _read_parameter(path: Path, type: str) -> Any:  # noqa: ANN401 - any JSON value
    if not path.is_file():
        return None
    text = path.read_text()
    if type == "STRING":
        return text
    if type == "BOOLEAN" and text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    try:
        return ir.normalise_numbers(msgspec.json.decode(text))
    except msgspec.DecodeError as error:
        raise InvalidInput(f"Its output parameter {path.name!r} is not JSON: {text[:100]!r}.") from error
