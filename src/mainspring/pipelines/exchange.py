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
from mainspring.core import InvalidInput, Json
from mainspring.pipelines import ir
from mainspring.pipelines.cache import verify_artifact
from mainspring.pipelines.plan import Interface
from mainspring.pipelines.values import ArtifactKind, ArtifactValue, Values, fit_parameter

STORED_DIGEST = "mainspring_digest"
"""Metadata key with which a component says that an artifact's bytes are in the store already."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class ProducedArtifact(msgspec.Struct, frozen=True):
    """What a task says of an artifact it made."""

    uri: str | None = None
    custom_path: str | None = None
    metadata: dict[str, Any] | None = None


class ProducedArtifacts(msgspec.Struct, frozen=True):
    """The artifacts of one output."""

    artifacts: list[ProducedArtifact] | None = None


class ExecutorOutput(msgspec.Struct, frozen=True, rename="camel"):
    """KFP's executor output: what a task says it produced."""

    parameter_values: dict[str, Any] | None = None
    artifacts: dict[str, ProducedArtifacts] | None = None


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


def hand_over(folder: TaskFolder, blobs: LocalBlobs, interface: Interface, inputs: Values) -> dict[str, Any]:
    """Write the inputs of a task into its folder and return KFP's ExecutorInput.

    Raises `Corrupt` when stored bytes are not what was recorded.
    """
    folder.root.parent.mkdir(parents=True, exist_ok=True)
    for made in (folder.root, folder.outputs, folder.root / "work"):
        made.mkdir()
    document = {
        "inputs": {
            "parameterValues": inputs.parameters,
            "artifacts": {
                name: {"artifacts": [_input_artifact(folder, blobs, place, value) for place, value in values]}
                for name, values in _placed(inputs).items()
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
    return document


def take_back(folder: TaskFolder, blobs: LocalBlobs, interface: Interface, owner: str) -> Values:
    """Read what a task produced and store its artifacts; raise `InvalidInput` that names what is missing.

    The artifacts get their ids when they are recorded; ``owner`` goes into their names. Raises DecodeError when the
    executor output is malformed.
    """
    output = ExecutorOutput()
    if folder.executor_output.is_file():
        output = msgspec.json.decode(folder.executor_output.read_bytes(), type=ExecutorOutput)
    written = ir.normalise_numbers(output.parameter_values or {})
    produced = output.artifacts or {}
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
        listed = produced.get(name, ProducedArtifacts()).artifacts or [ProducedArtifact()]
        stored = _store_artifact(folder, blobs, name, spec, listed[0])
        artifacts[name] = msgspec.structs.replace(stored, name=f"{owner}:{name}")
    return Values(parameters=parameters, artifacts=artifacts)


def _placed(inputs: Values) -> dict[str, list[tuple[str, ArtifactValue]]]:
    """Return the artifacts of each input with the name of the file that takes each."""
    single = {name: [(name, value)] for name, value in inputs.artifacts.items()}
    lists = {
        name: [(f"{name}/{index}", value) for index, value in enumerate(values)]
        for name, values in inputs.lists.items()
    }
    return single | lists


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
        "uri": value.uri if _is_elsewhere(value) else str(path),
        "type": {"schemaTitle": value.type, "schemaVersion": value.schema_version},
        "metadata": value.metadata,
    }


def _is_elsewhere(value: ArtifactValue) -> bool:
    """Say whether the artifact's address is one the component has to follow itself."""
    return bool(_SCHEME.match(value.uri)) or (value.kind == "empty" and value.uri.startswith("/"))


def _output_artifact(folder: TaskFolder, name: str, spec: ir.ArtifactSpec) -> dict[str, Any]:
    schema = spec.artifact_type
    return {
        "name": name,
        "uri": str(folder.outputs / name),
        "type": {"schemaTitle": schema.title, "schemaVersion": schema.schema_version},
        "metadata": {},
    }


def store_bytes(blobs: LocalBlobs, path: Path) -> tuple[ArtifactKind, str | None]:
    """Store the file or folder at ``path``; return what it is and its digest (``empty`` when there is nothing)."""
    if path.is_file():
        return "file", blobs.put_file(path)
    if path.is_dir():
        return "folder", put_tree(blobs, path)
    return "empty", None


def _store_artifact(
    folder: TaskFolder, blobs: LocalBlobs, name: str, spec: ir.ArtifactSpec, produced: ProducedArtifact
) -> ArtifactValue:
    """Store what the task left at the address it gave, or at the one it was given."""
    metadata = ir.normalise_numbers(produced.metadata or {})
    default = str(folder.outputs / name)
    uri = produced.uri or default
    place = produced.custom_path or uri
    path = folder.outputs / name if _SCHEME.match(place) else folder.root / "work" / place
    kind, digest = store_bytes(blobs, path)
    if kind == "empty" and STORED_DIGEST in metadata:
        kind, digest = "reference", str(metadata[STORED_DIGEST])
        check_digest(digest)
    is_elsewhere = bool(_SCHEME.match(uri)) or (kind == "empty" and uri != default)
    return ArtifactValue(
        id="",
        name=name,
        type=spec.artifact_type.title,
        schema_version=spec.artifact_type.schema_version,
        kind=kind,
        digest=digest,
        uri=uri if is_elsewhere else (digest or ""),
        metadata=metadata,
    )


def _read_parameter(path: Path, type: str) -> Json:
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
